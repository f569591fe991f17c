//! A cache against a naive model of it: a map with times of expiry.

mod common;

use common::{Record, Watchdog, ms};
use larder::{Cache, Clock, How, Loaded, ManualClock, RemovalCause, StaleWhy};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

const TTL: u64 = 40;
const IDLE: u64 = 25;
const NEGATIVE: u64 = 15;
const REVALIDATE: u64 = 10;
const ON_ERROR: u64 = 22;

#[derive(Clone, Debug)]
enum Op {
    Insert(u64),
    InsertFor(u64, u64),
    Get(u64),
    Peek(u64),
    Contains(u64),
    Load(u64),
    LoadFor(u64, u64),
    Fail(u64),
    /// A load that fails, for a caller that wants no older values than so.
    FailFor(u64, u64),
    Force(u64),
    Unchanged(u64),
    Missing(u64),
    Make(u64),
    /// A load during which the key is written, or removed.
    LoadOver(u64, bool),
    /// So many keys from this one on; the source has no multiples of four.
    LoadMany(u64, u64),
    /// A write at the source that succeeds, or fails.
    WriteThrough(u64, bool),
    /// One during which the key is inserted.
    WriteOver(u64),
    /// A load during a write.
    LoadFenced(u64),
    Alter(u64, Change),
    /// Key and tag.
    InsertTagged(u64, u64),
    LoadTagged(u64, u64),
    /// A load during which its tag is removed, or expired.
    LoadOverTag(u64, u64, bool),
    RemoveTag(u64),
    ExpireTag(u64),
    Remove(u64),
    Expire(u64),
    Advance(u64),
    Sweep,
    Clear,
    RemoveIf(u64),
    Entries,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Put,
    /// One that ends when the value before would have.
    PutInstead,
    Remove,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || 0..24_u64;
    let ttl = || 0..60_u64;
    let tag = || 0..3_u64;
    let change = || prop_oneof![Just(Change::Put), Just(Change::PutInstead), Just(Change::Remove)];
    let op = prop_oneof![
        8 => key().prop_map(Op::Insert),
        3 => (key(), ttl()).prop_map(|(key, ttl)| Op::InsertFor(key, ttl)),
        8 => key().prop_map(Op::Get),
        2 => key().prop_map(Op::Peek),
        2 => key().prop_map(Op::Contains),
        6 => key().prop_map(Op::Load),
        3 => (key(), ttl()).prop_map(|(key, ttl)| Op::LoadFor(key, ttl)),
        4 => key().prop_map(Op::Fail),
        2 => (key(), ttl()).prop_map(|(key, age)| Op::FailFor(key, age)),
        1 => key().prop_map(Op::Force),
        3 => key().prop_map(Op::Unchanged),
        3 => key().prop_map(Op::Missing),
        2 => key().prop_map(Op::Make),
        2 => (key(), any::<bool>()).prop_map(|(key, writes)| Op::LoadOver(key, writes)),
        3 => (key(), 0..8_u64).prop_map(|(key, many)| Op::LoadMany(key, many)),
        2 => (key(), any::<bool>()).prop_map(|(key, succeeds)| Op::WriteThrough(key, succeeds)),
        1 => key().prop_map(Op::WriteOver),
        1 => key().prop_map(Op::LoadFenced),
        5 => (key(), change()).prop_map(|(key, change)| Op::Alter(key, change)),
        4 => (key(), tag()).prop_map(|(key, tag)| Op::InsertTagged(key, tag)),
        3 => (key(), tag()).prop_map(|(key, tag)| Op::LoadTagged(key, tag)),
        1 => (key(), tag(), any::<bool>()).prop_map(|(key, tag, removes)| {
            Op::LoadOverTag(key, tag, removes)
        }),
        2 => tag().prop_map(Op::RemoveTag),
        1 => tag().prop_map(Op::ExpireTag),
        4 => key().prop_map(Op::Remove),
        2 => key().prop_map(Op::Expire),
        6 => (1..20_u64).prop_map(Op::Advance),
        1 => Just(Op::Sweep),
        1 => Just(Op::Clear),
        1 => (2..6_u64).prop_map(Op::RemoveIf),
        2 => Just(Op::Entries),
    ];
    prop::collection::vec(op, 1..150)
}

/// What stands under a key. `None` for "not found".
#[derive(Clone, Copy, Debug)]
struct Standing {
    value: Option<u64>,
    stored: u64,
    expiry: u64,
    used: u64,
}

/// Which settings a cache has.
#[derive(Clone, Copy, Debug)]
struct Kind {
    shards: usize,
    idle: bool,
    weighted: bool,
    windows: bool,
}

struct Rig {
    cache: Cache<u64, u64>,
    hand: ManualClock,
    removals: Record<u64, u64>,
    /// Whether entries may have to make room: then what the model has may be gone.
    evicts: bool,
    idle: bool,
    /// Whether what has expired is kept for a while.
    windows: bool,
    now: u64,
    next: u64,
    model: BTreeMap<u64, Standing>,
    /// The tags of values; each of these is told apart.
    tags: BTreeMap<u64, u64>,
    /// Every value that was given to the cache to keep, and has not been reported.
    held: BTreeSet<(u64, u64)>,
}

impl Rig {
    fn new(evicts: bool, kind: Kind) -> Self {
        let Kind { shards, idle, weighted, windows } = kind;
        let (clock, hand) = Clock::manual();
        let removals = Record::new();
        let builder = Cache::builder()
            .shards(shards)
            .time_to_live(ms(TTL))
            .negative_ttl(ms(NEGATIVE))
            .error_backoff(ms(0), ms(0))
            .clock(clock)
            .seed(3)
            .on_removal(removals.listener());
        let builder = if idle { builder.time_to_idle(ms(IDLE)) } else { builder };
        let builder = if windows {
            builder.stale_while_revalidate(ms(REVALIDATE)).stale_if_error(ms(ON_ERROR))
        } else {
            builder
        };
        let most = if evicts { 10 } else { 1_000 };
        let builder = if weighted {
            builder.max_weight(most).weigher(|_, value| value % 4)
        } else {
            builder.max_entries(most)
        };
        Self {
            cache: builder.build().unwrap(),
            hand,
            removals,
            evicts,
            idle,
            windows,
            now: 0,
            next: 0,
            model: BTreeMap::new(),
            tags: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    fn fresh(&self, key: u64) -> Option<Standing> {
        let standing = self.model.get(&key).copied()?;
        let idle = if self.idle && standing.value.is_some() { IDLE } else { u64::MAX - self.now };
        (self.now < standing.expiry && self.now < standing.used.saturating_add(idle))
            .then_some(standing)
    }

    /// A value past its life and within a window. One that ended by not being used has none.
    fn stale(&self, key: u64) -> Option<Standing> {
        let standing = self.model.get(&key).copied()?;
        let end = standing.expiry + REVALIDATE.max(ON_ERROR);
        let was_idle = self.idle && standing.used + IDLE < standing.expiry;
        let is_stale = self.windows && standing.expiry <= self.now && self.now < end;
        (is_stale && !was_idle && standing.value.is_some()).then_some(standing)
    }

    /// As [`known`](Self::known), for what may be served if a load fails.
    fn servable(&mut self, key: u64) -> Option<Standing> {
        let standing = self.stale(key)?;
        if self.evicts && self.cache.peek(&key).is_none() {
            self.model.remove(&key);
            return None;
        }
        Some(standing)
    }

    fn value(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A value was given to the cache to be kept for `ttl`.
    fn store(&mut self, key: u64, value: u64, ttl: u64) {
        if ttl == 0 {
            self.model.remove(&key);
        } else {
            let (stored, used) = (self.now, self.now);
            let expiry = self.now + ttl;
            self.model.insert(key, Standing { value: Some(value), stored, expiry, used });
        }
    }

    /// What the cache says against what the model says. Where entries may be evicted, nothing is
    /// an answer too, and the model learns of it.
    fn compare(&mut self, key: u64, got: Option<u64>, uses: bool) {
        let expected = self.fresh(key).and_then(|standing| standing.value);
        if self.evicts && got.is_none() {
            // but a "not found" may still stand, and what a window keeps
            if expected.is_some() {
                self.model.remove(&key);
            }
            return;
        }
        assert_eq!(got, expected, "key {key} at {} ms", self.now);
        if let Some(standing) = self.model.get_mut(&key).filter(|_| uses && got.is_some()) {
            standing.used = self.now;
        }
    }

    /// What any front that may load will answer from what is there; `None` if it will load.
    fn known(&mut self, key: u64) -> Option<Standing> {
        let standing = self.fresh(key)?;
        if self.evicts && !self.stands(key, standing) {
            self.model.remove(&key);
            return None;
        }
        if let Some(standing) = self.model.get_mut(&key) {
            standing.used = self.now;
        }
        Some(standing)
    }

    /// Whether what stood there has not been evicted. A "not found" only shows when it is used.
    fn stands(&self, key: u64, standing: Standing) -> bool {
        match standing.value {
            Some(_) => self.cache.contains(&key),
            None => self.cache.get_or_load_optional(&key, || Err("evicted")).is_ok(),
        }
    }

    fn load(&mut self, key: u64, ttl: Option<u64>) {
        let (value, known) = (self.value(), self.known(key).map(|standing| standing.value));
        let at = self.cache.at(&key);
        let at = if let Some(ttl) = ttl { at.ttl(ms(ttl)) } else { at };
        let got = at.load(|_| Ok::<_, String>(value));
        match known {
            None => {
                assert_eq!(got.map(|got| (got.value, got.how)).unwrap(), (value, How::Loaded));
                let ttl = ttl.unwrap_or(TTL);
                self.store(key, value, ttl);
                if ttl > 0 {
                    self.held.insert((key, value));
                }
            }
            Some(None) => assert!(got.unwrap_err().is_not_found()),
            Some(Some(known)) => {
                let got = got.unwrap();
                assert_eq!((got.value, got.how), (known, How::Fresh));
                assert_eq!(got.age, ms(self.now - self.model[&key].stored));
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert(key) => self.insert(key, None),
            Op::InsertFor(key, ttl) => self.insert(key, Some(ttl)),
            Op::Get(key) => self.compare(key, self.cache.get(&key), true),
            Op::Peek(key) => {
                let got = self.cache.peek(&key);
                match self.servable(key) {
                    None => self.compare(key, got.map(|got| got.value), false),
                    Some(stale) => {
                        let got = got.unwrap();
                        assert_eq!(
                            (Some(got.value), got.how),
                            (stale.value, How::Stale(StaleWhy::Expired))
                        );
                        assert_eq!(got.age, ms(self.now - stale.stored));
                    }
                }
            }
            Op::Contains(key) => {
                let expected = self.fresh(key).is_some_and(|standing| standing.value.is_some());
                let contains = self.cache.contains(&key);
                assert!(contains == expected || self.evicts && !contains);
            }
            Op::Load(key) => self.load(key, None),
            Op::LoadFor(key, ttl) => self.load(key, Some(ttl)),
            Op::Fail(key) => {
                let known = self.known(key);
                let known = known.or_else(|| self.servable(key));
                let got = self.cache.get_or_load_optional(&key, || Err("away".to_owned()));
                match known {
                    Some(known) => assert_eq!(got.unwrap(), known.value),
                    None => assert_eq!(got.unwrap_err().loader().unwrap(), "away"),
                }
            }
            Op::FailFor(key, age) => self.fail_for(key, age),
            Op::Force(key) => self.force(key),
            Op::Unchanged(key) => self.unchanged(key),
            Op::Missing(key) => {
                let known = self.known(key);
                let got = self.cache.get_or_load_optional(&key, || Ok::<_, String>(None));
                assert_eq!(got.unwrap(), known.and_then(|known| known.value));
                if known.is_none() {
                    let (stored, used) = (self.now, self.now);
                    let expiry = self.now + NEGATIVE;
                    self.model.insert(key, Standing { value: None, stored, expiry, used });
                }
            }
            Op::Make(key) => {
                let (value, known) = (self.value(), self.known(key));
                let known = known.and_then(|known| known.value);
                assert_eq!(self.cache.get_or_insert_with(&key, || value), known.unwrap_or(value));
                if known.is_none() {
                    self.store(key, value, TTL);
                    self.held.insert((key, value));
                }
            }
            Op::LoadOver(key, writes) => {
                if self.known(key).is_some() {
                    self.cache.get(&key);
                    return;
                }
                let (loaded, written) = (self.value(), self.value());
                let got = self.cache.get_or_load(&key, || {
                    if writes {
                        self.cache.insert(key, written);
                    } else {
                        self.cache.remove(&key);
                    }
                    Ok::<_, String>(loaded)
                });
                assert_eq!(got.unwrap(), loaded);
                if writes {
                    self.store(key, written, TTL);
                    self.held.insert((key, written));
                } else {
                    self.model.remove(&key);
                }
            }
            Op::LoadMany(from, many) => self.load_many(from, many),
            Op::WriteThrough(key, succeeds) => self.write_through(key, succeeds),
            Op::WriteOver(key) => {
                let (written, inserted) = (self.value(), self.value());
                let write = |_: &u64, _: &u64| {
                    self.cache.insert(key, inserted);
                    Ok::<_, String>(())
                };
                self.cache.write_through(key, written, write).unwrap();
                self.held.insert((key, inserted));
                self.model.remove(&key);
            }
            Op::LoadFenced(key) => {
                let value = self.value();
                let fence = self.cache.writing(&key);
                assert_eq!(self.cache.get_or_insert_with(&key, || value), value);
                assert_eq!(self.cache.get(&key), None);
                drop(fence);
                self.model.remove(&key);
            }
            _ => self.apply_with_tags(op),
        }
    }

    fn apply_with_tags(&mut self, op: &Op) {
        match *op {
            Op::Alter(key, change) => self.alter(key, change),
            Op::InsertTagged(key, tag) => {
                let value = self.value();
                self.cache.at(&key).tag(&tag.to_string()).insert(value);
                self.held.insert((key, value));
                self.store(key, value, TTL);
                self.tags.insert(value, tag);
            }
            Op::LoadTagged(key, tag) => {
                let (value, known) = (self.value(), self.known(key));
                let load = |_: &_| Ok::<_, String>(Loaded::new(value).tag(tag.to_string()));
                let got = self.cache.at(&key).load(load).map(|got| got.value);
                if let Some(known) = known {
                    assert_eq!(got.ok(), known.value);
                    return;
                }
                assert_eq!(got.unwrap(), value);
                self.store(key, value, TTL);
                self.held.insert((key, value));
                self.tags.insert(value, tag);
            }
            Op::LoadOverTag(key, tag, removes) => {
                if self.known(key).is_some() {
                    self.cache.get(&key);
                    return;
                }
                let (value, name) = (self.value(), tag.to_string());
                let load = |_: &_| {
                    if removes {
                        self.cache.remove_tag(&name);
                    } else {
                        self.cache.expire_tag(&name);
                    }
                    Ok::<_, String>(value)
                };
                let got = self.cache.at(&key).tags(["other", &name]).load(load);
                assert_eq!(got.unwrap().value, value);
                self.ends(tag, removes);
            }
            Op::RemoveTag(tag) => {
                self.cache.remove_tag(&tag.to_string());
                self.ends(tag, true);
            }
            Op::ExpireTag(tag) => {
                self.cache.expire_tag(&tag.to_string());
                self.ends(tag, false);
            }
            _ => self.apply_to_many(op),
        }
    }

    fn fail_for(&mut self, key: u64, age: u64) {
        let before = self.model.get(&key).copied();
        let known = self.known(key);
        if let (Some(before), Some(standing)) = (before, self.model.get_mut(&key)) {
            if self.now - before.stored > age {
                // what is refused is not used
                standing.used = before.used;
            }
        }
        let known = known.or_else(|| self.servable(key));
        let known = known.filter(|known| self.now - known.stored <= age);
        let got = self.cache.at(&key).max_age(ms(age)).load(|_| Err::<u64, _>("away"));
        match known {
            Some(Standing { value: Some(value), expiry, .. }) => {
                let got = got.unwrap();
                let fresh = expiry > self.now;
                let stale = How::Stale(StaleWhy::LoadFailed);
                let how = if fresh { How::Fresh } else { stale };
                assert_eq!((got.value, got.how), (value, how));
            }
            Some(_) => assert!(got.unwrap_err().is_not_found()),
            None => assert!(got.unwrap_err().loader().is_some()),
        }
    }

    fn force(&mut self, key: u64) {
        let value = self.value();
        let got = self.cache.at(&key).force().load(|_| Ok::<_, String>(value)).unwrap();
        assert_eq!((got.value, got.how), (value, How::Loaded));
        self.store(key, value, TTL);
        self.held.insert((key, value));
    }

    fn unchanged(&mut self, key: u64) {
        let known = self.known(key);
        let stale = self.servable(key);
        let shown = Cell::new(None);
        let got = self.cache.at(&key).load(|cx| {
            shown.set(cx.stale().copied());
            Ok::<_, String>(Loaded::unchanged())
        });
        match (known, stale) {
            (Some(Standing { value: None, .. }), _) => assert!(got.unwrap_err().is_not_found()),
            (Some(known), _) => assert_eq!(Some(got.unwrap().value), known.value),
            (None, Some(stale)) => {
                let got = got.unwrap();
                assert_eq!((Some(got.value), shown.get()), (stale.value, stale.value));
                self.store(key, got.value, TTL);
            }
            (None, None) => {
                assert!(matches!(got, Err(larder::LoadError::NothingToRenew)));
            }
        }
    }

    /// What has a tag goes, or is not fresh any more.
    fn ends(&mut self, tag: u64, removes: bool) {
        let has = |standing: &Standing| {
            standing.value.is_some_and(|value| self.tags.get(&value) == Some(&tag))
        };
        let keys: Vec<u64> =
            self.model.iter().filter(|(_, standing)| has(standing)).map(|(key, _)| *key).collect();
        for key in keys {
            if removes {
                self.model.remove(&key);
            } else {
                self.expire(key);
            }
        }
    }

    /// Ends the life of what stands there.
    fn expire(&mut self, key: u64) {
        if self.stale(key).is_none() {
            let was_fresh = self.fresh(key).is_some();
            let standing = self.model.remove(&key).filter(|_| self.windows && was_fresh);
            if let Some(standing) = standing.filter(|standing| standing.value.is_some()) {
                self.model.insert(key, Standing { expiry: self.now, ..standing });
            }
        }
    }

    fn load_many(&mut self, from: u64, many: u64) {
        let keys: Vec<u64> = (from..from + many).collect();
        let known: Vec<_> = keys.iter().map(|key| self.known(*key)).collect();
        let mut unknown: Vec<u64> = Vec::new();
        let mut expected = Vec::new();
        for (key, known) in keys.iter().zip(known) {
            match known {
                Some(known) => expected.extend(known.value.map(|value| (*key, value))),
                None => unknown.push(*key),
            }
        }
        let has = |key: &&u64| **key % 4 != 0;
        let reply: Vec<(u64, u64)> =
            unknown.iter().filter(has).map(|key| (*key, self.value())).collect();
        expected.extend(&reply);
        let many = self.cache.get_or_load_many(&keys, |asked| {
            assert_eq!(asked, unknown);
            Ok::<_, String>(reply.clone())
        });
        let mut got: Vec<_> = many.got.iter().map(|(key, got)| (*key, got.value)).collect();
        got.sort_unstable();
        expected.sort_unstable();
        assert_eq!(got, expected);
        assert_eq!(many.missing.len() + got.len(), keys.len());
        for key in unknown {
            let (stored, used, expiry) = (self.now, self.now, self.now + NEGATIVE);
            self.model.insert(key, Standing { value: None, stored, expiry, used });
        }
        for (key, value) in reply {
            self.store(key, value, TTL);
            self.held.insert((key, value));
        }
    }

    fn write_through(&mut self, key: u64, succeeds: bool) {
        let value = self.value();
        let write = |_: &u64, _: &u64| if succeeds { Ok(()) } else { Err("away") };
        assert_eq!(self.cache.write_through(key, value, write).is_ok(), succeeds);
        if succeeds {
            self.store(key, value, TTL);
            self.held.insert((key, value));
        } else {
            self.model.remove(&key);
        }
    }

    /// The rest of it: what takes out, what goes over everything, and time.
    fn apply_to_many(&mut self, op: &Op) {
        match *op {
            Op::Remove(key) => {
                let expected = self.fresh(key).and_then(|standing| standing.value);
                let removed = self.cache.remove(&key);
                assert!(removed == expected || self.evicts && removed.is_none());
                self.model.remove(&key);
            }
            Op::Expire(key) => {
                let expected = self.fresh(key).is_some_and(|standing| standing.value.is_some());
                let expired = self.cache.expire(&key);
                assert!(expired == expected || self.evicts && !expired);
                if self.stale(key).is_none() {
                    let standing = self.model.remove(&key).filter(|_| self.windows && expired);
                    if let Some(standing) = standing {
                        self.model.insert(key, Standing { expiry: self.now, ..standing });
                    }
                }
            }
            Op::Advance(by) => {
                self.now += by;
                self.hand.advance(ms(by));
            }
            Op::Sweep => {
                self.cache.sweep();
                let kept = |key: &&u64| self.fresh(**key).or_else(|| self.stale(**key)).is_some();
                let kept = self.model.keys().filter(kept).count();
                assert!(self.cache.len() == kept as u64 || self.evicts);
            }
            Op::Clear => {
                self.cache.clear();
                self.model.clear();
                assert_eq!((self.cache.len(), self.cache.weight()), (0, 0));
            }
            Op::RemoveIf(divisor) => {
                let goes = |value: u64| value % divisor == 0;
                let kept = |key: u64| self.fresh(key).or_else(|| self.stale(key))?.value;
                let going: Vec<u64> =
                    self.model.keys().copied().filter(|key| kept(*key).is_some_and(goes)).collect();
                let removed = self.cache.remove_if(|_, value| goes(*value));
                assert!(
                    removed == going.len() as u64 || self.evicts && removed < going.len() as u64
                );
                self.model.retain(|key, _| !going.contains(key));
            }
            Op::Entries => {
                let walked: Vec<_> =
                    self.cache.entries().map(|(key, got)| (key, got.value)).collect();
                let fresh = |key: &u64| Some((*key, self.fresh(*key)?.value?));
                let expected: BTreeSet<_> = self.model.keys().filter_map(fresh).collect();
                let seen: BTreeSet<_> = walked.iter().copied().collect();
                assert_eq!(seen.len(), walked.len(), "an entry was met twice");
                assert!(seen == expected || self.evicts && seen.is_subset(&expected));
            }
            _ => unreachable!("done above"),
        }
    }

    fn insert(&mut self, key: u64, ttl: Option<u64>) {
        let value = self.value();
        match ttl {
            Some(ttl) => self.cache.at(&key).ttl(ms(ttl)).insert(value),
            None => self.cache.insert(key, value),
        }
        self.held.insert((key, value));
        self.store(key, value, ttl.unwrap_or(TTL));
    }

    fn alter(&mut self, key: u64, change: Change) {
        let before = self.fresh(key).filter(|standing| standing.value.is_some());
        let value = if let Change::Remove = change { None } else { Some(self.value()) };
        let at = self.cache.at(&key);
        let at = if let Change::PutInstead = change { at.keep_life() } else { at };
        let mut seen = None;
        let now = at.alter(|found| {
            seen = found;
            value
        });
        assert_eq!(now, value);
        let expected = before.and_then(|standing| standing.value);
        assert!(seen == expected || self.evicts && seen.is_none());
        let Some(value) = value else {
            if seen.is_some() {
                self.model.remove(&key);
            }
            return;
        };
        self.held.insert((key, value));
        self.store(key, value, TTL);
        if let Some(tag) = seen.and_then(|before| self.tags.get(&before).copied()) {
            self.tags.insert(value, tag);
        }
        if let (Change::PutInstead, Some(before), true) = (change, before, seen.is_some()) {
            let Standing { stored, expiry, .. } = before;
            let standing = self.model.get_mut(&key).unwrap();
            (standing.stored, standing.expiry) = (stored, expiry);
        }
    }

    fn settle(&mut self) {
        self.cache.validate();
        assert_eq!((self.cache.flights(), self.cache.fences()), (0, 0));
        for (key, value, cause) in self.removals.take() {
            assert!(
                self.held.remove(&(key, value)),
                "{key}: {value} was reported twice or made up"
            );
            assert!(self.evicts || cause != RemovalCause::Evicted, "{key} had room");
            assert_ne!(cause, RemovalCause::Rejected);
        }
        let stats = self.cache.stats();
        let left = stats.replaced + stats.removed + stats.expired + stats.evicted;
        assert_eq!(stats.insertions - left, self.held.len() as u64, "held is not stored less left");
    }
}

fn agree(ops: &[Op], evicts: bool) {
    let _watchdog = Watchdog::start();
    let kind = |shards, idle, weighted, windows| Kind { shards, idle, weighted, windows };
    for kind in [
        kind(1, false, false, false),
        kind(4, true, false, true),
        kind(4, false, true, true),
        kind(1, true, true, false),
    ] {
        let mut rig = Rig::new(evicts, kind);
        for op in ops {
            rig.apply(op);
            rig.settle();
        }
        rig.cache.clear();
        rig.settle();
        assert!(rig.held.is_empty(), "never reported: {:?}", rig.held);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_cache_with_room_does_exactly_what_the_model_does(ops in ops()) {
        agree(&ops, false);
    }

    #[test]
    fn a_cache_that_evicts_returns_what_the_model_has_or_nothing(ops in ops()) {
        agree(&ops, true);
    }
}
