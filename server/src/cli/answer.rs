//! What the server's v2 API answers, as far as the command line reads it, and how its pages are walked.
//!
//! Only fields that are used are named here, so that a newer server may answer more.

use serde::Deserialize;
use serde_json::Value;

use super::api::{Api, Json};
use super::error::CliError;
use super::output;

/// Tabs per page asked for; bounds the memory of one answer on both sides.
pub(super) const PAGE_TABS: &str = "1000";

/// Which tabs a person asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// One by name.
    Tab(String),
    /// All whose name begins with this; `*` alone means all.
    Prefix(String),
}

impl Selection {
    /// The parameter that asks for it.
    pub(super) fn param(&self) -> (&'static str, &str) {
        match self {
            Self::Tab(tab) => ("tab", tab),
            Self::Prefix(prefix) => ("prefix", prefix),
        }
    }
}

impl std::str::FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        match is_prefix {
            true => Ok(Self::Prefix(name.to_owned())),
            false if text.is_empty() => Err("expected a tab's name, or a prefix followed by *".to_owned()),
            false => Ok(Self::Tab(text.to_owned())),
        }
    }
}

/// One window of a numeric tab.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Window {
    pub(super) window: String,
    pub(super) seconds: Option<u64>,
    pub(super) count: u64,
    pub(super) sum: f64,
    #[serde(default)]
    pub(super) quantiles: Vec<Quantile>,
}

impl Window {
    /// Events per second over the whole window; `None` if it is all time.
    pub(super) fn per_second(&self) -> Option<f64> {
        self.seconds.filter(|seconds| *seconds > 0).map(|seconds| self.count as f64 / seconds as f64)
    }

    /// The mean value; `None` without events.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// A percentile that was asked for.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        self.quantiles.iter().find(|quantile| quantile.q == q)?.value
    }
}

/// One percentile of a window.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Quantile {
    pub(super) q: f64,
    /// Null if the window holds nothing.
    pub(super) value: Option<f64>,
}

/// One tab of an answer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tab {
    pub(super) tab: String,
    #[serde(rename = "type")]
    pub(super) tab_type: String,
    #[serde(default)]
    pub(super) windows: Vec<Window>,
    /// What the tab holds, if that is not numbers.
    #[serde(default)]
    pub(super) value: Option<Value>,
}

/// One page.
#[derive(Debug, Deserialize)]
struct Page {
    tabs: Vec<Tab>,
    completeness: Completeness,
}

/// Where the next page begins, of any kind of page.
#[derive(Debug, Deserialize)]
struct Next {
    #[serde(default)]
    next: Option<String>,
}

/// How much of the cluster an answer speaks for.
#[derive(Debug, Deserialize)]
pub(super) struct Completeness {
    missing_vbuckets: u64,
    vbuckets: u64,
}

impl Completeness {
    /// Says on standard error if an answer is not whole.
    pub(super) fn warn(&self) {
        let Self { missing_vbuckets, vbuckets } = self;
        if *missing_vbuckets > 0 {
            output::note(&format!("incomplete: {missing_vbuckets} of {vbuckets} vbuckets did not answer"));
        }
    }
}

/// A query for one or more selections, walked page by page.
pub(super) struct Query<'a> {
    pub(super) api: &'a Api,
    /// Only these clients, as a comma-separated list; empty means all.
    pub(super) clients: &'a str,
    /// Windows to ask for, as a comma-separated list; empty means all.
    pub(super) windows: &'a str,
    /// Percentiles to ask for, as a comma-separated list; empty means none.
    pub(super) quantiles: &'a str,
}

impl Query<'_> {
    /// Hands every page of a selection to `show`, as the server wrote it.
    pub(super) fn pages(
        &self,
        selection: &Selection,
        show: impl FnMut(&Json) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        walk(|after| self.api.get("/v2/query", &self.params(selection, after)), show)
    }

    /// All tabs of a selection. Warns if not every vbucket answered.
    pub(super) fn tabs(&self, selection: &Selection) -> Result<Vec<Tab>, CliError> {
        let mut tabs = Vec::new();
        self.pages(selection, |page| {
            let page: Page = page.parse()?;
            page.completeness.warn();
            tabs.extend(page.tabs);
            Ok(())
        })?;
        Ok(tabs)
    }

    fn params<'b>(&'b self, selection: &'b Selection, after: &'b str) -> Vec<(&'static str, &'b str)> {
        let asked = [
            selection.param(),
            ("limit", PAGE_TABS),
            ("client", self.clients),
            ("windows", self.windows),
            ("q", self.quantiles),
            ("after", after),
        ];
        asked.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// Asks for page after page, each from where the one before ended; empty is the start.
pub(super) fn walk(
    mut ask: impl FnMut(&str) -> Result<Json, CliError>,
    mut show: impl FnMut(&Json) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut after = String::new();
    loop {
        let page = ask(&after)?;
        show(&page)?;
        match page.parse::<Next>()?.next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}
