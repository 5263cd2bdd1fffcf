//! Why an event was not counted. One bad event is one bad event: it is counted here by reason and its
//! neighbours are kept.

/// Why one event was not counted. The text form is a metric label and part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum BadReason {
    /// The event line is not a JSON array of at least three elements.
    BadJson,
    /// The payload does not fit the tab's type.
    BadPayload,
    /// The timestamp is not a number or does not fit.
    BadTime,
    /// The timestamp is further in the future than the tolerance.
    Future,
    /// A time or value is NaN or infinite.
    Nan,
    /// The tab already has another type.
    TypeMismatch,
    /// The type is not one this server knows.
    UnknownType,
    /// The Tab Name or Client ID breaks the rules of [`crate::name`].
    BadName,
    /// The line is longer than the limit.
    LineTooLong,
    /// A limit on tabs or clients was reached.
    LimitReached,
}

impl BadReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::BadJson,
        Self::BadPayload,
        Self::BadTime,
        Self::Future,
        Self::Nan,
        Self::TypeMismatch,
        Self::UnknownType,
        Self::BadName,
        Self::LineTooLong,
        Self::LimitReached,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadPayload => "bad_payload",
            Self::BadTime => "bad_time",
            Self::Future => "future",
            Self::Nan => "nan",
            Self::TypeMismatch => "type_mismatch",
            Self::UnknownType => "unknown_type",
            Self::BadName => "bad_name",
            Self::LineTooLong => "line_too_long",
            Self::LimitReached => "limit_reached",
        }
    }
}

/// How many events were not counted, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BadCounts([u64; BadReason::ALL.len()]);

impl BadCounts {
    /// Adds `events` to a reason.
    pub fn add(&mut self, reason: BadReason, events: u64) {
        self.0[reason as usize] += events;
    }

    /// Adds all of another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// The count of one reason.
    #[must_use]
    pub fn get(&self, reason: BadReason) -> u64 {
        self.0[reason as usize]
    }

    /// All bad events together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (BadReason, u64)> + '_ {
        BadReason::ALL.into_iter().map(|reason| (reason, self.get(reason))).filter(|(_, events)| *events > 0)
    }
}
