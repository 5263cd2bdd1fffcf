//! Queries: merge first, render last. An answer says how complete it is.

use std::sync::Arc;

use regex::Regex;
use taba_core::{State, Vbucket};

use crate::pipeline::Pipeline;
use crate::store::{StoreError, TabInfo};

/// Which names a query asks for.
#[derive(Clone, Debug)]
pub enum Selector {
    /// All of them.
    All,
    /// These, if they exist.
    Names(Vec<String>),
    /// Those that the pattern matches from their start.
    Pattern(Regex),
    /// Those that begin with this.
    Prefix(String),
}

/// An answer and how complete it is.
#[derive(Clone, Debug)]
#[must_use]
pub struct Answer<T> {
    /// What was found.
    pub value: T,
    /// Vbuckets that did not answer; empty means complete.
    pub missing: Vec<Vbucket>,
}

/// Reads states of any vbucket, from the owner's memory where this process is the owner.
#[derive(Clone)]
pub struct Queries {
    pipeline: Arc<Pipeline>,
}

impl Queries {
    /// Queries over what a pipeline's store holds.
    #[must_use]
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }

    /// Tabs that match and, unless `clients` is [`Selector::All`], that one of the clients has a state
    /// in; in name order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if no vbucket answered.
    pub async fn tabs(
        &self,
        _names: &Selector,
        _clients: &Selector,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Answer<Vec<TabInfo>>, StoreError> {
        let _ = &self.pipeline;
        todo!()
    }

    /// Client IDs that match, in order.
    ///
    /// # Errors
    /// [`StoreError`] if no vbucket answered.
    pub async fn clients(&self, _clients: &Selector) -> Result<Answer<Vec<String>>, StoreError> {
        todo!()
    }

    /// One tab's state over the clients; `None` if there is nothing. [`Selector::All`] reads the
    /// all-clients state kept ready, anything else merges the clients' states.
    ///
    /// # Errors
    /// [`StoreError`] if its vbucket did not answer.
    pub async fn aggregate(&self, _tab: &str, _clients: &Selector) -> Result<Option<State>, StoreError> {
        todo!()
    }

    /// One tab's states per client that matches, in client order.
    ///
    /// # Errors
    /// [`StoreError`] if its vbucket did not answer.
    pub async fn projection(
        &self,
        _tab: &str,
        _clients: &Selector,
    ) -> Result<Vec<(String, State)>, StoreError> {
        todo!()
    }
}
