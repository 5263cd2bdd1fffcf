//! Bodies as the first Taba's Python client writes them, from a fixed seed.

use std::fmt::Write as _;

/// The second in which the traffic starts.
pub const START_SECS: i64 = 1_394_047_812;
/// Tabs in a body.
pub const TABS: usize = 1000;
/// Events of each tab.
pub const EVENTS_PER_TAB: usize = 50;
/// Events in a body.
pub const EVENTS: usize = TABS * EVENTS_PER_TAB;

/// A small generator of numbers that are the same in every run (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    /// A value of one to five digits before the point, with up to two decimals, as it is printed.
    pub fn value(&mut self) -> String {
        let digits = 1 + self.below(5) as u32;
        let whole = self.below(10_u64.pow(digits));
        match self.below(3) {
            0 => whole.to_string(),
            1 => format!("{whole}.{}", 1 + self.below(9)),
            _ => format!("{whole}.{}{}", self.below(10), 1 + self.below(9)),
        }
    }
}

/// One client's flush: [`TABS`] tabs of type `tab_type` with [`EVENTS_PER_TAB`] events each, within two
/// seconds.
#[must_use]
pub fn body(tab_type: &str) -> Vec<u8> {
    let mut random = Random::new(7);
    let mut out = String::from("1\n\nweb-frontend-17.example.net\n\n");
    for tab in 0..TABS {
        let _ = writeln!(out, "shop.checkout.stage{}.requests_{tab:04}", tab % 7);
        let mut centis = random.below(60);
        for _ in 0..EVENTS_PER_TAB {
            let time = printed_time(centis);
            let value = random.value();
            let _ = writeln!(out, r#"["{tab_type}", {time}, "{value}"]"#);
            centis += random.below(6);
        }
        out.push('\n');
    }
    out.push('\n');
    out.into_bytes()
}

/// A time as Python prints it with 12 digits: no zeros at the end, but one decimal at least.
fn printed_time(centis: u64) -> String {
    let secs = START_SECS as u64 + centis / 100;
    match centis % 100 {
        centis if centis % 10 == 0 => format!("{secs}.{}", centis / 10),
        centis => format!("{secs}.{centis:02}"),
    }
}
