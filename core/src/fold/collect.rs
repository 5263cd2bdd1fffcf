//! Takes event lines from the walker, judges each, and folds the good ones into the block's states.

use super::bundle::{Bundle, Slot};
use super::{BadSample, FoldError, FoldLimits, Folded};
use crate::bad::{BadCounts, BadReason};
use crate::part::Parts;
use crate::state::{Event, Payload, TabType};
use crate::time::Timestamp;
use crate::vbucket::VbucketCount;
use crate::wire::v1::event::{self, EventLine};
use crate::wire::v1::fast::{self, Shape};
use crate::wire::v1::{Line, Sink, json};

/// Bad events kept as samples per body, and bytes kept of each: 8 × 120 bytes, at most four times that
/// once made printable.
const SAMPLES_MAX: usize = 8;
const SAMPLE_BYTES_MAX: usize = 120;

/// The shape that the last plain number came in.
struct Learnt {
    shape: Shape,
    slot: Slot,
}

pub(super) struct Collector {
    /// The latest time an event may have.
    horizon: Timestamp,
    /// Every time within a second before this one is before `horizon`.
    horizon_secs: i64,
    parts_bytes_max: usize,
    parts: Parts,
    bundle: Bundle,
    /// Whether lines are allowed to be as long as the quick way may read.
    may_learn: bool,
    learnt: Option<Learnt>,
    /// Events so far that were no plain numbers, whose order does not matter. Saturates, which only blurs
    /// the order of gauges of one time.
    ordinal: u32,
    events: u64,
    bad: BadCounts,
    bad_samples: Vec<BadSample>,
    payload: String,
    strict: String,
}

impl Collector {
    pub(super) fn new(vbuckets: VbucketCount, limits: &FoldLimits, now: Timestamp) -> Self {
        let tolerance_micros = i64::try_from(limits.future_tolerance.as_micros()).unwrap_or(i64::MAX);
        let horizon = Timestamp::from_micros(now.as_micros().saturating_add(tolerance_micros));
        Self {
            horizon,
            horizon_secs: horizon.as_secs(),
            parts_bytes_max: limits.parts_bytes_max,
            parts: Parts::new(vbuckets),
            bundle: Bundle::new(now),
            may_learn: limits.line_bytes_max >= fast::LINE_BYTES_MAX,
            learnt: None,
            ordinal: 0,
            events: 0,
            bad: BadCounts::default(),
            bad_samples: Vec::new(),
            payload: String::new(),
            strict: String::new(),
        }
    }

    pub(super) fn into_folded(self) -> Folded {
        Folded { parts: self.parts, events: self.events, bad: self.bad, bad_samples: self.bad_samples }
    }

    fn fold(&mut self, line: &[u8]) -> Result<(), BadReason> {
        let event = EventLine::parse(line).ok_or(BadReason::BadJson)?;
        let tab_type = event.type_name(&mut self.payload).and_then(|name| TabType::parse(name.as_bytes()));
        let tab_type = tab_type.ok_or(BadReason::UnknownType)?;
        let time = event.time()?;
        if time > self.horizon {
            return Err(BadReason::Future);
        }
        let payload = event.payload(&mut self.payload)?;
        if tab_type.takes_numbers()
            && let Some(value) = event::plain_number(payload)?
        {
            let slot = self.bundle.slot(tab_type);
            self.bundle.number(slot, time.as_secs(), value);
            // In the last second the fraction decides, which the quick way does not look at.
            if time.as_secs() < self.horizon_secs {
                self.learn(line, &event, slot);
            }
            return Ok(());
        }
        json::to_strict(payload, &mut self.strict)?;
        let slot = self.bundle.slot(tab_type);
        let payload = Payload::Json(&self.strict);
        self.ordinal = self.ordinal.saturating_add(1);
        self.bundle.event(slot, &Event { time, ordinal: self.ordinal, payload })
    }

    fn learn(&mut self, line: &[u8], event: &EventLine<'_>, slot: Slot) {
        if self.may_learn
            && let Some(shape) = Shape::learn(line, event)
        {
            self.learnt = Some(Learnt { shape, slot });
        }
    }
}

impl Sink for Collector {
    type Error = FoldError;

    fn tab(&mut self, client: &str, tab: &str) -> Result<(), FoldError> {
        self.bundle.begin(client, tab);
        Ok(())
    }

    #[inline]
    fn events(&mut self, bytes: &[u8]) -> usize {
        let Some(learnt) = &mut self.learnt else { return 0 };
        let mut taken = 0;
        self.bundle.numbers(learnt.slot, |secs, values| {
            let (bytes, lines) = learnt.shape.read(&bytes[taken..], self.horizon_secs, secs, values);
            taken += bytes;
            lines
        });
        taken
    }

    fn event(&mut self, line: Line<'_>) -> Result<(), FoldError> {
        if let Err(reason) = self.fold(line.bytes) {
            self.bad(reason, line);
        }
        Ok(())
    }

    #[cold]
    fn bad(&mut self, reason: BadReason, line: Line<'_>) {
        self.bad.add(reason, 1);
        if self.bad_samples.len() < SAMPLES_MAX {
            let line_start = printable(&line.bytes[..line.bytes.len().min(SAMPLE_BYTES_MAX)]);
            self.bad_samples.push(BadSample { reason, offset: line.offset, line: line_start });
        }
    }

    fn tab_end(&mut self) -> Result<(), FoldError> {
        self.events += self.bundle.push_parts(&mut self.parts);
        if self.parts.bytes() > self.parts_bytes_max {
            return Err(FoldError::TooLarge { max: self.parts_bytes_max });
        }
        Ok(())
    }
}

/// Text that is safe in a log line: printable ASCII as it is, other bytes as `\xNN`.
fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'~' => out.push(char::from(*byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out
}
