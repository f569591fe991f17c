//! Parsing header fields, whatever they contain.

use http::HeaderMap;
use http::header::{AsHeaderName, HeaderValue};

/// The largest number of seconds that differs from "for ever" (RFC 9111, 1.2.2).
const MOST: u64 = 1 << 31;

/// The members of a list, of all lines of the field, in order: split at commas that are not within
/// a quoted string. What is no text is left out.
pub(super) fn members(headers: &HeaderMap, name: impl AsHeaderName) -> Vec<String> {
    listed(headers, name, true)
}

/// The same for a list of entity tags. In these a backslash is a character like any other, the last one too
/// (RFC 9110, 8.8.3).
pub(super) fn entity_tags(headers: &HeaderMap, name: impl AsHeaderName) -> Vec<String> {
    listed(headers, name, false)
}

fn listed(headers: &HeaderMap, name: impl AsHeaderName, escapes: bool) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(text);
    lines.flat_map(|line| split(&line, escapes)).collect()
}

/// Header values are bytes; those beyond ASCII keep their place.
fn text(line: &HeaderValue) -> Option<String> {
    let text: String = line.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    (!text.trim().is_empty()).then_some(text)
}

/// `escapes` says whether a backslash keeps a quote after it from ending a quoted string.
fn split(line: &str, escapes: bool) -> Vec<String> {
    let (mut members, mut member) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            ',' if !quoted => members.push(std::mem::take(&mut member)),
            _ => member.push(c),
        }
        (quoted, escaped) = match c {
            _ if escaped => (quoted, false),
            '\\' if quoted && escapes => (quoted, true),
            '"' => (!quoted, false),
            _ => (quoted, false),
        };
    }
    members.push(member);
    members.retain(|member| !member.trim().is_empty());
    members.iter().map(|member| member.trim().to_owned()).collect()
}

/// What a `Cache-Control` says, as far as it matters to a cache.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "that is what it is made of")]
pub(super) struct CacheControl {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
}

impl CacheControl {
    /// Directives that are unknown are left out, of one that comes twice the first one counts, and
    /// a time that cannot be read is over (RFC 9111, 4.2.1).
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut all = Self::default();
        for member in members(headers, http::header::CACHE_CONTROL) {
            let (name, value) = match member.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (member.as_str(), None),
            };
            let seconds = || Some(value.and_then(|value| seconds(unquoted(value))).unwrap_or(0));
            match name.to_ascii_lowercase().as_str() {
                "no-store" => all.no_store = true,
                // with names of fields, too: "many caches do not" tell these apart (5.2.2.4)
                "no-cache" => all.no_cache = true,
                "private" => all.private = true,
                "must-revalidate" => all.must_revalidate = true,
                "proxy-revalidate" => all.proxy_revalidate = true,
                "max-age" => all.max_age = all.max_age.or_else(seconds),
                "s-maxage" => all.s_maxage = all.s_maxage.or_else(seconds),
                "stale-while-revalidate" => {
                    all.stale_while_revalidate = all.stale_while_revalidate.or_else(seconds);
                }
                "stale-if-error" => all.stale_if_error = all.stale_if_error.or_else(seconds),
                _ => {}
            }
        }
        all
    }
}

fn unquoted(value: &str) -> &str {
    // sent by some although the grammar wants a token, and to be understood (5.2)
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// `delta-seconds`: digits, and nothing else. What is too large is for ever.
pub(super) fn seconds(value: &str) -> Option<u64> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(value.parse().unwrap_or(MOST).min(MOST))
}

/// The `opaque-tag` of an entity tag, without the mark of a weak one; `None` if it is none.
pub(super) fn opaque(tag: &str) -> Option<&str> {
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    let inner = tag.strip_prefix('"')?.strip_suffix('"')?;
    let is_etagc =
        |c: char| c == '!' || ('#'..='~').contains(&c) || ('\u{80}'..='\u{ff}').contains(&c);
    inner.chars().all(is_etagc).then_some(inner)
}
