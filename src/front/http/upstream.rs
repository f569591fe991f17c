//! How long an upstream's response may be cached, by its header fields.

use super::directives::{CacheControl, entity_tags, members, opaque, seconds};
use crate::front::cache::Cache;
use crate::rules::expiry::duration;
use crate::rules::loaded::{LoadCx, Loaded};
use http::header::{AGE, DATE, ETAG, EXPIRES, VARY};
use http::{HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime};

/// Turns an upstream's response into a [`Loaded`]: how long it may be kept, and with which version to ask for
/// it again (RFC 9111, RFC 5861).
///
/// ```
/// use http::HeaderMap;
/// use larder::{Cache, Upstream};
/// use std::time::Duration;
///
/// let pages: Cache<String, String> = Cache::new(100);
/// let upstream = Upstream::of(&pages).shared();
/// let got = pages.at("/").load(|cx| {
///     // a client would send `upstream.if_none_match(cx)`, and on a 304 return
///     // `upstream.unchanged(&headers)`
///     assert_eq!(upstream.if_none_match(cx), None);
///     let mut headers = HeaderMap::new();
///     headers.insert("cache-control", "max-age=600, s-maxage=60".parse().unwrap());
///     headers.insert("age", "10".parse().unwrap());
///     headers.insert("etag", "\"v1\"".parse().unwrap());
///     Ok::<_, std::io::Error>(upstream.loaded("<h1>Hello</h1>".to_owned(), &headers))
/// }).unwrap();
/// assert_eq!(got.fresh_for, Duration::from_secs(50));
/// assert_eq!(got.validator.as_deref(), Some("\"v1\""));
/// ```
///
/// It reads this, and nothing else:
///
/// | | |
/// |---|---|
/// | `no-store`, `Vary: *`; `private` in a shared cache | handed to those who wait, not stored |
/// | `no-cache` | not stored, and what was stored is removed: nothing is kept here that must be checked before each use |
/// | `s-maxage` (shared), else `max-age`, else `Expires` less `Date` | the life, less `Age`; not stored if nothing is left |
/// | none of these | the cache's own time to live |
/// | `must-revalidate`; in a shared cache `proxy-revalidate` and `s-maxage` | never served past that life |
/// | `stale-while-revalidate`, `stale-if-error` | the cache's windows are cut to these |
/// | `ETag` | the validator |
///
/// Stale windows are a setting of the whole cache, so a response that allows shorter ones is given a life
/// that is shorter by the difference: what then counts as stale here is still fresh for the upstream. (A
/// response whose life is shorter than that is not stored: for upstreams that send `must-revalidate` or
/// `s-maxage` with short lives, build a cache without windows.) A window longer than the cache's is not used.
/// If the response says nothing, the cache's own apply, as the operator's choice (RFC 9111, 4.2.4).
///
/// What cannot be read is ignored, except a life or a window, which then counts as over (`Expires: 0` is a
/// usual one). `Pragma` and heuristics by `Last-Modified` are not used. What varies by request (`Vary`,
/// `Authorization`) has to be part of the key, or not be cached: only the caller can see to that.
#[derive(Debug, Clone)]
pub struct Upstream {
    is_shared: bool,
    /// The cache's own life and windows.
    time_to_live: Duration,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
}

impl Upstream {
    /// Makes one for responses that are to be stored in `cache`, for one user: `private` ones may be stored.
    pub fn of<K, V, S>(cache: &Cache<K, V, S>) -> Self {
        let lives = cache.store.lives();
        Self {
            is_shared: false,
            time_to_live: duration(lives.ttl),
            stale_while_revalidate: duration(lives.windows.revalidate),
            stale_if_error: duration(lives.windows.on_error),
        }
    }

    /// Says that the cache serves many users: `private` responses are not stored, and `s-maxage` and
    /// `proxy-revalidate` count.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// Returns a loader's result for a value that came with these header fields.
    pub fn loaded<V>(&self, value: V, headers: &HeaderMap) -> Loaded<V> {
        self.apply(Loaded::new(value), headers)
    }

    /// Returns a loader's result for `304 Not Modified`, the response to a conditional request: the cached
    /// value begins a new life, as these header fields say.
    pub fn unchanged<V>(&self, headers: &HeaderMap) -> Loaded<V> {
        self.apply(Loaded::unchanged(), headers)
    }

    /// Returns what to send as `If-None-Match`, if a version is cached that this load may confirm: then the
    /// upstream may answer `304`.
    pub fn if_none_match<V>(&self, cx: &LoadCx<V>) -> Option<HeaderValue> {
        let tag = cx.validator().filter(|tag| opaque(tag).is_some())?;
        let bytes: Option<Vec<u8>> = tag.chars().map(|c| u8::try_from(c).ok()).collect();
        HeaderValue::from_bytes(&bytes?).ok()
    }

    fn apply<V>(&self, mut loaded: Loaded<V>, headers: &HeaderMap) -> Loaded<V> {
        if let Some(tag) = entity_tags(headers, ETAG).first().filter(|tag| opaque(tag).is_some()) {
            loaded = loaded.validator(tag.as_str());
        }
        let control = CacheControl::of(headers);
        let varies = members(headers, VARY).iter().any(|name| name == "*");
        if control.no_store || varies || control.private && self.is_shared {
            return loaded.no_store();
        }
        if control.no_cache {
            return loaded.ttl(Duration::ZERO);
        }
        let shared = control.s_maxage.filter(|_| self.is_shared);
        // of several the first; what is no number is none (RFC 9111, 5.1)
        let age = members(headers, AGE).first().and_then(|age| seconds(age)).unwrap_or(0);
        let life = shared.or(control.max_age).map(Duration::from_secs).or_else(|| by_date(headers));
        let left = life.map(|life| life.saturating_sub(Duration::from_secs(age)));
        let strict = control.must_revalidate
            || self.is_shared && (control.proxy_revalidate || shared.is_some());
        let excess = |window: Duration, allowed: Option<u64>| {
            let allowed = if strict { Some(0) } else { allowed };
            allowed.map_or(Duration::ZERO, |s| window.saturating_sub(Duration::from_secs(s)))
        };
        let excess = excess(self.stale_while_revalidate, control.stale_while_revalidate)
            .max(excess(self.stale_if_error, control.stale_if_error));
        match left {
            Some(left) => loaded.ttl(left.saturating_sub(excess)),
            // the cache's own life does not end, or nothing is to be taken off it
            None if excess.is_zero() || self.time_to_live == Duration::MAX => loaded,
            None => loaded.ttl(self.time_to_live.saturating_sub(excess)),
        }
    }
}

/// The life that `Expires` gives, from when the response was made (RFC 9111, 4.2.1 and 5.3). The dates have
/// whole seconds; a response without its own `Date` is made now.
fn by_date(headers: &HeaderMap) -> Option<Duration> {
    let date = |field: &HeaderValue| httpdate::parse_http_date(field.to_str().ok()?).ok();
    let Some(until) = date(headers.get(EXPIRES)?) else { return Some(Duration::ZERO) };
    let made = headers.get(DATE).and_then(date).unwrap_or_else(SystemTime::now);
    Some(until.duration_since(made).unwrap_or(Duration::ZERO))
}
