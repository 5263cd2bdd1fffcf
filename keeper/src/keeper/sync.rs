//! Syncing the append-only file once a second, in place of Redis, which would put off writes meanwhile.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Keeper;

/// Time between two syncs: how much a loss of power costs where all copies lose it at once.
const PAUSE: Duration = Duration::from_secs(1);

impl Keeper {
    pub(super) async fn sync_forever(self: Arc<Self>) {
        let folder = self.config.data.join("redis/appendonlydir");
        loop {
            sleep(PAUSE).await;
            let folder = folder.clone();
            let synced = tokio::task::spawn_blocking(move || sync_increments(&folder)).await;
            if let Ok(Err(error)) = synced {
                tracing::warn!(%error, "the append-only file was not synced");
            }
        }
    }
}

/// Syncs the files that Redis appends to; it syncs the others itself.
fn sync_increments(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if !path.to_string_lossy().ends_with(".incr.aof") {
            continue;
        }
        match File::open(&path).and_then(|file| file.sync_data()) {
            // A rewrite has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            synced => synced?,
        }
    }
    Ok(())
}
