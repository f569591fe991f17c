//! The names of keys on the server.
//!
//! Entries are at `prefix::name`; the server reports changes of these keys (client-side caching, in broadcast
//! mode). All other keys have a `#` after the prefix. No prefix contains `::` or `#`, so no key of one prefix is
//! in the range of another.

use crate::words::tier_key::TierKey;

/// The longest name of a key or tag that is stored, in bytes.
const LONGEST: usize = 1024;
const LONGEST_PREFIX: usize = 512;

/// A message to other processes. Changes of entries are reported by the server; anything else is sent in the
/// name of a key that is written and deleted for that purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// An entry changed. Sent only if its name is too long to be stored; otherwise the server reports it.
    Changed(&'a str),
    TagRemoved(&'a str),
    TagExpired(&'a str),
    Cleared,
}

/// The names under one prefix.
pub(super) struct Names {
    pub(super) prefix: Box<str>,
    /// The two tracked ranges of keys: entries and messages.
    pub(super) entries: Box<str>,
    pub(super) news: Box<str>,
    /// A hash: `seq` is the number of the last change of a tag or of everything, `born` that of the last change
    /// of everything.
    pub(super) meta: Box<str>,
    /// Where a script puts an entry, which a plain `RENAME` then moves to its key: see
    /// [`scripts`](super::scripts).
    pub(super) tray: Box<str>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Result<Self, &'static str> {
        if prefix.is_empty() {
            return Err("`prefix` is missing: say what is kept, and in which version of its types");
        }
        if prefix.len() > LONGEST_PREFIX {
            return Err("`prefix` is longer than 512 bytes");
        }
        if prefix.contains("::") || prefix.ends_with(':') || prefix.contains('#') {
            return Err("`prefix` must not contain `::` or `#`, nor end with `:`");
        }
        Ok(Self {
            prefix: prefix.into(),
            entries: format!("{prefix}::").into(),
            news: format!("{prefix}#news:").into(),
            meta: format!("{prefix}#meta").into(),
            tray: format!("{prefix}#tray").into(),
        })
    }

    /// The key of an entry; `None` if the name is too long.
    pub(super) fn entry(&self, key: &TierKey) -> Option<String> {
        let name = key.as_str();
        (name.len() <= LONGEST).then(|| format!("{}{name}", self.entries))
    }

    pub(super) fn lease(&self, key: &TierKey) -> String {
        format!("{}#lease:{}", self.prefix, key.as_str())
    }

    /// The key that notes when a tag was last removed and expired.
    pub(super) fn marker(&self, tag: &str) -> String {
        format!("{}#tag:{tag}", self.prefix)
    }

    pub(super) fn keeps_tag(tag: &str) -> bool {
        tag.len() <= LONGEST
    }

    /// The key that carries a message. `origin` makes it different for every sender: if two clients change one
    /// key at once, the server reports only one of the changes.
    pub(super) fn word(&self, origin: &str, word: Word<'_>) -> String {
        let news = &self.news;
        match word {
            Word::Changed(key) => format!("{news}{origin}:k:{key}"),
            Word::TagRemoved(tag) => format!("{news}{origin}:t:{tag}"),
            Word::TagExpired(tag) => format!("{news}{origin}:x:{tag}"),
            Word::Cleared => format!("{news}{origin}:c"),
        }
    }

    /// Parses the name of a changed key; `None` for our own messages and foreign keys.
    pub(super) fn read<'a>(&self, origin: &str, name: &'a [u8]) -> Option<Word<'a>> {
        // not UTF-8: not written by a tier
        let name = std::str::from_utf8(name).ok()?;
        if let Some(key) = name.strip_prefix(&*self.entries) {
            return Some(Word::Changed(key));
        }
        let (from, word) = name.strip_prefix(&*self.news)?.split_once(':')?;
        if from == origin {
            return None;
        }
        Some(match word.split_once(':') {
            Some(("k", key)) => Word::Changed(key),
            Some(("t", tag)) => Word::TagRemoved(tag),
            Some(("x", tag)) => Word::TagExpired(tag),
            None if word == "c" => Word::Cleared,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_could_overlap_are_refused() {
        for prefix in ["", "a::b", "a:", "::", "a#b", "#", &"x".repeat(513)] {
            assert!(Names::new(prefix).is_err(), "{prefix}");
        }
        for prefix in ["a", "a:b", ":a", "shop:users:v3", "ä"] {
            assert!(Names::new(prefix).is_ok(), "{prefix}");
        }
    }

    #[test]
    fn what_is_written_is_heard_by_others() {
        let names = Names::new("shop:v1").unwrap();
        let tags = [Word::TagRemoved("a:b"), Word::TagExpired(""), Word::TagRemoved("c")];
        for word in tags.into_iter().chain([Word::Cleared, Word::Changed("a:b::c")]) {
            let name = names.word("me", word);
            assert_eq!(names.read("you", name.as_bytes()), Some(word));
            assert_eq!(names.read("me", name.as_bytes()), None);
        }
        let entry = names.entry(&TierKey::of("a::b")).unwrap();
        assert_eq!(names.read("me", entry.as_bytes()), Some(Word::Changed("a::b")));
        for name in ["shop:v1", "shop:v1#news:you", "shop:v1#news:you:z", "shop:v1#meta", ""] {
            assert_eq!(names.read("me", name.as_bytes()), None, "{name}");
        }
        assert_eq!(names.read("me", b"shop:v1::\xFF"), None);
    }

    #[test]
    fn long_names_are_not_kept() {
        let names = Names::new("p").unwrap();
        assert!(names.entry(&TierKey::of(&"k".repeat(1024))).is_some());
        assert!(names.entry(&TierKey::of(&"k".repeat(1025))).is_none());
    }
}
