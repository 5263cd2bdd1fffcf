//! A tap on the connections of a host to one port: it passes bytes on, and when it is told to, lets a
//! request through, waits until the reply comes, and then drops the reply and cuts the connection. So
//! the other side has done what was asked, and the asker cannot know. Or it holds requests back, and passes them
//! on when nobody expects them any more.
//!
//! The host's packet filter redirects new connections to the tap, which runs in the same host and goes on
//! from the host's second address, so neither side is configured differently.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::{Timeout, ip_original_dst, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::host::{Host, SharedHost};
use super::net;

/// How long the far side gets to answer a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// A marked request of so many bytes or more carries states: all others are names and numbers.
const STATES_BYTES: usize = 1024;

/// Whether requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    None,
    /// From the next one on that carries states.
    Soon,
    All,
}

/// A tap.
#[derive(Debug)]
pub struct Tap {
    /// Replies still to be lost.
    armed: AtomicUsize,
    lost: AtomicUsize,
    /// Whether requests wait, and word that this has changed.
    hold: (Mutex<Hold>, Condvar),
    /// A request is one whose bytes hold one of these.
    marks: &'static [&'static [u8]],
}

impl Tap {
    /// Scripts, as Redis is asked to run them.
    pub const SCRIPTS: &'static [&'static [u8]] = &[b"EVALSHA", b"FCALL", b"evalsha", b"fcall"];
    /// Posts, as frontends get them.
    pub const POSTS: &'static [&'static [u8]] = &[b"POST /"];

    /// Taps the connections of `host` to `port` from now on. It ends with the process.
    ///
    /// # Errors
    /// If the host cannot be changed.
    pub fn install(host: &SharedHost, port: u16, marks: &'static [&'static [u8]]) -> Result<Arc<Self>> {
        let tap = Arc::new(Self {
            armed: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            hold: (Mutex::new(Hold::None), Condvar::new()),
            marks,
        });
        let address = host.address();
        let listener = host.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("listen"))?;
        let own = listener.local_addr().context("find the tap's port")?.port();
        let rules = format!(
            "table ip tap{port} {{\nchain out {{\ntype nat hook output priority -100\n\
             ip saddr {address} ip daddr != {address} tcp dport {port} redirect to :{own}\n}}\n}}\n"
        );
        host.inside(|| net::feed(Command::new("nft").args(["-f", "-"]), &rules))?;
        let (shared, inside) = (Arc::clone(&tap), Arc::clone(host));
        std::thread::spawn(move || {
            // Threads that this one starts are in the host as well.
            if inside.enter().is_ok() {
                shared.accept(&listener, Host::alias_of(address));
            }
        });
        Ok(tap)
    }

    /// Loses the next so many replies to requests that begin after this.
    pub fn lose(&self, replies: usize) {
        self.armed.fetch_add(replies, Ordering::SeqCst);
    }

    /// Loses no more replies.
    pub fn rest(&self) {
        self.armed.store(0, Ordering::SeqCst);
    }

    /// Replies lost so far.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }

    /// Holds back the next request that carries states and all that come after it; whether one came within `patience`.
    pub fn hold(&self, patience: Duration) -> bool {
        self.set_hold(Hold::Soon);
        let hold = self.hold.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = self.hold.1.wait_timeout_while(hold, patience, |hold| *hold != Hold::All);
        let (hold, _) = until.unwrap_or_else(PoisonError::into_inner);
        *hold == Hold::All
    }

    /// Passes on what waits and all that comes.
    pub fn let_go(&self) {
        self.set_hold(Hold::None);
    }

    fn set_hold(&self, hold: Hold) {
        *self.hold.0.lock().unwrap_or_else(PoisonError::into_inner) = hold;
        self.hold.1.notify_all();
    }

    fn wait_while_held(&self, carries_states: bool) {
        let mut hold = self.hold.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *hold == Hold::Soon && carries_states {
            *hold = Hold::All;
            self.hold.1.notify_all();
        }
        let free = self.hold.1.wait_while(hold, |hold| *hold == Hold::All);
        drop(free.unwrap_or_else(PoisonError::into_inner));
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, from: Ipv4Addr) {
        for near in listener.incoming().flatten() {
            let tap = Arc::clone(self);
            // The asker sees a far side that does not answer as a closed connection.
            std::thread::spawn(move || tap.join(&near, from).unwrap_or_default());
        }
    }

    fn join(self: &Arc<Self>, near: &TcpStream, from: Ipv4Addr) -> Result<()> {
        let wanted = ip_original_dst(near).context("find where a connection was going")?;
        let far = connect_from(from, wanted)?;
        for stream in [near, &far] {
            stream.set_nodelay(true).context("send at once")?;
        }
        let poisoned = Arc::new(AtomicBool::new(false));
        let (tap, mark) = (Arc::clone(self), Arc::clone(&poisoned));
        let (near_in, far_out) =
            (near.try_clone().context("share a socket")?, far.try_clone().context("share a socket")?);
        std::thread::spawn(move || {
            tap.pass_requests(&near_in, &far_out, &mark);
        });
        self.pass_replies(&far, near, &poisoned);
        Ok(())
    }

    fn pass_requests(&self, mut near: &TcpStream, mut far: &TcpStream, poisoned: &AtomicBool) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = near.read(&mut bytes) {
            let request = &bytes[..count];
            let is_marked = self.marks.iter().any(|mark| memchr::memmem::find(request, mark).is_some());
            if is_marked {
                let take = |left: usize| left.checked_sub(1);
                if self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    poisoned.store(true, Ordering::SeqCst);
                }
            }
            self.wait_while_held(is_marked && count >= STATES_BYTES);
            if far.write_all(request).is_err() {
                break;
            }
        }
        let _ = far.shutdown(Shutdown::Write);
    }

    fn pass_replies(&self, mut far: &TcpStream, mut near: &TcpStream, poisoned: &AtomicBool) {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = far.read(&mut bytes) {
            if poisoned.load(Ordering::SeqCst) {
                self.lost.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if near.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
    }
}

fn connect_from(from: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).context("make a socket")?;
    bind(&socket, &SocketAddrV4::new(from, 0)).context("bind to the second address")?;
    // On Linux the time-out of sending bounds connecting as well.
    set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_PATIENCE)).context("bound connecting")?;
    connect(&socket, &to).context("connect onwards")?;
    set_socket_timeout(&socket, Timeout::Send, None).context("unbound sending")?;
    Ok(TcpStream::from(socket))
}
