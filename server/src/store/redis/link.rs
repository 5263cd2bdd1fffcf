//! One connection to a Redis or Sentinel: TCP, TLS if asked for, login; everything with a time-out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
    RedisError, Value,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::RedisOptionsError;
use super::call::{CallError, checked};
use super::names::Names;
use super::options::{RedisOptions, RedisTls, Secret};

/// Makes connections with the options of one store.
pub(super) struct Dialer {
    connect_timeout: Duration,
    response_timeout: Duration,
    tls: Option<(TlsConnector, Option<ServerName<'static>>)>,
    names: Arc<Names>,
}

/// Who logs in.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
}

/// A connection that many may use at once. Closed when dropped, whatever is under way.
pub(super) struct Link {
    connection: MultiplexedConnection,
    response_timeout: Duration,
    driver: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dialer {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, RedisOptionsError> {
        let tls = options.tls.as_ref().map(tls).transpose()?;
        let RedisOptions { connect_timeout, response_timeout, .. } = *options;
        Ok(Self { connect_timeout, response_timeout, tls, names: Arc::default() })
    }

    /// Connects to `host:port` and logs in.
    pub(super) async fn connect(&self, address: &str, login: Login<'_>) -> Result<Link, CallError> {
        self.in_time(self.connect_patiently(address, login, None)).await
    }

    /// As [`Dialer::connect`], and the server tells `changed` once when something is written to a key that
    /// [`Link::send_tracked`] named: <https://redis.io/docs/latest/develop/reference/client-side-caching/>.
    pub(super) async fn connect_tracking(
        &self,
        address: &str,
        login: Login<'_>,
        changed: &Arc<Notify>,
    ) -> Result<Link, CallError> {
        let link = self.in_time(self.connect_patiently(address, login, Some(changed))).await?;
        let mut command = redis::cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("OPTIN");
        checked(link.send(&command).await?)?;
        Ok(link)
    }

    async fn in_time(
        &self,
        connecting: impl Future<Output = Result<Link, RedisError>>,
    ) -> Result<Link, CallError> {
        let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut).into();
        let link = tokio::time::timeout(self.connect_timeout, connecting).await.map_err(timed_out);
        link.flatten().map_err(CallError::Broken)
    }

    async fn connect_patiently(
        &self,
        address: &str,
        login: Login<'_>,
        changed: Option<&Arc<Notify>>,
    ) -> Result<Link, RedisError> {
        let (host, port) = host_and_port(address)?;
        let addresses = self.names.addresses(host).await?;
        let sockets: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let stream = TcpStream::connect(&sockets[..]).await?;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return self.log_in(stream, login, changed).await };
        let name = match name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?,
        };
        self.log_in(connector.connect(name, stream).await?, login, changed).await
    }

    async fn log_in<S>(
        &self,
        stream: S,
        login: Login<'_>,
        changed: Option<&Arc<Notify>>,
    ) -> Result<Link, RedisError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = login.user {
            info = info.set_username(user);
        }
        if let Some(password) = login.password {
            info = info.set_password(password.reveal());
        }
        let mut config = AsyncConnectionConfig::new().set_response_timeout(Some(self.response_timeout));
        if let Some(changed) = changed {
            // The older protocol has only answers.
            info = info.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(telling(Arc::clone(changed)));
        }
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
        let driver = tokio::spawn(driver).abort_handle();
        Ok(Link { connection, response_timeout: self.response_timeout, driver })
    }
}

impl Link {
    /// Sends one command; an error that the server answers is a value here.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, CallError> {
        self.send_patiently(command, Duration::ZERO).await
    }

    /// As [`Link::send`], with more time for the answer.
    pub(super) async fn send_patiently(&self, command: &Cmd, more: Duration) -> Result<Value, CallError> {
        let mut connection = self.connection.clone();
        connection.set_response_timeout(self.response_timeout + more);
        connection.send_packed_command(command).await.map_err(CallError::Broken)
    }

    /// As [`Link::send`], on a link of [`Dialer::connect_tracking`].
    pub(super) async fn send_tracked(&self, command: &Cmd) -> Result<Value, CallError> {
        let mut commands = Pipeline::new();
        commands.cmd("CLIENT").arg("CACHING").arg("YES").add_command(command.clone());
        let answers = self.send_all(&commands, Duration::ZERO).await?;
        let [agreed, answer] =
            answers.try_into().map_err(|_| CallError::Unexpected("answers are missing"))?;
        checked(agreed)?;
        Ok(answer)
    }

    /// Sends commands in one go; errors that the server answers are values here.
    pub(super) async fn send_all(
        &self,
        commands: &Pipeline,
        more: Duration,
    ) -> Result<Vec<Value>, CallError> {
        let mut connection = self.connection.clone();
        connection.set_response_timeout(self.response_timeout + more);
        let count = commands.len();
        let answers = connection.send_packed_commands(commands, 0, count).await.map_err(CallError::Broken)?;
        if answers.len() == count { Ok(answers) } else { Err(CallError::Unexpected("answers are missing")) }
    }
}

fn telling(changed: Arc<Notify>) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> {
    move |push| {
        if push.kind == PushKind::Invalidate {
            changed.notify_one();
        }
        Ok(())
    }
}

/// Splits `host:port`. Sentinel writes IPv6 addresses without brackets, people with them.
fn host_and_port(address: &str) -> Result<(&str, u16), std::io::Error> {
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.ok_or_else(|| std::io::Error::other("an address must be host:port"))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

fn tls(options: &RedisTls) -> Result<(TlsConnector, Option<ServerName<'static>>), RedisOptionsError> {
    fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: &'static str,
    ) -> impl FnOnce(E) -> RedisOptionsError {
        move |source| RedisOptionsError::Tls { what, source: source.into() }
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&options.ca_file).map_err(failed("read the file"))? {
        roots.add(certificate.map_err(failed("read the file"))?).map_err(failed("trust a certificate"))?;
    }
    if roots.is_empty() {
        let source = "there is no certificate in the file".into();
        return Err(RedisOptionsError::Tls { what: "read the file", source });
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed("choose protocol versions"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = options.server_name.clone().map(ServerName::try_from).transpose();
    Ok((TlsConnector::from(Arc::new(config)), name.map_err(failed("use the server name"))?))
}
