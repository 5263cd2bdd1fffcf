//! Reads the text that `INFO` answers.

use std::collections::HashMap;

use crate::address::Address;

/// A replica as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLine {
    /// As it announces itself.
    pub address: Address,
    /// Its link is established.
    pub online: bool,
    /// What it has acknowledged.
    pub offset: u64,
}

/// The fields of an `INFO` answer.
#[derive(Debug)]
pub struct Info<'a>(HashMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    /// Reads `name:value` lines.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    /// The value, empty if absent.
    #[must_use]
    pub fn text(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or("")
    }

    /// The value as a number, 0 if absent or negative.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Whether the value is `1`.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.text(name) == "1"
    }

    /// `slave0`, `slave1`, …
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaLine> + '_ {
        (0..self.number("connected_slaves")).filter_map(|n| replica(self.text(&format!("slave{n}"))))
    }
}

/// `ip=10.0.0.2,port=6379,state=online,offset=123,lag=0`
fn replica(line: &str) -> Option<ReplicaLine> {
    let fields: HashMap<_, _> = line.split(',').filter_map(|field| field.split_once('=')).collect();
    Some(ReplicaLine {
        address: Address::new(*fields.get("ip")?, fields.get("port")?.parse().ok()?),
        online: fields.get("state") == Some(&"online"),
        offset: fields.get("offset")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_read_from_their_lines() {
        let info = Info::new(
            "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
             slave0:ip=127.0.0.1,port=7002,state=online,offset=42,lag=0\r\n\
             slave1:ip=127.0.0.1,port=7003,state=wait_bgsave,offset=0,lag=0\r\nmaster_repl_offset:42\r\n",
        );
        let replicas: Vec<_> = info.replicas().collect();
        assert_eq!(
            replicas[0],
            ReplicaLine { address: Address::new("127.0.0.1", 7002), online: true, offset: 42 }
        );
        assert!(!replicas[1].online);
        assert_eq!(
            (info.text("role"), info.number("master_repl_offset"), info.text("none")),
            ("master", 42, "")
        );
    }
}
