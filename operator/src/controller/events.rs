//! What Kubernetes Events tell: each act with its cause, and each change of a condition. Nothing is told twice
//! about the same state, so a cluster at rest makes no events.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::api::{ConditionType, TabaClusterStatus};

/// Longest note the API server takes, in bytes.
const NOTE_BYTES_MAX: usize = 1024;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// It is bad.
    pub is_warning: bool,
    /// In one word.
    pub reason: String,
    /// What was done.
    pub action: &'static str,
    /// In a sentence.
    pub note: String,
}

impl Told {
    /// Something good, or at least ordinary.
    #[must_use]
    pub fn normal(reason: impl Into<String>, action: &'static str, note: String) -> Self {
        Self { is_warning: false, reason: reason.into(), action, note }
    }

    /// Something bad.
    #[must_use]
    pub fn warning(reason: impl Into<String>, action: &'static str, note: String) -> Self {
        Self { is_warning: true, reason: reason.into(), action, note }
    }

    /// As kube publishes it.
    #[must_use]
    pub fn event(&self) -> Event {
        let mut end = self.note.len().min(NOTE_BYTES_MAX);
        while !self.note.is_char_boundary(end) {
            end -= 1;
        }
        Event {
            type_: if self.is_warning { EventType::Warning } else { EventType::Normal },
            reason: self.reason.clone(),
            note: Some(self.note[..end].to_owned()),
            action: self.action.to_owned(),
            secondary: None,
        }
    }
}

/// What to tell about the change from one status to the next: conditions whose status or reason changed.
#[must_use]
pub fn changes(old: Option<&TabaClusterStatus>, new: &TabaClusterStatus) -> Vec<Told> {
    let old = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let changed = new.conditions.iter().filter(|condition| {
        let before = old.iter().find(|one| one.type_ == condition.type_);
        before.is_none_or(|one| (&one.status, &one.reason) != (&condition.status, &condition.reason))
    });
    changed.filter_map(|condition| tell(condition, old)).collect()
}

fn tell(condition: &Condition, old: &[Condition]) -> Option<Told> {
    let was_true = old.iter().any(|one| one.type_ == condition.type_ && one.status == "True");
    let is_true = condition.status == "True";
    let kind = condition.type_.as_str();
    let note = condition.message.clone();
    let is_available = kind == ConditionType::Available.as_str();
    let is_degraded = kind == ConditionType::Degraded.as_str();
    match (is_available, is_degraded) {
        (true, _) if is_true => Some(Told::normal("Available", "Report", note)),
        // A new cluster is not available, which is nothing to warn of.
        (true, _) if was_true => Some(Told::warning(condition.reason.clone(), "Report", note)),
        (_, true) if is_true => Some(Told::warning(condition.reason.clone(), "Report", note)),
        (_, true) if was_true => Some(Told::normal("Healed", "Report", note)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn status(available: &str, degraded: &str, reason: &str) -> TabaClusterStatus {
        let condition = |type_: &str, status: &str, reason: &str| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: format!("{reason} it is"),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        TabaClusterStatus {
            conditions: vec![
                condition("Available", available, "Serving"),
                condition("Degraded", degraded, reason),
            ],
            ..TabaClusterStatus::default()
        }
    }

    fn reasons(old: Option<&TabaClusterStatus>, new: &TabaClusterStatus) -> Vec<(bool, String)> {
        changes(old, new).into_iter().map(|told| (told.is_warning, told.reason)).collect()
    }

    #[test]
    fn the_same_state_is_told_once() {
        let broken = status("True", "True", "ShardBelowReplicas");
        let well = status("True", "False", "AsWanted");
        assert_eq!(reasons(Some(&well), &broken), [(true, "ShardBelowReplicas".to_owned())]);
        assert_eq!(reasons(Some(&broken), &broken), []);
        assert_eq!(reasons(Some(&broken), &well), [(false, "Healed".to_owned())]);
    }

    #[test]
    fn a_new_cluster_warns_of_nothing_until_it_was_available() {
        let new = status("False", "False", "AsWanted");
        let well = status("True", "False", "AsWanted");
        assert_eq!(reasons(None, &new), []);
        assert_eq!(reasons(Some(&new), &well), [(false, "Available".to_owned())]);
        assert_eq!(reasons(Some(&well), &new), [(true, "Serving".to_owned())]);
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        let told = Told::normal("R", "A", "é".repeat(600));
        assert_eq!(told.event().note.map(|note| note.len()), Some(NOTE_BYTES_MAX));
    }
}
