//! `taba record`: posts one event and retries until a server acknowledges it.
//!
//! The event goes as a protocol v1 body of one line under a batch id, so that a retry whose predecessor
//! did arrive counts nothing twice. A server says whether it counted the event; an agent, which has no
//! v2 API, only that it has it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use taba_core::name;
use taba_core::{BatchId, ProducerId, TabType, Timestamp};

use super::ServerArgs;
use super::api::Api;
use super::error::CliError;
use super::output;
use crate::clock;

/// Pauses between attempts: doubled from the first up to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(super) struct RecordArgs {
    /// The tab to record in; it is made by its first event.
    tab: String,
    /// The value: a number for counters and percentiles, any text or JSON for gauges, and a JSON pair
    /// `[value, expiry]` with the expiry in Unix seconds for ExpiryGauge and Buffer.
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// What the tab is: CounterGroup, PercentileGroup, Gauge, ExpiryGauge, Buffer, TotalsCounter or
    /// PercentileCounter. Fixed by its first event.
    #[arg(long = "type", value_name = "TYPE", default_value = "CounterGroup", value_parser = tab_type)]
    tab_type: TabType,
    /// Who records it [default: this machine's name].
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// When it happened, in Unix seconds, fractions allowed [default: now].
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    time: Option<f64>,
    /// How long to retry before giving up.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
    give_up_after: Duration,
    /// Print what was acknowledged as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

fn tab_type(name: &str) -> Result<TabType, String> {
    TabType::parse(name.as_bytes()).ok_or_else(|| "no such type; see --help for those there are".to_owned())
}

/// One event, checked as a server would.
struct Recording {
    tab: String,
    client: String,
    tab_type: TabType,
    time: Timestamp,
    payload: Value,
    batch: BatchId,
}

pub(super) fn run(args: &RecordArgs) -> Result<(), CliError> {
    let recording = Recording::new(args)?;
    let api = Api::new(&args.server.server);
    post_until_acknowledged(&api, &recording, args.give_up_after)?;
    if args.json {
        return output::print_json(&recording.to_json());
    }
    output::print_line(&recording.to_string())
}

impl Recording {
    fn new(args: &RecordArgs) -> Result<Self, CliError> {
        let named = |what: &str, name: &str| match name::check(name.as_bytes()) {
            Ok(name) => Ok(name.to_owned()),
            Err(error) => Err(CliError::Argument(format!("{what} {name:?}: {error}"))),
        };
        let client = match &args.client {
            Some(client) => named("client", client)?,
            None => name::sanitize(&rustix::system::uname().nodename().to_string_lossy()),
        };
        let time = args.time.map_or_else(|| Some(clock::now()), Timestamp::from_secs_f64);
        let time = time.ok_or_else(|| CliError::Argument("--time is not a time".to_owned()))?;
        Ok(Self {
            tab: named("tab", &args.tab)?,
            batch: new_batch(&client),
            client,
            tab_type: args.tab_type,
            time,
            payload: payload(args.tab_type, &args.value)?,
        })
    }

    /// The event as a protocol v1 body: version, client, tab, one line, and the blanks that end each.
    fn body(&self) -> String {
        let Self { client, tab, .. } = self;
        let line = json!([self.tab_type.as_str(), self.time.as_secs_f64(), self.payload.to_string()]);
        format!("1\n\n{client}\n\n{tab}\n{line}\n\n\n")
    }

    fn to_json(&self) -> Value {
        json!({
            "tab": self.tab,
            "client": self.client,
            "type": self.tab_type.as_str(),
            "time": self.time.as_secs_f64(),
            "value": self.payload,
            "batch": self.batch.to_string(),
        })
    }
}

impl std::fmt::Display for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tab, client, payload, .. } = self;
        let (tab_type, time) = (self.tab_type.as_str(), self.time.as_secs_f64());
        write!(f, "acknowledged: {tab_type} {tab} {payload} at {time} from {client}")
    }
}

/// The value as the JSON the type takes. What a server would count as a bad event is refused here,
/// because its answer would be the same 200.
fn payload(tab_type: TabType, text: &str) -> Result<Value, CliError> {
    let json = serde_json::from_str::<Value>(text).ok();
    let pair = |value: &Value| value.as_array().is_some_and(|pair| pair.len() == 2 && pair[1].is_number());
    let expected = match (tab_type, json) {
        (TabType::Gauge, json) => return Ok(json.unwrap_or_else(|| Value::from(text))),
        (TabType::ExpiryGauge | TabType::Buffer, Some(value)) if pair(&value) => return Ok(value),
        (TabType::ExpiryGauge | TabType::Buffer, _) => {
            "a JSON pair of a value and an expiry in Unix seconds, such as '[\"v1.2\", 1999999999]'"
        }
        (_, Some(value)) if value.is_number() => return Ok(value),
        _ => "a number",
    };
    Err(CliError::Argument(format!("value {text:?}: a {} takes {expected}", tab_type.as_str())))
}

/// Each run of the program is a producer of its own with one batch.
fn new_batch(client: &str) -> BatchId {
    let start = format!(":{:016x}", rand::rng().next_u64());
    let room = name::NAME_BYTES_MAX - start.len();
    let client = &client[..client.len().min(room)];
    let producer =
        ProducerId::new(&format!("{client}{start}")).expect("a name with hex digits behind it is one");
    BatchId { producer, sequence: 1 }
}

fn post_until_acknowledged(api: &Api, recording: &Recording, limit: Duration) -> Result<(), CliError> {
    let started = Instant::now();
    let (mut attempts, mut pause, mut reached) = (1, PAUSE_MIN, false);
    loop {
        let error = match post(api, recording) {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_passing() => return Err(error),
            Err(error) => error,
        };
        reached |= !matches!(error, CliError::Connect { .. });
        if started.elapsed() + pause > limit {
            let unknown = |error| CliError::NotAcknowledged { attempts, source: Box::new(error) };
            return Err(if reached { unknown(error) } else { error });
        }
        if attempts == 1 {
            output::note(&format!("{error}; retrying for {} s", limit.as_secs_f64()));
        }
        thread::sleep(pause);
        attempts += 1;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn post(api: &Api, recording: &Recording) -> Result<(), CliError> {
    let (batch, body) = (recording.batch.to_string(), recording.body());
    match api.post("/v2/batch", &batch, body.as_bytes()) {
        Ok(answer) => counted(&answer.parse()?),
        // An agent, or a server of the first Taba.
        Err(CliError::Status { status: 404 | 405, .. }) => {
            api.post("/post", &batch, body.as_bytes()).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// What a server made of a batch.
#[derive(Deserialize)]
struct BatchAnswer {
    bad: BTreeMap<String, u64>,
}

/// Stored is not always counted: the event may not fit what is known of its tab.
fn counted(answer: &BatchAnswer) -> Result<(), CliError> {
    let reasons: Vec<&str> = answer.bad.keys().map(String::as_str).collect();
    if reasons.is_empty() { Ok(()) } else { Err(CliError::NotCounted { reasons: reasons.join(", ") }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_form_their_type_needs() {
        assert_eq!(payload(TabType::CounterGroup, "-2.5").expect("a number"), json!(-2.5));
        assert_eq!(payload(TabType::Gauge, "v1.2 beta").expect("text"), json!("v1.2 beta"));
        assert_eq!(payload(TabType::Gauge, "{\"a\": 1}").expect("JSON"), json!({"a": 1}));
        assert_eq!(payload(TabType::Buffer, "[\"x\", 5]").expect("a pair"), json!(["x", 5]));
        for (tab_type, bad) in [
            (TabType::CounterGroup, "many"),
            (TabType::PercentileGroup, "\"5\""),
            (TabType::Buffer, "x"),
            (TabType::ExpiryGauge, "[1]"),
        ] {
            assert!(payload(tab_type, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn batch_ids_of_long_clients_are_valid_names_still() {
        let batch = new_batch(&"c".repeat(name::NAME_BYTES_MAX));
        assert_eq!(batch.producer.as_str().len(), name::NAME_BYTES_MAX);
        assert_ne!(batch, new_batch(&"c".repeat(name::NAME_BYTES_MAX)));
    }
}
