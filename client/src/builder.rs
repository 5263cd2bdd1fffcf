//! Configuration of a client.

use std::time::Duration;

use parking_lot::Mutex;
use taba_core::name::{self, BadName};
use taba_core::{ProducerId, name::NAME_BYTES_MAX};

use crate::client::{BATCH_BYTES_MAX, Client, Sealer, Shared};
use crate::delivery::{Delivery, DeliveryConfig};
use crate::recorder::{Limits, Recorder};

/// Settings of a [`Client`].
///
/// ```
/// use std::time::Duration;
/// use taba_client::Client;
///
/// let client = Client::builder("http://127.0.0.1:8279")
///     .client_id("web-1.checkout")
///     .flush_every(Duration::from_secs(5))
///     .drop_wait(Duration::ZERO)
///     .start()?;
/// client.counter("checkout/orders").increment();
/// # Ok::<(), taba_client::StartError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    client_id: Option<String>,
    flush_every: Duration,
    drop_wait: Duration,
    tabs_max: usize,
    recording_bytes_max: usize,
    delivery: DeliveryConfig,
}

/// Why a client did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// [`Builder::client_id`] was not called.
    #[error("a client needs a client id")]
    NoClientId,
    /// The client id is not valid.
    #[error("client id {id:?} is not valid")]
    ClientId {
        /// The id given.
        id: String,
        /// Which rule it breaks.
        #[source]
        source: BadName,
    },
    /// An endpoint is not a URL this build can post to.
    #[error("endpoint {0:?} must be http://host:port, or https:// with the tls feature")]
    Endpoint(String),
    /// The operating system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl Builder {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            client_id: None,
            flush_every: Duration::from_secs(1),
            drop_wait: Duration::from_secs(2),
            tabs_max: 10_000,
            recording_bytes_max: 64 << 20,
            delivery: DeliveryConfig { batches_max: 4096, ..DeliveryConfig::new(vec![endpoint]) },
        }
    }

    /// One more receiver. Work is balanced over all of them and leaves a dead one at once.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.delivery.endpoints.push(endpoint.into());
        self
    }

    /// Names the source of the events: unique, and the same after a restart. Required.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// How long events are gathered before they are sent. Defaults to 1 s.
    #[must_use]
    pub fn flush_every(mut self, period: Duration) -> Self {
        self.flush_every = period;
        self
    }

    /// How long the last clone waits for acknowledgements when it goes. Defaults to 2 s; zero tries
    /// nothing.
    #[must_use]
    pub fn drop_wait(mut self, wait: Duration) -> Self {
        self.drop_wait = wait;
        self
    }

    /// Most tabs at once; events of further ones are dropped and counted. Defaults to 10,000.
    #[must_use]
    pub fn tabs_max(mut self, tabs: usize) -> Self {
        self.tabs_max = tabs;
        self
    }

    /// Memory for events not sealed yet, in bytes; beyond it events are dropped and counted. Defaults
    /// to 64 MiB.
    #[must_use]
    pub fn recording_bytes_max(mut self, bytes: usize) -> Self {
        self.recording_bytes_max = bytes;
        self
    }

    /// Changes how batches are delivered: bounds, time limits, back-off.
    #[must_use]
    pub fn delivery(mut self, change: impl FnOnce(&mut DeliveryConfig)) -> Self {
        change(&mut self.delivery);
        self
    }

    /// Starts the client. Nothing is contacted yet: an unreachable endpoint is no error.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(mut self) -> Result<Client, StartError> {
        let id = self.client_id.take().ok_or(StartError::NoClientId)?;
        if let Err(source) = name::check(id.as_bytes()) {
            return Err(StartError::ClientId { id, source });
        }
        for endpoint in &mut self.delivery.endpoints {
            *endpoint = crate::endpoint::check(endpoint)?;
        }
        // A store without room for one batch could never hand anything over.
        self.delivery.bytes_max = self.delivery.bytes_max.max(BATCH_BYTES_MAX);
        let limits = Limits { tabs_max: self.tabs_max, bytes_max: self.recording_bytes_max };
        let shared = Shared {
            recorder: Recorder::new(&id, limits),
            delivery: Delivery::start(self.delivery, |_, _| {}).map_err(StartError::Thread)?,
            sealer: Mutex::new(Sealer { producer: new_producer(&id), sequence: 0 }),
        };
        Client::start(shared, self.flush_every, self.drop_wait).map_err(StartError::Thread)
    }
}

/// A producer no other run of any program has: the name, cut so that it fits, and a random start id.
#[must_use]
pub fn new_producer(name: &str) -> ProducerId {
    let start = format!(":{:016x}", rand::random::<u64>());
    let name: String = name::sanitize(name).chars().take(NAME_BYTES_MAX - start.len()).collect();
    ProducerId::new(&format!("{name}{start}")).expect("sanitized, not empty and cut to fit")
}
