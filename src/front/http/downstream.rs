//! Header fields of responses with cached values.

use super::directives::{entity_tags, opaque};
use crate::rules::got::{Got, How, StaleWhy};
use http::header::{AGE, CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write;
use std::time::Duration;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The `max-age` of values that never expire: a year, as is usual.
const YEAR: u64 = 31_536_000;

/// Turns a [`Got`] into the header fields of a response: `Cache-Control`, `Age`, `ETag` and `Cache-Status`.
///
/// ```
/// use http::HeaderMap;
/// use larder::{Cache, Downstream, Loaded};
/// use std::time::Duration;
///
/// let pages: Cache<String, String> =
///     Cache::builder().max_entries(100).time_to_live(Duration::from_secs(60)).build()?;
/// let http = Downstream::new("larder");
/// let got = pages.at("/").load(|_| {
///     Ok::<_, std::io::Error>(Loaded::new("<h1>Hello</h1>".to_owned()).validator("\"v1\""))
/// }).unwrap();
///
/// let fields = http.headers(&got);
/// assert_eq!(fields["cache-control"], "max-age=60");
/// assert_eq!(fields["etag"], "\"v1\"");
/// assert_eq!(fields["cache-status"], "larder; fwd=miss; stored; ttl=60");
///
/// let mut request = HeaderMap::new();
/// request.insert("if-none-match", "\"v1\"".parse().unwrap());
/// assert!(http.is_not_modified(&request, &got)); // answer 304, with `fields` and no body
/// # Ok::<_, larder::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Downstream {
    /// As it stands in `Cache-Status`.
    name: String,
    private: bool,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
}

impl Downstream {
    /// Makes one that calls the cache `name` in `Cache-Status`, for people who debug a chain of caches.
    /// Characters that cannot stand there (control characters, and what is beyond ASCII) are left out.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self {
            name: bare_item(name.as_ref()),
            private: false,
            stale_while_revalidate: None,
            stale_if_error: None,
        }
    }

    /// Adds `private` to `Cache-Control`: for responses to one user, which no shared cache may store.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Adds `stale-while-revalidate` (RFC 5861): for how long those who store the response may serve it after
    /// it has expired, while they ask again. It is added for every fresh value: a value does not carry what
    /// its upstream said about windows (`must-revalidate`, say), so use a `Downstream` without it for values
    /// that may have none.
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = Some(window);
        self
    }

    /// Adds `stale-if-error` (RFC 5861): for how long those who store the response may serve it after it has
    /// expired, when they ask again and get an error.
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = Some(window);
        self
    }

    /// Returns the header fields of a response with this value.
    ///
    /// * `Age` is the part of the value's life that is over, in seconds, and `Cache-Control: max-age` that and
    ///   what is left, each rounded down: whoever stores the response has the rest, and not more. A value that
    ///   never expires is given a year, a stale one no time at all and no windows. A value that was loaded and
    ///   not stored (its upstream said `no-store`, or something newer was written meanwhile) gets `no-store`,
    ///   as does a fallback.
    /// * `ETag` is the value's validator, in quotes if it is not an entity tag already; if there is no
    ///   validator, or it cannot be written so, there is no `ETag`.
    /// * `Cache-Status` (RFC 9211) says how the value was obtained. For one that was served stale, `detail`
    ///   says why.
    ///
    /// They belong in a `304` too (RFC 9110, 15.4.5).
    pub fn headers<V>(&self, got: &Got<V>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        let age = got.age.as_secs();
        let left = got.fresh_for.as_secs();
        // an age comes from wherever the value does, and may be any
        let life = age.saturating_add(if got.fresh_for == Duration::MAX { YEAR } else { left });
        let control = match got.how {
            // not stored here, so that nobody else is to store it either
            How::Loaded | How::Joined | How::Tier | How::Fallback if got.fresh_for.is_zero() => {
                "no-store".to_owned()
            }
            _ => self.control(life, !got.fresh_for.is_zero()),
        };
        set(&mut headers, CACHE_CONTROL, &control);
        set(&mut headers, AGE, &age.to_string());
        if let Some(tag) = got.validator.as_deref().and_then(entity_tag) {
            set(&mut headers, ETAG, &tag);
        }
        set(&mut headers, CACHE_STATUS, &format!("{}; {}", self.name, status(got)));
        headers
    }

    fn control(&self, life: u64, is_fresh: bool) -> String {
        let mut control = format!("max-age={life}");
        if self.private {
            control.insert_str(0, "private, ");
        }
        let windows = [
            ("stale-while-revalidate", self.stale_while_revalidate),
            ("stale-if-error", self.stale_if_error),
        ];
        for (name, window) in windows {
            // what is stale already would be so for both windows, this cache's and the next one's
            if let Some(window) = window.filter(|_| is_fresh) {
                _ = write!(control, ", {name}={}", window.as_secs().min(1 << 31));
            }
        }
        control
    }

    /// Returns whether the response to a request with these fields is `304 Not Modified`: its `If-None-Match`
    /// names this value's version, or any version by `*` (RFC 9110, 13.1.2; weak comparison). For `GET` and
    /// `HEAD`. A field that cannot be read matches nothing.
    pub fn is_not_modified<V>(&self, request: &HeaderMap, got: &Got<V>) -> bool {
        let wanted = entity_tags(request, IF_NONE_MATCH);
        if wanted.iter().any(|tag| tag == "*") {
            return wanted.len() == 1;
        }
        let Some(own) = got.validator.as_deref().and_then(entity_tag) else { return false };
        wanted.iter().any(|tag| opaque(tag).is_some_and(|tag| Some(tag) == opaque(&own)))
    }
}

/// What RFC 9211 has for how a value came.
fn status<V>(got: &Got<V>) -> String {
    let ttl = match got.fresh_for {
        Duration::MAX => String::new(),
        left => format!("; ttl={}", left.as_secs()),
    };
    let stored = if got.fresh_for.is_zero() { "" } else { "; stored" };
    match got.how {
        How::Fresh => format!("hit{ttl}"),
        How::Loaded if stored.is_empty() => "fwd=miss".to_owned(),
        How::Loaded => format!("fwd=miss{stored}{ttl}"),
        How::Joined => "fwd=miss; collapsed".to_owned(),
        How::Tier => format!("hit{ttl}; detail=second-tier"),
        How::Fallback => "fwd=miss; detail=fallback".to_owned(),
        // it was asked for again, in vain
        How::Stale(StaleWhy::LoadFailed) => "fwd=stale; detail=load-failed".to_owned(),
        How::Stale(why) => format!("hit; detail={}", detail(why)),
    }
}

fn detail(why: StaleWhy) -> &'static str {
    match why {
        StaleWhy::Revalidating => "revalidating",
        StaleWhy::LoadFailed => "load-failed",
        StaleWhy::BackOff => "back-off",
        StaleWhy::SoftTimeout => "soft-timeout",
        StaleWhy::Overloaded => "overloaded",
        StaleWhy::CircuitOpen => "circuit-open",
        StaleWhy::Expired => "expired",
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // made of what may stand in a field; a validator has been looked at
    let bytes: Vec<u8> = value.chars().filter_map(|c| u8::try_from(c).ok()).collect();
    if let Ok(value) = HeaderValue::from_bytes(&bytes) {
        headers.insert(name, value);
    }
}

/// A validator as an entity tag.
fn entity_tag(validator: &str) -> Option<String> {
    if opaque(validator).is_some() {
        return Some(validator.to_owned());
    }
    let quoted = format!("\"{validator}\"");
    opaque(&quoted).is_some().then_some(quoted)
}

/// A token where it is one, else a string in quotes (RFC 8941).
fn bare_item(name: &str) -> String {
    let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c);
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '*');
    if begins && name.chars().all(is_tchar) {
        return name.to_owned();
    }
    let mut quoted = String::from('"');
    for c in name.chars().filter(|c| (' '..='~').contains(c)) {
        if c == '"' || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}
