//! The checker: every tab's totals must equal what was acknowledged, to the event.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::producer::{Ledger, Total, count};

/// How long the last acknowledged events may take to be visible.
const CONVERGENCE: Duration = Duration::from_secs(30);

/// Waits until a server shows at least what the ledger holds, then compares: equal, or an error that
/// names the tabs that differ.
///
/// # Errors
/// If totals differ, or the server does not answer.
pub fn check(base_url: &str, ledger: &Ledger) -> Result<()> {
    let deadline = Instant::now() + CONVERGENCE;
    let expected = count(ledger);
    let shown = loop {
        let shown = read_totals(&format!("{base_url}/tabs"))?;
        if count(&shown) >= expected || Instant::now() > deadline {
            break shown;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    compare(ledger, &shown)?;
    let per_client = read_totals(&format!("{base_url}/tabs?re=1&client=."))?;
    compare(ledger, &per_client).context("merged from the clients' states")
}

fn compare(ledger: &Ledger, shown: &Ledger) -> Result<()> {
    let mut differences = Vec::new();
    for tab in ledger.keys().chain(shown.keys()) {
        let (want, have) = (ledger.get(tab), shown.get(tab));
        if want != have {
            differences.push(format!("{tab}: acknowledged {want:?}, shown {have:?}"));
        }
    }
    differences.sort();
    differences.dedup();
    if differences.is_empty() {
        return Ok(());
    }
    bail!("{} tabs differ:\n{}", differences.len(), differences.join("\n"))
}

/// Reads count and sum of the last day of every CounterGroup a query shows.
fn read_totals(url: &str) -> Result<Ledger> {
    let answer = ureq::get(url).header("Accept", "application/json").call().context("query the totals")?;
    if let Some(missing) = answer.headers().get("Taba-Incomplete") {
        bail!("the answer is incomplete: {missing:?}");
    }
    let text =
        answer.into_body().into_with_config().limit(1 << 30).read_to_string().context("read the totals")?;
    totals(&text)
}

/// Count and sum of the last day of every CounterGroup in an answer.
///
/// # Errors
/// If the answer has another form.
pub fn totals(text: &str) -> Result<Ledger> {
    let tabs: serde_json::Map<String, Value> = serde_json::from_str(text).context("parse the totals")?;
    tabs.into_iter().map(|(tab, shown)| Ok((tab, day_total(&shown)?))).collect()
}

fn day_total(shown: &Value) -> Result<Total> {
    let day = shown.get("1d").context("a CounterGroup shows its day")?;
    let count = day.get("count").and_then(Value::as_u64).context("a day shows its count")?;
    let sum = day.get("total").and_then(Value::as_f64).context("a day shows its total")?;
    Ok(Total { count, sum: sum as u64 })
}
