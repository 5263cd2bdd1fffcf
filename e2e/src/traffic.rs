//! Bodies as the first Taba's Python client writes them, from a fixed seed.

use std::fmt::Write as _;
use std::ops::Range;

use crate::rng::Rng;

/// The second in which the traffic of the core's figures starts.
pub const START_SECS: i64 = 1_394_047_812;
/// Tabs in a body.
pub const TABS: usize = 1000;
/// Events of each tab.
pub const EVENTS_PER_TAB: usize = 50;
/// Events in a body.
pub const EVENTS: usize = TABS * EVENTS_PER_TAB;

/// The body that the core's figures are quoted for: one client's flush of [`TABS`] tabs of type
/// `tab_type` with [`EVENTS_PER_TAB`] events each, within two seconds.
#[must_use]
pub fn body(tab_type: &str) -> Vec<u8> {
    let client = "web-frontend-17.example.net";
    client_body(client, tab_type, 0..TABS, EVENTS_PER_TAB, START_SECS as u64, &mut Rng::new(7))
}

/// One client's flush of events within two seconds from `start_secs`.
#[must_use]
pub fn client_body(
    client: &str,
    tab_type: &str,
    tabs: Range<usize>,
    events_per_tab: usize,
    start_secs: u64,
    rng: &mut Rng,
) -> Vec<u8> {
    let mut out = format!("1\n\n{client}\n\n");
    for tab in tabs {
        let _ = writeln!(out, "{}", tab_name(tab));
        let mut centis = rng.below(60);
        for _ in 0..events_per_tab {
            let time = printed_time(start_secs, centis);
            let value = printed_value(rng);
            let _ = writeln!(out, r#"["{tab_type}", {time}, "{value}"]"#);
            // Two seconds hold a tab's events, however many there are.
            centis = (centis + rng.below(6)).min(199);
        }
        out.push('\n');
    }
    out.push('\n');
    out.into_bytes()
}

/// The name of a numbered tab.
#[must_use]
pub fn tab_name(tab: usize) -> String {
    format!("shop.checkout.stage{}.requests_{tab:04}", tab % 7)
}

/// A value of one to five digits before the point, with up to two decimals, as it is printed.
#[must_use]
pub fn printed_value(rng: &mut Rng) -> String {
    let digits = 1 + rng.below(5) as u32;
    let whole = rng.below(10_u64.pow(digits));
    match rng.below(3) {
        0 => whole.to_string(),
        1 => format!("{whole}.{}", 1 + rng.below(9)),
        _ => format!("{whole}.{}{}", rng.below(10), 1 + rng.below(9)),
    }
}

/// A time as Python prints it with 12 digits: no zeros at the end, but one decimal at least.
fn printed_time(start_secs: u64, centis: u64) -> String {
    let secs = start_secs + centis / 100;
    match centis % 100 {
        centis if centis % 10 == 0 => format!("{secs}.{}", centis / 10),
        centis => format!("{secs}.{centis:02}"),
    }
}
