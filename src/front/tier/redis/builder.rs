//! How a tier is set up.

use super::RedisTier;
use super::codec::{Codec, Postcard};
use super::hub::{Hub, Settings};
use super::line::RedisLine;
use super::link::Link;
use super::names::Names;
use crate::rules::tier::TierError;
use crate::words::block_on::block_on;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Sets up a [`RedisTier`]: from [`RedisTier::connect`]. To connect, `.await` it, in any runtime, or call
/// [`open`](Self::open), which blocks the thread.
#[must_use = "nothing is connected until it is awaited, or `open` is called"]
pub struct RedisTierBuilder<C = Postcard> {
    url: String,
    codec: C,
    prefix: String,
    time_to_live: Option<Duration>,
    tombstone: Duration,
    timeout: Duration,
    connect_timeout: Duration,
    lease: Option<Duration>,
    max_value_size: usize,
    is_lazy: bool,
}

impl RedisTierBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            codec: Postcard,
            prefix: String::new(),
            time_to_live: None,
            tombstone: Duration::from_secs(120),
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(2),
            lease: None,
            max_value_size: 8 << 20,
            is_lazy: false,
        }
    }
}

impl<C: Codec> RedisTierBuilder<C> {
    /// Sets what all keys on the server begin with. It is required. Caches that use one prefix share what
    /// they store, so they must have the same types, the same codec, and keys that hash alike: put a version
    /// into it, and raise that when any of these changes. Up to 512 bytes, without `::` and `#`, and not
    /// ending with `:`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long a value lives in the tier, from a millisecond to a year; never longer than a TTL that
    /// was set for it alone ([`At::ttl`](crate::At::ttl), [`Loaded::ttl`](crate::Loaded::ttl)). If unset, it
    /// lives as long as in the cache that stored it, or an hour if nothing ends its life there.
    ///
    /// A time longer than the caches' own spares the source, and is then the bound on a value's age: when a
    /// cache's copy expires, the cache takes it from the tier again, until this time is over. After its life
    /// a value stays for its stale window, or for [`tombstone`](Self::tombstone) if that is longer.
    pub fn time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = Some(time);
        self
    }

    /// Sets how long the tier remembers that a key was removed, so that no load that began before the removal
    /// stores an old value after it: two minutes by default, up to a day. The result of a load that takes
    /// longer than seven eighths of that, waiting for a slot included, is not stored in the tier; the caches'
    /// [`load_timeout`](crate::CacheBuilder::load_timeout) is a minute by default.
    pub fn tombstone(mut self, time: Duration) -> Self {
        self.tombstone = time;
        self
    }

    /// Limits how long one round trip may take: 50 ms by default. After that the call fails, and the cache
    /// asks the source. After three timeouts in a row the server is left alone until it answers a ping within
    /// this time.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Limits how long making a connection may take, handshakes included, and how long a server may be silent
    /// before the connection counts as lost: two seconds by default.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// Sets how keys and values become bytes: [`Postcard`] by default. Set [`Json`](crate::Json) for types with
    /// serde's `skip_serializing_if`, `skip_serializing`, `flatten`, `untagged` or `tag`, and for
    /// `serde_json::Value`: Postcard cannot write these, or not all of their values, so that they can be
    /// read back, and the tier leaves them out. Processes with different codecs need different prefixes.
    pub fn codec<D: Codec>(self, codec: D) -> RedisTierBuilder<D> {
        RedisTierBuilder {
            url: self.url,
            codec,
            prefix: self.prefix,
            time_to_live: self.time_to_live,
            tombstone: self.tombstone,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            lease: self.lease,
            max_value_size: self.max_value_size,
            is_lazy: self.is_lazy,
        }
    }

    /// Lets one process at a time load a key that the tier does not have. The others look for its result
    /// every 5 to 100 ms, for this long at most; then they load for themselves. A process that dies delays
    /// the others by this long, once. Off by default; up to an hour.
    ///
    /// This spares the source, but guarantees nothing: two loads at once do no harm. Looking up a key that is
    /// not there costs one more round trip. Calls for many keys at once use no leases.
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = Some(time);
        self
    }

    /// Limits how many bytes one entry may have, with its key, as the codec writes them: 8 MiB by default, up
    /// to 512 MiB. A larger one is not stored, nor read if it is there under one of the tier's keys.
    pub fn max_value_size(mut self, bytes: usize) -> Self {
        self.max_value_size = bytes;
        self
    }

    /// Makes the tier without waiting for the first connection, and without failing if there is none: it
    /// keeps trying to connect in the background. Until it succeeds, the tier is as good as not there.
    pub fn lazy(mut self) -> Self {
        self.is_lazy = true;
        self
    }

    /// Connects, and blocks the thread until that is done. Tasks `.await` the builder instead.
    ///
    /// # Errors
    ///
    /// [`TierError::Invalid`] for settings that are not accepted, [`TierError::Refused`] if the server refuses
    /// the credentials or a command that the tier needs, [`TierError::Unreachable`] if there is no
    /// connection within [`connect_timeout`](Self::connect_timeout), unless [`lazy`](Self::lazy) is set.
    pub fn open(self) -> Result<RedisTier<C>, TierError> {
        block_on(self.connected())
    }

    async fn connected(self) -> Result<RedisTier<C>, TierError> {
        let (info, server) = address(&self.url)?;
        let settings = self.settings(server)?;
        if matches!(info.addr, ConnectionAddr::TcpTls { .. }) {
            provide_tls();
        }
        let client = Client::open(info).map_err(|_| invalid(BAD_URL))?;
        let hub = Arc::new(Hub::new(settings));
        let (requests, requested) = mpsc::unbounded_channel();
        let (first, is_first) = if self.is_lazy {
            (None, None)
        } else {
            let (first, is_first) = oneshot::channel();
            (Some(first), Some(is_first))
        };
        let link = Link { client, hub: Arc::clone(&hub), requests: requested, first };
        let spawned = thread::Builder::new().name("larder-redis".to_owned()).spawn(|| link.run());
        if let Err(error) = spawned {
            let why = format!("no thread could be started: {error}");
            return Err(TierError::Unreachable(why.into()));
        }
        // if nobody waits any more, this drops the line, and so the thread ends
        let line = Arc::new(RedisLine::new(requests, hub));
        if let Some(is_first) = is_first {
            let ended = || TierError::Unreachable("its thread has ended".into());
            is_first.await.unwrap_or_else(|_| Err(ended()))?;
        }
        Ok(RedisTier { line, codec: self.codec })
    }

    fn settings(&self, server: Box<str>) -> Result<Settings, TierError> {
        let names = Names::new(&self.prefix).map_err(invalid)?;
        let day = Duration::from_secs(86_400);
        let hour = Duration::from_secs(3600);
        let check = |name, time, most| {
            if (Duration::from_millis(1)..=most).contains(&time) {
                return Ok(time.as_millis() as u64);
            }
            let why = format!("`{name}` is {time:?}, but accepts 1 ms to {most:?}");
            Err(TierError::Invalid(why.into()))
        };
        check("timeout", self.timeout, hour)?;
        check("connect_timeout", self.connect_timeout, hour)?;
        if let Some(lease) = self.lease {
            check("lease", lease, hour)?;
        }
        if !(1..=512 << 20).contains(&self.max_value_size) {
            return Err(invalid("`max_value_size` accepts 1 byte to 512 MiB"));
        }
        Ok(Settings {
            names,
            server,
            time_to_live: self
                .time_to_live
                .map(|time| check("time_to_live", time, 365 * day))
                .transpose()?,
            tombstone: check("tombstone", self.tombstone, day)?,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            lease: self.lease,
            max_value_size: self.max_value_size,
        })
    }
}

/// Connects when it is awaited: see [`open`](RedisTierBuilder::open) for the errors. Any runtime will do. If
/// it is dropped before it is done, nothing is left behind.
impl<C: Codec> IntoFuture for RedisTierBuilder<C> {
    type Output = Result<RedisTier<C>, TierError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connected())
    }
}

impl<C> fmt::Debug for RedisTierBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // an address that does not parse may have a password anywhere
        let server = address(&self.url).map_or("?".into(), |(_, server)| server);
        f.debug_struct("RedisTierBuilder")
            .field("prefix", &self.prefix)
            .field("server", &server)
            .finish_non_exhaustive()
    }
}

const BAD_URL: &str = "the address is no URL of a Redis server: redis://host:port, rediss:// with TLS, or \
                       unix:///path";

fn invalid(why: &str) -> TierError {
    TierError::Invalid(why.into())
}

/// Where to connect to, and how to say so without credentials.
fn address(url: &str) -> Result<(ConnectionInfo, Box<str>), TierError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    let wants_tls = matches!(&*scheme, "rediss" | "valkeys");
    if wants_tls && cfg!(not(feature = "redis-tls")) {
        return Err(invalid("an address with TLS needs larder's feature `redis-tls`"));
    }
    let mut info = url.into_connection_info().map_err(|_| invalid(BAD_URL))?;
    // the tier's own, whatever the address says
    info.redis.protocol = ProtocolVersion::RESP3;
    let server = match &info.addr {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return Err(invalid("TLS without a check of who answers is not offered"));
        }
        ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port} (TLS)"),
        _ if wants_tls => return Err(invalid(BAD_URL)),
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
    };
    Ok((info, server.into()))
}

/// The client takes the process's own implementation of TLS. Where nobody has chosen one, it would panic
/// as soon as a dependency of the program's brings a second one.
#[cfg(feature = "redis-tls")]
fn provide_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // another thread may be faster: then there is one
        _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(not(feature = "redis-tls"))]
fn provide_tls() {}
