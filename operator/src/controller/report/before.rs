//! Tells what is missing because someone is at work on it from what is missing by accident.
//!
//! Both look alike while a pod starts. So something that is missing belongs to the work only if the cluster was at
//! work, and nothing was missing by accident, when it was first seen. The last status remembers that, whatever
//! happened to the operator since.

use crate::api::{ConditionType, RoleStatus, TabaClusterStatus};
use crate::controller::world::Servers;

/// The last status.
#[derive(Clone, Copy)]
pub(super) struct Before<'a>(pub(super) Option<&'a TabaClusterStatus>);

impl Before<'_> {
    /// Whether what comes or goes may belong to the work, which is under way `now` or was.
    pub(super) fn expects(self, now: bool) -> bool {
        !self.is(ConditionType::Degraded)
            && (now || !self.is(ConditionType::Available) || self.is(ConditionType::Progressing))
    }

    /// Whether these servers are starting, and not fewer than they were.
    pub(super) fn expects_servers(self, servers: &Servers, now: bool) -> bool {
        let grows = !self.is(ConditionType::Degraded) && servers.ready >= self.ready(&servers.role);
        let all_come = servers.is_young || servers.ready.saturating_add(servers.starting) >= servers.wanted;
        servers.trouble.is_none() && all_come && (grows || self.expects(now))
    }

    fn is(self, kind: ConditionType) -> bool {
        let conditions = self.0.map(|status| status.conditions.as_slice()).unwrap_or_default();
        conditions.iter().any(|one| one.type_ == kind.as_str() && one.status == "True")
    }

    /// How many servers of a role were ready.
    fn ready(self, role: &str) -> i32 {
        let Some(status) = self.0 else { return 0 };
        let role = match role {
            "frontend" => &status.frontend,
            "backend" => &status.backend,
            _ => &status.control,
        };
        let text = role.as_ref().and_then(|role: &RoleStatus| role.ready.as_deref()).unwrap_or_default();
        text.split('/').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}
