//! The address a server listens on, and the file that tells scripts which one it became.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

use super::ServeError;

/// Opens the address; it accepts once something is served on it.
pub(super) async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let refused = |source: io::Error| ServeError::Listen {
        address: address.to_owned(),
        hint: match source.kind() {
            io::ErrorKind::AddrInUse => {
                "; another program is there, perhaps a Taba: choose one with --listen"
            }
            io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose one with --listen",
            _ => "",
        },
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// A file that holds the address for as long as this lives.
pub(super) struct ListenFile(PathBuf);

impl ListenFile {
    /// Writes it in one step: who sees the file sees all of the address.
    pub(super) fn write(path: &Path, address: SocketAddr) -> Result<Self, ServeError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".tmp");
        std::fs::write(&unfinished, format!("{address}\n"))
            .and_then(|()| std::fs::rename(&unfinished, path))
            .map_err(|source| ServeError::WriteListenFile { path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for ListenFile {
    fn drop(&mut self) {
        // Somebody may have removed it already, which is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}
