//! A load generator: v1 bodies over several keep-alive connections, each body posted under a batch id
//! and counted only once it is acknowledged. Runs as a process of its own, so that benchmarks measure a
//! sender and a server that share nothing but the machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::rng::Rng;
use crate::traffic;

/// Shape of the bodies: how many tabs, and events of each.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Tabs in one body.
    pub tabs: u64,
    /// Events of each tab in one body.
    pub events_per_tab: u64,
    /// How many disjoint sets of tabs the connections spread over in turn.
    pub tab_sets: u64,
}

impl Shape {
    /// The shape that throughput is quoted for: 1,000 tabs of 50 events.
    pub const FULL: Self = Self { tabs: 1000, events_per_tab: 50, tab_sets: 1 };

    /// Events in one body.
    #[must_use]
    pub fn events(self) -> u64 {
        self.tabs * self.events_per_tab
    }
}

/// A CounterGroup body of the numbered set of tabs, its times in the seconds before now.
#[must_use]
pub fn body(client: &str, tab_set: u64, shape: Shape, rng: &mut Rng) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let first = (tab_set * shape.tabs) as usize;
    let tabs = first..first + shape.tabs as usize;
    traffic::client_body(client, "CounterGroup", tabs, shape.events_per_tab as usize, now - 2, rng)
}

/// What one run of a sender did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Events acknowledged.
    pub events: u64,
    /// Requests refused with 503 and sent again.
    pub refused: u64,
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
}

/// What a sender is to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Connections, each with a client of its own, one request at a time.
    pub connections: u64,
    /// Events per second over all connections; 0 is as fast as it goes.
    pub rate: u64,
    /// How long.
    pub duration: Duration,
    /// What the bodies look like.
    pub shape: Shape,
}

/// Different bodies per connection, sent in turn.
const BODIES: u64 = 2;
const REFUSAL_PAUSE: Duration = Duration::from_millis(20);

impl Plan {
    /// Runs the plan in this process.
    ///
    /// # Errors
    /// If a connection fails or a request is refused for good.
    pub fn run(&self) -> Result<Sent> {
        let senders: Vec<_> = (0..self.connections).map(|number| Sender::new(self, number)).collect();
        let started = Instant::now();
        let sent = std::thread::scope(|scope| {
            let running: Vec<_> =
                senders.into_iter().map(|sender| scope.spawn(move || sender?.run(started))).collect();
            let mut total = Sent::default();
            for sender in running {
                let sent = sender.join().expect("senders do not panic")?;
                total.events += sent.events;
                total.refused += sent.refused;
            }
            anyhow::Ok(total)
        })?;
        Ok(Sent { seconds: started.elapsed().as_secs_f64(), ..sent })
    }

    /// The plan as arguments of a sender process.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<String> {
        let Shape { tabs, events_per_tab, tab_sets } = self.shape;
        let millis = self.duration.as_millis();
        vec![
            "--sender".to_owned(),
            self.address.to_string(),
            format!("{},{},{millis},{tabs},{events_per_tab},{tab_sets}", self.connections, self.rate),
        ]
    }

    /// Reads what [`Plan::to_arguments`] wrote, without its first argument.
    ///
    /// # Errors
    /// If it is something else.
    pub fn from_arguments(address: &str, numbers: &str) -> Result<Self> {
        let numbers: Vec<u64> =
            numbers.split(',').map(str::parse).collect::<Result<_, _>>().context("read the plan")?;
        let [connections, rate, millis, tabs, events_per_tab, tab_sets] = numbers[..] else {
            bail!("six numbers")
        };
        Ok(Self {
            address: address.parse().context("read the address")?,
            connections,
            rate,
            duration: Duration::from_millis(millis),
            shape: Shape { tabs, events_per_tab, tab_sets },
        })
    }
}

struct Sender {
    stream: BufReader<TcpStream>,
    bodies: Vec<Vec<u8>>,
    producer: String,
    events: u64,
    /// Between two requests of this connection.
    interval: Duration,
    duration: Duration,
}

impl Sender {
    fn new(plan: &Plan, number: u64) -> Result<Self> {
        let stream = TcpStream::connect(plan.address).context("connect to the server")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).context("set a timeout")?;
        let mut rng = Rng::new(number);
        let client = format!("client{number}");
        let tab_set = number % plan.shape.tab_sets;
        let bodies = (0..BODIES).map(|_| body(&client, tab_set, plan.shape, &mut rng)).collect();
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let interval = match plan.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64((plan.shape.events() * plan.connections) as f64 / rate as f64),
        };
        Ok(Self {
            stream: BufReader::new(stream),
            bodies,
            producer: format!("{client}:{start:x}"),
            events: plan.shape.events(),
            interval,
            duration: plan.duration,
        })
    }

    fn run(mut self, started: Instant) -> Result<Sent> {
        let mut sent = Sent::default();
        for sequence in 1_u32.. {
            let due = started + self.interval * (sequence - 1);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if started.elapsed() >= self.duration {
                break;
            }
            sent.refused += self.deliver(sequence)?;
            sent.events += self.events;
        }
        Ok(sent)
    }

    /// Posts one body until it is acknowledged; says how often it was refused.
    fn deliver(&mut self, sequence: u32) -> Result<u64> {
        for refused in 0.. {
            match self.post(sequence)? {
                200 => return Ok(refused),
                503 => std::thread::sleep(REFUSAL_PAUSE),
                status => bail!("the server answered {status}"),
            }
        }
        unreachable!("the loop above has no end of its own")
    }

    fn post(&mut self, sequence: u32) -> Result<u16> {
        let body = &self.bodies[sequence as usize % self.bodies.len()];
        let head = format!(
            "POST /post HTTP/1.1\r\nHost: taba\r\nContent-Length: {}\r\nIdempotency-Key: {}/{sequence}\r\n\r\n",
            body.len(),
            self.producer
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).context("send the head")?;
        stream.write_all(body).context("send the body")?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> Result<u16> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("read the status")?;
        let status =
            line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("parse the status")?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).context("read a header")?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().context("parse the length")?;
            }
        }
        self.stream.by_ref().take(length).read_to_end(&mut Vec::new()).context("read the answer")?;
        Ok(status)
    }
}
