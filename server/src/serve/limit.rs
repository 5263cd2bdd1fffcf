//! Raises the limit on open files: each connection takes one, and the usual soft limit is 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Raises the soft limit to the hard one. A refusal costs connections, not correctness, so it is logged.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => debug!(open_files_max = limit.maximum, "limit on open files raised"),
        Err(error) => warn!(%error, open_files_max = limit.current, "limit on open files stays as it is"),
    }
}
