//! A second tier in memory, as a test double.

use crate::rules::expiry::{NEVER, duration, ticks};
use crate::rules::tag::Tag;
use crate::rules::tier::{
    Tier, TierChange, TierEntry, TierError, TierFound, TierTicket, TierWatcher,
};
use crate::words::clock::Clock;
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use crate::words::tier_key::TierKey;
use crate::words::wakers::{Wakers, look_or_wait};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A second [`Tier`] in memory: a test double, for testing a cache with a tier without a server. It keeps the
/// promises that `RedisTier` makes, and can be told to fail, to lose messages, and to forget.
///
/// [`join`](Self::join) returns a handle as another process would have it: caches on different handles share
/// what is in the tier, and hear of each other's changes. A clone counts as the same process. Changes reach
/// the tier in the background, in real time whatever the cache's clock says: tests wait for them with
/// [`tier_flush`](crate::Cache::tier_flush).
///
/// ```
/// use larder::{Cache, How, MemoryTier};
///
/// let tier = MemoryTier::new();
/// let one: Cache<u64, String> = Cache::builder().max_entries(10).tier(tier.join()).build()?;
/// let other: Cache<u64, String> = Cache::builder().max_entries(10).tier(tier.join()).build()?;
///
/// one.get_or_load(&1, || Ok::<_, String>("loaded".to_owned())).unwrap();
/// one.tier_flush().unwrap(); // what was loaded reaches the tier a moment later
/// let got = other.at(&1).load(|_| Err::<String, _>("not called")).unwrap();
/// assert_eq!((got.value.as_str(), got.how), ("loaded", How::Tier));
///
/// tier.fail(true); // as if the server were down
/// one.remove(&1);
/// one.get_or_load(&1, || Ok::<_, String>("the source still answers".to_owned())).unwrap();
/// # tier.fail(false);
/// # Ok::<_, larder::ConfigError>(())
/// ```
pub struct MemoryTier<K, V> {
    shared: Arc<Shared<K, V>>,
    /// Which process it is.
    process: u64,
}

struct Shared<K, V> {
    state: Mutex<State<K, V>>,
    clock: Clock,
    /// Its own, if it has one.
    time_to_live: Option<Duration>,
    processes: AtomicU64,
}

struct State<K, V> {
    entries: HashMap<TierKey, TierSlot<K, V>, ahash::RandomState>,
    tags: HashMap<Arc<str>, Marks, ahash::RandomState>,
    cleared: u64,
    /// Everything that happens has a number.
    last: u64,
    watchers: Vec<(u64, TierWatcher)>,
    /// The numbers of the changes that are being told, and whose they are; and who waits for that.
    telling: BTreeMap<u64, u64>,
    waiting: Wakers,
    fails: bool,
    is_deaf: bool,
    asked: u64,
}

/// What was done to a tag, by the numbers of that.
#[derive(Clone, Copy, Default)]
struct Marks {
    removed: u64,
    expired: u64,
    /// The tick of the latter.
    expired_at: Tick,
}

struct TierSlot<K, V> {
    /// The number of what put it there.
    number: u64,
    /// The number up to which it knows what was done to tags.
    since: u64,
    entry: Option<TierEntry<K, V>>,
    at: Tick,
}

impl<K, V> MemoryTier<K, V> {
    /// Makes an empty tier, in which entries live as long as in the caches that stored them.
    pub fn new() -> Self {
        Self::with(Clock::system(), None)
    }

    /// Makes an empty tier with the clock of its caches, and with a time to live of its own, if that is to be
    /// longer or shorter than theirs.
    pub fn with(clock: Clock, time_to_live: impl Into<Option<Duration>>) -> Self {
        let time_to_live = time_to_live.into();
        let state = State {
            entries: HashMap::default(),
            tags: HashMap::default(),
            cleared: 0,
            last: 0,
            watchers: Vec::new(),
            telling: BTreeMap::new(),
            waiting: Wakers::default(),
            fails: false,
            is_deaf: false,
            asked: 0,
        };
        let processes = AtomicU64::new(1);
        let shared = Shared { state: Mutex::new(state), clock, time_to_live, processes };
        Self { shared: Arc::new(shared), process: 0 }
    }

    /// Returns a handle to the same tier, as another process would have it.
    #[must_use]
    pub fn join(&self) -> Self {
        let process = self.shared.processes.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared), process }
    }

    /// Makes all calls fail from now on, as if the tier could not be reached; or lets them work again, and
    /// tells all caches on it that they may have missed something.
    pub fn fail(&self, fails: bool) {
        if !fails {
            // before anything is answered again
            for (_, watcher) in self.shared.watchers_of_failing() {
                watcher.missed();
            }
        }
        self.shared.state.lock().fails = fails;
    }

    /// Stops telling caches of others' changes, as if messages were lost; or starts again.
    pub fn deafen(&self, is_deaf: bool) {
        self.shared.state.lock().is_deaf = is_deaf;
    }

    /// Forgets everything and tells nobody, like a server that restarts without its data.
    pub fn forget(&self) {
        let entries = {
            let mut state = self.shared.state.lock();
            state.last += 1;
            state.cleared = state.last;
            std::mem::take(&mut state.entries)
        };
        drop(entries);
    }

    /// Returns how many keys the tier was asked for, without those while it is told to fail.
    pub fn asked(&self) -> u64 {
        self.shared.state.lock().asked
    }

    /// Returns how many entries it has, expired ones included.
    pub fn len(&self) -> usize {
        let state = self.shared.state.lock();
        state.entries.values().filter(|slot| slot.entry.is_some()).count()
    }

    /// Returns whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Shared<K, V> {
    /// Who is to be told when it works again.
    fn watchers_of_failing(&self) -> Vec<(u64, TierWatcher)> {
        let state = self.state.lock();
        if state.fails { state.watchers.clone() } else { Vec::new() }
    }

    /// Completes when that process has been told of everything up to this number: it is answered only then.
    /// Its own changes, of which others are told, do not concern it.
    async fn told(&self, process: u64, number: u64) {
        poll_fn(|task| {
            look_or_wait(&self.state, task.waker(), |state| {
                let is_told = state.telling.range(..=number).all(|(_, whose)| *whose == process);
                if is_told { Ok(()) } else { Err(&mut state.waiting) }
            })
        })
        .await;
    }
}

/// While it lives, the change of this number is being told. Its drop ends that, even after a panic of user
/// code in there.
struct Telling<'a, K, V>(&'a Shared<K, V>, u64);

impl<K, V> Drop for Telling<'_, K, V> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state.lock();
            state.telling.remove(&self.1);
            state.waiting.take()
        };
        waiting.wake();
    }
}

impl<K: Clone, V: Clone> MemoryTier<K, V> {
    /// What is there, and the number of the last thing that happened.
    fn look(&self, key: &TierKey) -> Result<(TierFound<K, V>, u64), TierError> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state.lock();
        if state.fails {
            return Err(failure());
        }
        state.asked += 1;
        let slot = state.entries.get(key);
        let number = slot.map_or(0, |slot| slot.number);
        let mut ticket = [0; 16];
        ticket[..8].copy_from_slice(&number.to_le_bytes());
        ticket[8..].copy_from_slice(&state.last.to_le_bytes());
        let ticket = TierTicket::new(ticket.as_slice());
        let entry = slot.and_then(|slot| state.entry(slot, now));
        Ok((TierFound::new(entry, ticket), state.last))
    }

    /// Returns the number of the change, or of the last one if it has changed nothing.
    fn make(&self, change: &TierChange<K, V>) -> Result<u64, TierError> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state.lock();
        if state.fails {
            return Err(failure());
        }
        let mut gone = None;
        state.last += 1;
        let number = state.last;
        match change {
            TierChange::Write(key, entry) => {
                gone = state.put(key, entry, (number, number), now);
            }
            TierChange::Load(key, entry, ticket) => {
                if let Some(since) = state.admits(key, entry, ticket) {
                    gone = state.put(key, entry, (number, since), now);
                } else {
                    return Ok(number);
                }
            }
            TierChange::Remove(key) => {
                let slot = TierSlot { number, since: number, entry: None, at: now };
                gone = state.entries.insert(key.clone(), slot);
            }
            TierChange::Expire(key) => {
                let nothing = || TierSlot { number, since: number, entry: None, at: now };
                let slot = state.entries.entry(key.clone()).or_insert_with(nothing);
                slot.number = number;
                if let Some(entry) = &mut slot.entry {
                    let passed = now.saturating_sub(slot.at);
                    let left = ticks(entry.fresh_for).min(passed);
                    entry.fresh_for = duration(left);
                }
            }
            TierChange::RemoveTag(tag) => {
                state.tags.entry(tag.as_str().into()).or_default().removed = number;
            }
            TierChange::ExpireTag(tag) => {
                let marks = state.tags.entry(tag.as_str().into()).or_default();
                (marks.expired, marks.expired_at) = (number, now);
            }
            TierChange::Clear => state.cleared = number,
        }
        let watchers = if state.is_deaf { Vec::new() } else { state.watchers.clone() };
        state.telling.insert(number, self.process);
        drop(state);
        let telling = Telling(&self.shared, number);
        drop(gone);
        for (_, watcher) in watchers.iter().filter(|(process, _)| *process != self.process) {
            match change {
                TierChange::Write(key, _) | TierChange::Load(key, ..) | TierChange::Remove(key) => {
                    watcher.changed(key)
                }
                TierChange::Expire(key) => watcher.expired(key),
                TierChange::RemoveTag(tag) => watcher.tag_removed(tag.as_str()),
                TierChange::ExpireTag(tag) => watcher.tag_expired(tag.as_str()),
                TierChange::Clear => watcher.cleared(),
            };
        }
        drop(telling);
        Ok(number)
    }
}

impl<K, V> State<K, V> {
    fn put(
        &mut self,
        key: &TierKey,
        entry: &TierEntry<K, V>,
        (number, since): (u64, u64),
        at: Tick,
    ) -> Option<TierSlot<K, V>>
    where
        K: Clone,
        V: Clone,
    {
        let entry = Some(entry.clone());
        self.entries.insert(key.clone(), TierSlot { number, since, entry, at })
    }

    /// Whether a load with that ticket may still store; and what it knows of tags.
    fn admits(&self, key: &TierKey, entry: &TierEntry<K, V>, ticket: &TierTicket) -> Option<u64> {
        let (seen, since) = ticket.as_bytes().split_first_chunk::<8>()?;
        let seen = u64::from_le_bytes(*seen);
        let since = u64::from_le_bytes(since.try_into().ok()?);
        let stands = self.entries.get(key).map_or(0, |slot| slot.number);
        let is_untouched = |tag: &Tag| {
            let marks = self.tags.get(tag.as_str()).copied().unwrap_or_default();
            marks.removed <= since && marks.expired <= since
        };
        let is_current = stands == seen && self.cleared <= since;
        (is_current && entry.tags.iter().all(is_untouched)).then_some(since)
    }

    /// What is in a slot, as it is now.
    fn entry(&self, slot: &TierSlot<K, V>, now: Tick) -> Option<TierEntry<K, V>>
    where
        K: Clone,
        V: Clone,
    {
        let kept = slot.entry.as_ref().filter(|_| slot.since >= self.cleared)?;
        let passed = now.saturating_sub(slot.at);
        let mut life = ticks(kept.fresh_for);
        for tag in &kept.tags {
            let marks = self.tags.get(tag.as_str()).copied().unwrap_or_default();
            if marks.removed > slot.since {
                return None;
            }
            if marks.expired > slot.since {
                life = life.min(marks.expired_at.saturating_sub(slot.at));
            }
        }
        let over_for = passed.saturating_sub(life);
        if passed > life && over_for >= ticks(kept.stale_for) {
            return None;
        }
        let left = if life >= NEVER { NEVER } else { life.saturating_sub(passed) };
        Some(TierEntry {
            age: duration(ticks(kept.age).saturating_add(passed)),
            fresh_for: duration(left),
            over_for: duration(over_for),
            ..kept.clone()
        })
    }
}

fn failure() -> TierError {
    TierError::Unreachable("the test says so".into())
}

impl<K, V> Tier<K, V> for MemoryTier<K, V>
where
    K: Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn get(&self, key: &TierKey) -> Result<TierFound<K, V>, TierError> {
        let (found, number) = self.look(key)?;
        self.shared.told(self.process, number).await;
        Ok(found)
    }

    async fn apply(&self, changes: &[TierChange<K, V>]) -> Result<(), TierError> {
        let mut last = 0;
        for change in changes {
            last = match change {
                TierChange::Write(key, entry) => {
                    let entry = self.cut(entry);
                    self.make(&TierChange::Write(key.clone(), entry))?
                }
                TierChange::Load(key, entry, ticket) => {
                    let entry = self.cut(entry);
                    self.make(&TierChange::Load(key.clone(), entry, ticket.clone()))?
                }
                other => self.make(other)?,
            };
        }
        self.shared.told(self.process, last).await;
        Ok(())
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        let mut state = self.shared.state.lock();
        let is_taken =
            |(process, other): &(u64, TierWatcher)| *process == self.process && other.is_alive();
        if state.watchers.iter().any(is_taken) {
            return Err(TierError::Invalid(
                "two caches on one handle would not hear of each other: `join` for each".into(),
            ));
        }
        state.watchers.push((self.process, watcher));
        Ok(())
    }
}

impl<K: Clone, V: Clone> MemoryTier<K, V> {
    /// Nothing lives longer than the tier says.
    fn cut(&self, entry: &TierEntry<K, V>) -> TierEntry<K, V> {
        let own = self.shared.time_to_live.map(|own| own.saturating_sub(entry.age));
        let time_to_live = own.unwrap_or(entry.time_to_live);
        let fresh_for = entry.fresh_for.min(time_to_live);
        TierEntry { fresh_for, ..entry.clone() }
    }
}

impl<K, V> Default for MemoryTier<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Clone for MemoryTier<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), process: self.process }
    }
}

impl<K, V> fmt::Debug for MemoryTier<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTier").field("process", &self.process).finish_non_exhaustive()
    }
}
