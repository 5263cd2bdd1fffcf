//! A TCP stream that tells the watchdog what it does and that closes politely.
//!
//! An answer that comes before its body was read (503, 413) would be lost if the socket were simply
//! closed: unread bytes make the kernel send a reset, which overtakes the answer. So a socket that the
//! server closes first is read to its end for a moment, within bounds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::activity::Activity;

/// How long a closed socket is read on.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Most bytes thrown away then: what a client may have had under way.
const LINGER_BYTES_MAX: u64 = 16 << 20;

/// Sockets that linger at once; each has one 16 KiB buffer, 4 MiB in all. Further ones just close.
static LINGERING: Semaphore = Semaphore::const_new(256);

/// A TCP stream under watch.
pub(super) struct Socket {
    /// `None` only once dropped.
    stream: Option<TcpStream>,
    activity: Arc<Activity>,
    /// The client closed its side.
    ended: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        // Answers are written whole; waiting to fill a packet only adds delay. A socket that refuses the
        // option works all the same.
        let _ = stream.set_nodelay(true);
        Self { stream: Some(stream), activity, ended: false }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("taken only by drop"))
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.written(written.is_pending());
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(self.stream().poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.activity.received();
        } else {
            self.ended = true;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(context, pieces);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        if self.ended || self.activity.is_cut() {
            return;
        }
        if let (Ok(runtime), Ok(permit)) = (Handle::try_current(), LINGERING.try_acquire()) {
            runtime.spawn(async move {
                // Nothing can be done about a client that is gone or goes on sending.
                let _ = tokio::time::timeout(LINGER_TIMEOUT, read_to_end(stream)).await;
                drop(permit);
            });
        }
    }
}

async fn read_to_end(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut waste = vec![0; 16 << 10];
    let mut bytes = 0;
    while bytes < LINGER_BYTES_MAX {
        match stream.read(&mut waste).await? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    Ok(())
}
