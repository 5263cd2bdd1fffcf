//! Watching the keepers: what each says of itself, asked all the time, and what must never be seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cluster::Cluster;
use super::keeper::{self, State};
use super::timeline::Timeline;

const PERIOD: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_millis(1000);

/// What the keepers say.
#[derive(Debug)]
pub struct Watch {
    timeline: Arc<Timeline>,
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    /// The last answer of each member, by shard and member; none while it does not answer.
    states: BTreeMap<(usize, usize), Option<State>>,
    /// Which member was open in a term of a shard.
    opened: BTreeMap<(usize, u64), usize>,
}

impl Watch {
    /// Watches the keepers of a cluster until it is told to stop. The threads end with it.
    #[must_use]
    pub fn start(cluster: &Arc<Cluster>) -> Arc<Self> {
        let timeline = Arc::clone(&cluster.timeline);
        let watch = Arc::new(Self { timeline, seen: Mutex::default(), stop: AtomicBool::new(false) });
        let token = std::fs::read_to_string(cluster.common.token_file()).unwrap_or_default();
        for (at_shard, shard) in cluster.shards.iter().enumerate() {
            for (at, member) in shard.members.iter().enumerate() {
                let address = member.daemon.host().socket(super::host::KEEPER_PORT);
                let client = keeper::Client::new(address, &token, PATIENCE);
                let (watch, name) = (Arc::clone(&watch), member.daemon.name().to_owned());
                std::thread::spawn(move || {
                    while !watch.stop.load(Ordering::Relaxed) {
                        watch.saw((at_shard, at), &name, client.state().ok());
                        std::thread::sleep(PERIOD);
                    }
                });
            }
        }
        watch
    }

    /// Ends the watching.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn saw(&self, place: (usize, usize), name: &str, state: Option<State>) {
        let mut seen = self.seen.lock().expect("no holder of this lock panics");
        let before = seen.states.insert(place, state.clone()).flatten();
        let changed = |of: &Option<State>| {
            of.as_ref().map(|state| {
                (state.open, state.term, state.role.clone(), state.in_sync.clone(), state.waiting_for.clone())
            })
        };
        if changed(&before) != changed(&state) {
            self.timeline.note(match &state {
                None => format!("{name} does not answer"),
                Some(state) => format!(
                    "{name}: {}{} term {} in sync {:?}{}{}",
                    state.role,
                    if state.open { " OPEN" } else { "" },
                    state.term,
                    state.in_sync,
                    if state.waiting_for.is_empty() { "" } else { ", waiting for " },
                    state.waiting_for,
                ),
            });
        }
        let Some(state) = state.filter(|state| state.open) else { return };
        let first = *seen.opened.entry((place.0, state.term)).or_insert(place.1);
        if first != place.1 {
            self.timeline.violation(format!(
                "two members of shard {} were open in term {}: number {first} and {name}",
                place.0, state.term
            ));
        }
    }

    /// The open member of a shard with the highest term, if one says so.
    #[must_use]
    pub fn primary(&self, shard: usize) -> Option<usize> {
        let seen = self.seen.lock().expect("no holder of this lock panics");
        let open = Self::states(&seen, shard).filter(|(_, state)| state.open);
        open.max_by_key(|(_, state)| state.term).map(|(at, _)| at)
    }

    /// What the members of a shard say, if all answer.
    #[must_use]
    pub fn shard(&self, shard: usize) -> Option<Vec<State>> {
        let seen = self.seen.lock().expect("no holder of this lock panics");
        seen.states.iter().filter(|((of, _), _)| *of == shard).map(|(_, state)| state.clone()).collect()
    }

    /// What one member said last, if it answers.
    #[must_use]
    pub fn member(&self, shard: usize, at: usize) -> Option<State> {
        let seen = self.seen.lock().expect("no holder of this lock panics");
        seen.states.get(&(shard, at)).cloned().flatten()
    }

    /// The highest term in which a member of the shard was open.
    #[must_use]
    pub fn highest_term(&self, shard: usize) -> u64 {
        let seen = self.seen.lock().expect("no holder of this lock panics");
        seen.opened.keys().filter(|(of, _)| *of == shard).map(|(_, term)| *term).max().unwrap_or(0)
    }

    fn states(seen: &Seen, shard: usize) -> impl Iterator<Item = (usize, &State)> {
        seen.states
            .iter()
            .filter(move |((of, _), _)| *of == shard)
            .filter_map(|((_, at), state)| state.as_ref().map(|state| (*at, state)))
    }
}
