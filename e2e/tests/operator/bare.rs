//! The smallest cluster there is, from one object to an answered query.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use taba_e2e::rng::Rng;
use taba_e2e::{checker, producer, traffic};

use crate::bed::Stage;
use crate::client::Client;
use crate::kubectl::{kubectl, until};
use crate::taba::{REDIS_IMAGE, Taba};

const TABS: usize = 3;
const EVENTS: usize = 5;

/// A name is enough; only the image of Redis is another than the default's, which no node here could fetch.
pub fn a_bare_cluster_serves_the_first_tabas_body(stage: &mut Stage) -> Result<()> {
    let taba = Taba::create(stage.namespace(), "main", &json!({"redis": {"image": REDIS_IMAGE}}))?;
    let available = taba.available()?;
    stage.note(format!("Available {:.0} s after it was made (goal: 60 s)", available.as_secs_f64()));
    let settled = taba.settled()?;
    stage.note(format!("all as the spec says {:.0} s later", settled.as_secs_f64()));

    let client = Client::start(stage.namespace())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("after 1970")?.as_secs();
    let body = traffic::client_body("web-17", "CounterGroup", 0..TABS, EVENTS, now - 2, &mut Rng::new(1));
    let url = taba.url();
    let post = format!("cat >/tmp/body && wget -q -O - --post-file=/tmp/body {url}/post");
    client.run(&post, &String::from_utf8(body)?)?;
    let tabs = format!("wget -q -O - --header 'Accept: application/json' {url}/tabs");
    until("/tabs shows the events", Duration::from_secs(30), || {
        let shown = checker::totals(&client.run(&tabs, "")?)?;
        let (tabs, events) = (shown.len(), producer::count(&shown));
        ensure!((tabs, events) == (TABS, (TABS * EVENTS) as u64), "{tabs} tabs with {events} events");
        Ok(())
    })?;
    let columns = kubectl(&["get", "taba", "--namespace", stage.namespace()])?;
    let line = columns.lines().last().unwrap_or_default();
    ensure!(
        line.contains("True") && line.contains("2/2"),
        "the columns do not say that it is well:\n{columns}"
    );
    Ok(())
}
