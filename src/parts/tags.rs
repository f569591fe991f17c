//! Tags: names under which entries can be removed or expired together, whatever their number.
//!
//! Nobody keeps a list of a tag's entries. A tag remembers, as a version, when something last happened to it,
//! and an entry when its load started; a look-up compares the two. So a removal writes a few words, and the
//! removed entries are freed later.
//!
//! Versions count removals and expiries of tags; they are no clock. One counter serves all tags, so that an
//! entry with several tags has one version, and a load need not know its tags when it starts.

use crate::words::sync::Mutex;
use crate::words::sync::atomic::{AtomicU64, Ordering};
use crate::words::tick::Tick;
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// A point between two events of tags.
pub(crate) type Version = u64;

/// All tags of a cache.
pub(crate) struct Tags {
    version: AtomicU64,
    known: Mutex<Known>,
}

struct Known {
    tags: HashTable<Arc<TagRecord>>,
    hasher: ahash::RandomState,
    /// What happened to tags without a record, dropped or never made, by the hash of their name; empty until
    /// something has. A tag that is named for the first time begins with this: a load may name a tag that was
    /// removed while it ran. Names that share a place cause a few loads too many.
    others: Vec<Past>,
    /// How many tags there may be before those that no entry has are dropped.
    limit: usize,
}

/// How many places `others` has. With one, a feed that keeps removing tags that are not cached would keep
/// every load that names a new tag from being stored.
const PLACES: usize = 64;

/// Unused tags are looked for when there are twice as many tags as were in use at the last look, and this
/// many at least.
const FEW: usize = 64;

/// One tag: its name, and what happened to it.
struct TagRecord {
    name: Box<str>,
    hash: u64,
    /// The version of its last event: all that a look-up of a fresh entry reads.
    last: AtomicU64,
    past: Mutex<Past>,
}

/// What happened, and when: removals and expiries.
#[derive(Clone, Debug, Default)]
struct Past {
    removed: History,
    expired: History,
}

impl Past {
    fn last(&self) -> Version {
        self.removed.last().max(self.expired.last())
    }

    /// Adds what happened to another tag.
    fn absorb(&mut self, other: &Self) {
        self.removed.absorb(&other.removed);
        self.expired.absorb(&other.expired);
    }
}

/// The versions and ticks of events; only the last few are exact.
///
/// Older ones are merged, in favour of an earlier end: a question for the first event after a version that
/// old may be answered with an event before it. That ends the stale windows too early of an entry that was
/// not reloaded although its tags were expired so many times.
#[derive(Clone, Debug, Default)]
struct History {
    events: VecDeque<(Version, Tick)>,
    /// The first of them stands for all before it.
    is_merged: bool,
}

/// How many events are kept apart.
const KEPT: usize = 8;

impl History {
    fn last(&self) -> Version {
        self.events.back().map_or(0, |(version, _)| *version)
    }

    fn push(&mut self, version: Version, at: Tick) {
        self.events.push_back((version, at));
        if self.events.len() > KEPT {
            self.merge();
        }
    }

    fn merge(&mut self) {
        if let Some((_, at)) = self.events.pop_front() {
            if let Some((_, first)) = self.events.front_mut() {
                *first = at.min(*first);
                self.is_merged = true;
            }
        }
    }

    /// The first event after `since`; if that is not known, one that is not later.
    fn first_after(&self, since: Version) -> Option<(Version, Tick)> {
        let place = self.events.iter().position(|(version, _)| *version > since)?;
        let (version, at) = self.events[place];
        let is_exact = place > 0 || !self.is_merged;
        Some((if is_exact { version } else { since + 1 }, at))
    }

    /// As if both had happened to one tag.
    fn absorb(&mut self, other: &Self) {
        if other.events.is_empty() {
            return;
        }
        let mut events: Vec<_> = self.events.iter().chain(&other.events).copied().collect();
        events.sort_unstable();
        // events that one of them has merged may lie between the other's
        if self.is_merged || other.is_merged {
            let merged = [&*self, other].into_iter().filter(|history| history.is_merged);
            let upto = merged.filter_map(|history| history.events.front()).max().copied();
            let earliest = events.iter().map(|(_, at)| *at).min();
            if let (Some((upto, _)), Some(earliest)) = (upto, earliest) {
                events.retain(|(version, _)| *version >= upto);
                if let Some((_, at)) = events.first_mut() {
                    *at = earliest;
                }
            }
        }
        self.is_merged |= other.is_merged;
        self.events = events.into();
        while self.events.len() > KEPT {
            self.merge();
        }
    }
}

/// What has happened to an entry's tags since its load started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagFate {
    Untouched,
    /// One of them was expired, for the first time at this tick.
    Expired(Tick),
    /// One of them was removed.
    Removed,
}

/// The records of some tags.
#[derive(Clone)]
pub(crate) struct FoundTags(Arc<[Arc<TagRecord>]>);

/// The tags of one entry, and when its load started.
#[derive(Clone)]
pub(crate) struct Tagged {
    names: FoundTags,
    since: Version,
}

impl Tags {
    pub(crate) fn new() -> Self {
        let known = Known {
            tags: HashTable::new(),
            // names are the user's: keyed from the operating system's randomness
            hasher: ahash::RandomState::new(),
            others: Vec::new(),
            limit: FEW,
        };
        Self { version: AtomicU64::new(0), known: Mutex::new(known) }
    }

    /// The current version. Whatever happens to a tag from here on has a later one.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        self.version.load(Ordering::SeqCst)
    }

    /// The same, once every event of an earlier version is visible to all.
    pub(crate) fn settled(&self) -> Version {
        let _known = self.known.lock();
        self.version()
    }

    /// Finds the tags of these names, and makes those that do not exist yet. `None` for no names.
    pub(crate) fn find<'t>(&self, names: impl Iterator<Item = &'t str>) -> Option<FoundTags> {
        let mut names = names.peekable();
        names.peek()?;
        let mut known = self.known.lock();
        let mut found: Vec<Arc<TagRecord>> = names.map(|name| known.find_or_make(name)).collect();
        drop(known);
        found.sort_unstable_by_key(Arc::as_ptr);
        found.dedup_by(|one, other| Arc::ptr_eq(one, other));
        Some(FoundTags(found.into()))
    }

    /// From now on, entries with this tag count as removed.
    pub(crate) fn remove(&self, name: &str) {
        self.happens(name, 0, |past| &mut past.removed);
    }

    /// From now on, entries with this tag are not fresh any more.
    pub(crate) fn expire(&self, name: &str, now: Tick) {
        self.happens(name, now, |past| &mut past.expired);
    }

    fn happens(&self, name: &str, at: Tick, what: fn(&mut Past) -> &mut History) {
        let mut known = self.known.lock();
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        let hash = known.hasher.hash_one(name);
        if let Some(tag) = known.get(hash, name) {
            what(&mut tag.past.lock()).push(version, at);
            tag.last.store(version, Ordering::SeqCst);
        } else {
            what(place(&mut known.others, hash)).push(version, at);
        }
    }

    /// Drops the tags that no entry has and no load names.
    pub(crate) fn sweep(&self) {
        self.known.lock().sweep();
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.known.lock().tags.len()
    }
}

fn place(others: &mut Vec<Past>, hash: u64) -> &mut Past {
    if others.is_empty() {
        others.resize(PLACES, Past::default());
    }
    &mut others[hash as usize % PLACES]
}

impl Known {
    fn get(&self, hash: u64, name: &str) -> Option<&Arc<TagRecord>> {
        self.tags.find(hash, |tag| &*tag.name == name)
    }

    fn find_or_make(&mut self, name: &str) -> Arc<TagRecord> {
        let hash = self.hasher.hash_one(name);
        if let Some(tag) = self.get(hash, name) {
            return Arc::clone(tag);
        }
        if self.tags.len() >= self.limit {
            self.sweep();
        }
        let past = self.others.get(hash as usize % PLACES).cloned().unwrap_or_default();
        let last = AtomicU64::new(past.last());
        let tag = Arc::new(TagRecord { name: name.into(), hash, last, past: Mutex::new(past) });
        self.tags.insert_unique(hash, Arc::clone(&tag), |tag| tag.hash);
        tag
    }

    fn sweep(&mut self) {
        let others = &mut self.others;
        self.tags.retain(|tag| {
            // handles are made under the lock that we hold, or cloned from another handle
            let is_used = Arc::strong_count(tag) > 1;
            if !is_used {
                let past = tag.past.lock();
                if past.last() > 0 {
                    place(others, tag.hash).absorb(&past);
                }
            }
            is_used
        });
        self.limit = (self.tags.len() * 2).max(FEW);
        if self.tags.capacity() > self.limit * 4 {
            self.tags.shrink_to(self.limit, |tag| tag.hash);
        }
    }
}

impl FoundTags {
    /// The tags of a value whose load or write began at that version.
    pub(crate) fn since(self, since: Version) -> Tagged {
        Tagged { names: self, since }
    }

    /// The union of both.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.0.iter().chain(&*other.0).cloned().collect();
        all.sort_unstable_by_key(Arc::as_ptr);
        all.dedup_by(|one, other| Arc::ptr_eq(one, other));
        Self(all.into())
    }

    /// The version of the first event of any of them after `since`.
    pub(crate) fn first_after(&self, since: Version) -> Option<Version> {
        let tags = self.0.iter().filter(|tag| tag.last.load(Ordering::SeqCst) > since);
        let first = |tag: &Arc<TagRecord>| {
            let past = tag.past.lock();
            let both = [&past.removed, &past.expired].map(|history| history.first_after(since));
            both.into_iter().flatten().map(|(version, _)| version).min()
        };
        tags.filter_map(first).min()
    }
}

impl Tagged {
    #[inline]
    pub(crate) fn fate(&self) -> TagFate {
        let is_past = |tag: &Arc<TagRecord>| tag.last.load(Ordering::SeqCst) > self.since;
        if self.names.0.iter().any(is_past) { self.judge() } else { TagFate::Untouched }
    }

    #[cold]
    fn judge(&self) -> TagFate {
        let mut fate = TagFate::Untouched;
        for tag in &*self.names.0 {
            let past = tag.past.lock();
            if past.removed.last() > self.since {
                return TagFate::Removed;
            }
            if let Some((_, at)) = past.expired.first_after(self.since) {
                fate = match fate {
                    TagFate::Expired(earlier) => TagFate::Expired(at.min(earlier)),
                    _ => TagFate::Expired(at),
                };
            }
        }
        fate
    }

    /// The version of the first event of any of them since the load started, if there was one.
    pub(crate) fn first_change(&self) -> Option<Version> {
        self.names.first_after(self.since)
    }

    pub(crate) fn into_names(self) -> FoundTags {
        self.names
    }

    /// Their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.0.iter().map(|tag| &*tag.name)
    }
}

impl fmt::Debug for Tagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // names are the user's data: never in logs
        f.debug_struct("Tagged").field("since", &self.since).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tagged(tags: &Tags, names: &[&str]) -> Tagged {
        let since = tags.version();
        tags.find(names.iter().copied()).unwrap().since(since)
    }

    #[test]
    fn what_was_loaded_before_goes_and_what_was_loaded_after_stays() {
        let tags = Tags::new();
        let (one, both) = (tagged(&tags, &["a"]), tagged(&tags, &["a", "b"]));
        tags.remove("b");
        let after = tagged(&tags, &["b"]);
        let fates = [&one, &both, &after].map(Tagged::fate);
        assert_eq!(fates, [TagFate::Untouched, TagFate::Removed, TagFate::Untouched]);
        tags.expire("a", 7);
        tags.expire("a", 9);
        assert_eq!(one.fate(), TagFate::Expired(7), "and not later, however often");
        assert_eq!(both.fate(), TagFate::Removed);
        tags.remove("a");
        assert_eq!(one.fate(), TagFate::Removed);
    }

    #[test]
    fn a_load_may_name_a_tag_that_was_unknown_when_it_started() {
        let tags = Tags::new();
        let (before, names) = (tags.version(), ["new"]);
        tags.remove("new");
        let after = tags.version();
        let find = || tags.find(names.into_iter()).unwrap();
        assert_eq!(find().since(before).fate(), TagFate::Removed);
        assert_eq!(find().since(after).fate(), TagFate::Untouched);
        let others = |n: u32| tags.find([format!("other {n}").as_str()].into_iter()).unwrap();
        let judged = |n| others(n).since(before).fate() == TagFate::Removed;
        assert!((0..1_000).filter(|&n| judged(n)).count() < 100, "few share the place of that");
        tags.expire("other", 5);
        let late = tags.find(["other"].into_iter()).unwrap();
        assert_eq!(late.clone().since(after).fate(), TagFate::Expired(5));
        assert_eq!(late.first_after(after), Some(after + 1));
    }

    #[test]
    fn what_no_entry_has_is_let_go_and_not_forgotten() {
        let tags = Tags::new();
        let before = tags.version();
        let kept = tagged(&tags, &["kept"]);
        drop(tagged(&tags, &["gone"]));
        tags.remove("gone");
        tags.sweep();
        assert_eq!(tags.len(), 1);
        let again = tags.find(["gone"].into_iter()).unwrap();
        assert_eq!(again.since(before).fate(), TagFate::Removed, "it goes on counting");
        assert_eq!(tagged(&tags, &["gone"]).fate(), TagFate::Untouched);
        assert_eq!(kept.fate(), TagFate::Untouched);
    }

    #[test]
    fn there_are_as_many_as_entries_have() {
        let tags = Tags::new();
        let kept: Vec<_> = (0..10).map(|n| tagged(&tags, &[&format!("kept {n}")])).collect();
        for n in 0..100_000 {
            drop(tagged(&tags, &[&format!("passing {n}")]));
        }
        assert!(tags.len() <= FEW, "{} tags", tags.len());
        assert!(tags.known.lock().tags.capacity() <= FEW * 8);
        assert!(kept.iter().all(|tagged| tagged.fate() == TagFate::Untouched));
    }

    #[test]
    fn a_name_that_is_said_twice_is_one_tag() {
        let tags = Tags::new();
        assert_eq!(tagged(&tags, &["a", "b", "a"]).iter().count(), 2);
        let (ab, bc) = (tagged(&tags, &["a", "b"]), tagged(&tags, &["b", "c"]));
        assert_eq!(ab.into_names().and(&bc.into_names()).0.len(), 3);
        assert!(tags.find(std::iter::empty()).is_none());
    }

    proptest! {
        /// Against a history that keeps everything: never later than that, and exact for the last.
        #[test]
        fn a_history_errs_on_the_early_side(
            one in prop::collection::vec(any::<bool>(), 0..40),
            absorbs: bool,
        ) {
            let (mut history, mut other) = (History::default(), History::default());
            let (mut all, mut of_one) = (Vec::new(), 0);
            for (n, is_other) in one.iter().enumerate() {
                let (version, at) = (n as u64 + 1, 100 + n as u64);
                if *is_other && absorbs { &mut other } else { &mut history }.push(version, at);
                all.push((version, at));
                of_one += 1;
            }
            history.absorb(&other);
            for since in 0..=of_one {
                let told = history.first_after(since);
                let exact = all.iter().find(|(version, _)| *version > since).copied();
                prop_assert_eq!(told.is_some(), exact.is_some());
                if let (Some((version, at)), Some(exact)) = (told, exact) {
                    prop_assert!(version <= exact.0 && at <= exact.1 && version > since);
                }
                if !absorbs && since + KEPT as u64 > of_one {
                    prop_assert_eq!(told, exact);
                }
            }
        }
    }
}
