//! Walks over tabs page by page, as every query that is not about one tab does.

use std::collections::VecDeque;

use super::answer::Missing;
use crate::query::{Queries, Selector};
use crate::store::{StoreError, TabInfo};

/// Tabs per page: 1,024 names of at most 256 bytes are 256 KiB.
const PAGE_TABS: usize = 1024;

/// A walk over tabs in name order.
pub struct Walk {
    queries: Queries,
    names: Selector,
    clients: Selector,
    page: VecDeque<TabInfo>,
    after: Option<String>,
    all_read: bool,
    /// What did not answer so far.
    pub missing: Missing,
}

impl Walk {
    /// A walk over the tabs that match.
    #[must_use]
    pub fn new(queries: Queries, names: Selector, clients: Selector, missing: Missing) -> Self {
        Self { queries, names, clients, page: VecDeque::new(), after: None, all_read: false, missing }
    }

    /// At most `limit` further tabs; none at the end.
    ///
    /// # Errors
    /// [`StoreError`] if no vbucket answered.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<TabInfo>, StoreError> {
        if self.page.is_empty() && !self.all_read {
            self.read_page().await?;
        }
        let taken = self.page.len().min(limit);
        Ok(self.page.drain(..taken).collect())
    }

    async fn read_page(&mut self) -> Result<(), StoreError> {
        let after = self.after.as_deref();
        let answer = self.queries.tabs(&self.names, &self.clients, after, PAGE_TABS).await?;
        self.missing.add(answer.missing);
        self.all_read = answer.value.len() < PAGE_TABS;
        self.after = answer.value.last().map(|tab| tab.name.clone());
        self.page = answer.value.into();
        Ok(())
    }
}
