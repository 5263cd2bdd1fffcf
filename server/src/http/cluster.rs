//! `/status`, `/servers` and `/latency`: this process in the words of the first Taba.
//!
//! Its queues are our vbuckets, its tasks our queue entries; weights and loads are in thousandths of the
//! whole. Each server speaks for itself, so the tables have one row.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::App;
use super::failure::Failure;
use super::media::{Group, Media};
use crate::pipeline::PipelineStatus;

/// `/status`: what waits, per server.
pub async fn status(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (_, headers) = app.params(request, &[]).await?;
    let status = status_of(&app).await?;
    let weight = 1000.0 * status.vbuckets_owned as f64 / f64::from(app.pipeline.vbuckets().get());
    let row = Row {
        name: &app.server_name,
        weight,
        queues: status.vbuckets_owned,
        tasks: status.entries_waiting,
        age: status.oldest_age,
    };
    let media = Group::Cluster.choose(&headers);
    Ok(answer(media, || row.text(), || row.json(&Latency::of(&app, &status))))
}

/// `/servers`: which roles each server has.
pub async fn servers(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (_, headers) = app.params(request, &[]).await?;
    let (name, roles) = (app.server_name.as_str(), &app.roles);
    let text = || {
        let quoted: Vec<String> = roles.iter().map(|role| format!("'{role}'")).collect();
        format!("{name}: [{}]\n", quoted.join(", "))
    };
    Ok(answer(Group::Cluster.choose(&headers), text, || json!({ name: roles })))
}

/// `/latency`: how long events take to be stored and to be applied.
pub async fn latency(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (_, headers) = app.params(request, &[]).await?;
    let latency = Latency::of(&app, &status_of(&app).await?);
    Ok(answer(Group::Cluster.choose(&headers), || latency.text(), || latency.json()))
}

async fn status_of(app: &App) -> Result<PipelineStatus, Failure> {
    app.pipeline.status(crate::clock::now()).await.map_err(|error| Failure::from_store(&error))
}

fn answer(media: Media, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Response {
    let body = match media {
        Media::Text => text(),
        Media::Json | Media::Detailed => spaced(&json()),
    };
    ([(header::CONTENT_TYPE, media.content_type())], body).into_response()
}

/// JSON on one line with a space after `,` and `:`, as the first Taba wrote it. Members are sorted.
fn spaced(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{}: {}", json!(key), spaced(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        scalar => scalar.to_string(),
    }
}

struct Row<'a> {
    name: &'a str,
    weight: f64,
    queues: usize,
    tasks: u64,
    age: Duration,
}

impl Row<'_> {
    /// Thousandths of all tasks above this server's fair share; with one row, its share is all of them.
    const LOAD: f64 = 0.0;

    fn text(&self) -> String {
        let (age, width) = (self.age.as_secs_f64(), self.name.len());
        format!(
            "Servers: 1\nMax Age: {age:.2} s\nTasks:   {tasks}\n\n{:width$} | R. Ld |  Wgt |  Qs | Tsks |  Age\n\
             {} | {:>+5.0} | {:>4.0} | {:>3} | {tasks:>4} | {age:>5.2}\n",
            "",
            self.name,
            Self::LOAD,
            self.weight,
            self.queues,
            tasks = self.tasks,
        )
    }

    fn json(&self, latency: &Latency) -> Value {
        let age = self.age.as_secs_f64();
        json!({
            "cluster_aggregate": latency.cluster,
            "enqueue_avg": latency.enqueue,
            "max_age": age,
            "processed_avg": latency.processed,
            "servers": {
                self.name: {
                    "age": age,
                    "load": Self::LOAD,
                    "queues": self.queues,
                    "tasks": self.tasks,
                    "weight": self.weight,
                },
            },
            "total_tasks": self.tasks,
        })
    }
}

/// Seconds; the first Taba's names.
struct Latency {
    /// From the head of a post to its acknowledgement.
    enqueue: f64,
    /// From there until it is applied.
    processed: f64,
    /// Both.
    cluster: f64,
}

impl Latency {
    fn of(app: &App, status: &PipelineStatus) -> Self {
        let (enqueue, processed) = (app.metrics.accept_latency.get(), status.applied_latency);
        let cluster = (enqueue + processed).as_secs_f64();
        Self { enqueue: enqueue.as_secs_f64(), processed: processed.as_secs_f64(), cluster }
    }

    fn text(&self) -> String {
        let Self { enqueue, processed, cluster } = self;
        format!("cluster_aggregate: {cluster:?}\nenqueue_avg: {enqueue:?}\nprocessed_avg: {processed:?}\n")
    }

    fn json(&self) -> Value {
        json!({
            "cluster_aggregate": self.cluster,
            "enqueue_avg": self.enqueue,
            "processed_avg": self.processed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_table_is_that_of_the_first_taba() {
        let row = Row {
            name: "taba_server.vm.28301",
            weight: 750.0,
            queues: 10_000,
            tasks: 0,
            age: Duration::ZERO,
        };
        let expected = "Servers: 1\nMax Age: 0.00 s\nTasks:   0\n\n\
                        \x20                    | R. Ld |  Wgt |  Qs | Tsks |  Age\n\
                        taba_server.vm.28301 |    +0 |  750 | 10000 |    0 |  0.00\n";
        assert_eq!(row.text(), expected);
    }

    #[test]
    fn json_has_a_space_after_its_separators() {
        let value = json!({"b": [1, 2], "a": {"c": "x, y"}});
        assert_eq!(spaced(&value), r#"{"a": {"c": "x, y"}, "b": [1, 2]}"#);
    }
}
