//! A server in small: finds the primary through Sentinel, writes by a script bound to the term, and counts a
//! write as acknowledged only by the rules of docs/shard.md.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{NAME, connect, connect_as};

const TIMEOUT: Duration = Duration::from_millis(400);

const WRITE: &str = "
local held = redis.call('HMGET', KEYS[1], 'term', 'primary')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return redis.error_reply('TABATERM') end
redis.call('HSET', KEYS[2], ARGV[3], 1)
return redis.call('HINCRBY', KEYS[1], 'writes', 1)";

/// What was acknowledged, and the longest time without.
#[derive(Clone, Default)]
pub struct Ledger {
    pub acknowledged: BTreeSet<u64>,
    pub longest_gap: Duration,
    pub attempts: u64,
}

pub struct Writer {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(sentinels: Vec<u16>) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (ledger, stop) = (Arc::clone(&ledger), Arc::clone(&stop));
            move || run(&sentinels, &ledger, &stop)
        });
        Self { ledger, stop, thread: Some(thread) }
    }

    pub fn acknowledged(&self) -> usize {
        self.ledger.lock().acknowledged.len()
    }

    /// Waits until so many more writes are acknowledged.
    #[track_caller]
    pub fn until_more(&self, more: usize) {
        let before = self.acknowledged();
        super::until("more writes are acknowledged", || (self.acknowledged() >= before + more).then_some(()));
    }

    /// Forgets the longest gap so far.
    pub fn reset_gap(&self) {
        self.ledger.lock().longest_gap = Duration::ZERO;
    }

    pub fn longest_gap(&self) -> Duration {
        self.ledger.lock().longest_gap
    }

    pub fn finish(mut self) -> Ledger {
        self.end();
        self.ledger.lock().clone()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer ended well");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn run(sentinels: &[u16], ledger: &Mutex<Ledger>, stop: &AtomicBool) {
    let mut bound: Option<Bound> = None;
    let mut last = Instant::now();
    for write in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let outcome = match &mut bound {
            Some(bound) => bound.write(write),
            None => None,
        };
        let mut ledger = ledger.lock();
        ledger.attempts += 1;
        if outcome.is_some() {
            ledger.acknowledged.insert(write);
            let gap = last.elapsed();
            ledger.longest_gap = ledger.longest_gap.max(gap);
            last = Instant::now();
            continue;
        }
        drop(ledger);
        bound = sentinels.iter().find_map(|sentinel| Bound::new(*sentinel));
        if bound.is_none() {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A connection bound to a term.
pub struct Bound {
    connection: redis::Connection,
    term: String,
    primary: String,
    members: usize,
    script: redis::Script,
}

impl Bound {
    fn new(sentinel: u16) -> Option<Self> {
        let mut asked = connect_as(sentinel, redis::RedisConnectionInfo::default(), TIMEOUT).ok()?;
        let (_, port): (String, u16) =
            redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(NAME).query(&mut asked).ok()?;
        Self::to(port)
    }

    /// Binds to the Redis at this port, if it says that it is the primary.
    pub fn to(port: u16) -> Option<Self> {
        let mut connection = connect(port, "taba", TIMEOUT).ok()?;
        let role: redis::Value = redis::cmd("ROLE").query(&mut connection).ok()?;
        let is_master = matches!(&role, redis::Value::Array(fields)
            if fields.first() == Some(&redis::Value::BulkString(b"master".to_vec())));
        let (name, primary, term, members): (String, String, String, usize) = redis::cmd("HMGET")
            .arg("taba:shard")
            .arg(&["name", "primary", "term", "members"])
            .query(&mut connection)
            .ok()?;
        let is_it = is_master && name == NAME && primary == format!("127.0.0.1:{port}");
        is_it.then(|| Self { connection, term, primary, members, script: redis::Script::new(WRITE) })
    }

    /// Writes, and says whether it is acknowledged.
    pub fn write(&mut self, write: u64) -> Option<()> {
        let mut call = self.script.prepare_invoke();
        call.key("taba:shard").key("ledger").arg(&self.term).arg(&self.primary).arg(write);
        call.invoke::<u64>(&mut self.connection).ok()?;
        // Before the wait, which itself adds to the offset.
        let offset = field(&self.info()?, "master_repl_offset:")?;
        let all = self.members - 1;
        let have: usize = redis::cmd("WAIT").arg(all).arg(20).query(&mut self.connection).ok()?;
        let info = self.info()?;
        let (in_sync, min_in_sync): (String, usize) = redis::cmd("HMGET")
            .arg("taba:shard")
            .arg(&["in_sync", "min_in_sync"])
            .query(&mut self.connection)
            .ok()?;
        let replicas: Vec<_> = in_sync.split(',').filter(|member| *member != self.primary).collect();
        if replicas.len() < min_in_sync {
            return None;
        }
        if have == all {
            return Some(());
        }
        replicas.iter().all(|replica| acknowledged(&info, replica) >= Some(offset)).then_some(())
    }

    fn info(&mut self) -> Option<String> {
        redis::cmd("INFO").arg("replication").query(&mut self.connection).ok()
    }
}

fn field(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// `slave0:ip=127.0.0.1,port=7002,state=online,offset=42,lag=0`
fn acknowledged(info: &str, replica: &str) -> Option<u64> {
    let (host, port) = replica.rsplit_once(':')?;
    let place = format!("ip={host},port={port},");
    let line = info.lines().find(|line| line.starts_with("slave") && line.contains(&place))?;
    line.split(',').find_map(|item| item.strip_prefix("offset="))?.parse().ok()
}
