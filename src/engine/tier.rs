//! The second tier: it is asked before the source, told of every change, and reports what other processes
//! change.
//!
//! Old values are kept out by the fencing that loads have anyway: what the tier has is landed by the key's
//! flight, which loses its key to every removal; and news from other processes is such a removal, except that
//! the tier is not told of it. Changes of this cache that the tier does not know yet are in [`Outgoing`], and
//! the tier is not asked for their keys.

pub(crate) mod inquiry;
mod lead;
pub(crate) mod news;

use super::store::Store;
use crate::parts::flight::Flight;
use crate::parts::outgoing::{Noted, Outgoing};
use crate::rules::ahead::draw;
use crate::rules::expiry::{NEVER, duration};
use crate::rules::explain::TierState;
use crate::rules::stats::Stats;
use crate::rules::tag::Tag;
use crate::rules::tier::{
    Tier, TierChange, TierEntry, TierError, TierFound, TierTicket, TierWatcher,
};
use crate::words::block_on::block_on;
use crate::words::contain::contain;
use crate::words::sync::atomic::AtomicU64;
use crate::words::sync::{Counter, park_timeout};
use crate::words::tick::Tick;
use crate::words::tier_key::TierKey;
use crate::words::unpark::Unpark;
pub(super) use lead::TicketHeld;
use lead::goes_to_the_source;
use news::must_not_wait;
use std::future::{Future, poll_fn};
use std::hash::Hash as StdHash;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A question to the tier, as a future that borrows nothing.
type Asked<T> = Pin<Box<dyn Future<Output = Result<T, TierError>> + Send>>;
pub(crate) type Question<K, V> = Asked<TierFound<K, V>>;
pub(crate) type Questions<K, V> = Asked<Vec<TierFound<K, V>>>;

/// A [`Tier`] with its type erased.
pub(crate) trait AnyTier<K, V>: Send + Sync {
    fn get(self: Arc<Self>, key: TierKey) -> Question<K, V>;
    fn get_many(self: Arc<Self>, keys: Vec<TierKey>) -> Questions<K, V>;
    /// Blocks until the changes are made.
    fn apply(&self, changes: &[TierChange<K, V>]) -> Result<(), TierError>;
    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError>;
    fn release(&self, key: &TierKey, ticket: &TierTicket);
    fn longest_life(&self) -> Duration;
    fn longest_load(&self) -> Duration;
}

impl<K, V, T> AnyTier<K, V> for T
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    T: Tier<K, V>,
{
    fn get(self: Arc<Self>, key: TierKey) -> Question<K, V> {
        Box::pin(async move { Tier::get(&*self, &key).await })
    }

    fn get_many(self: Arc<Self>, keys: Vec<TierKey>) -> Questions<K, V> {
        Box::pin(async move { Tier::get_many(&*self, &keys).await })
    }

    fn apply(&self, changes: &[TierChange<K, V>]) -> Result<(), TierError> {
        block_on(Tier::apply(self, changes))
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        Tier::watch(self, watcher)
    }

    fn release(&self, key: &TierKey, ticket: &TierTicket) {
        Tier::release(self, key, ticket);
    }

    fn longest_life(&self) -> Duration {
        Tier::longest_life(self)
    }

    fn longest_load(&self) -> Duration {
        Tier::longest_load(self)
    }
}

/// The second tier of one store, with the changes on their way to it.
pub(crate) struct StoreTier<K, V> {
    tier: Arc<dyn AnyTier<K, V>>,
    outgoing: Arc<Outgoing<K, V>>,
    /// Names a key. A function pointer, made where `K: Hash` is known.
    name: fn(&K) -> TierKey,
    /// When news may last have been lost; 0 if never. Other processes may have removed what was stored before
    /// that.
    doubted: AtomicU64,
    pub(super) counts: TierCounts,
}

#[derive(Default)]
pub(super) struct TierCounts {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) errors: Counter,
    pub(super) heard: Counter,
    /// What the tier left out when writing, and when reading.
    pub(super) unwritten: Counter,
    pub(super) unread: Counter,
}

/// How long dropping the last handle to a cache waits until the tier has the last changes, and for how long
/// those are tried though others fail.
const PARTING: Duration = Duration::from_secs(1);

/// How long a caller that makes a change waits for a tier that lags.
const PATIENCE: Duration = Duration::from_millis(50);

impl<K: StdHash, V> StoreTier<K, V> {
    pub(crate) fn new(tier: Arc<dyn AnyTier<K, V>>) -> Self {
        let outgoing = Arc::new(Outgoing::new());
        let counts = TierCounts::default();
        Self { tier, outgoing, name: |key| TierKey::of(key), doubted: AtomicU64::new(0), counts }
    }
}

impl<K, V> StoreTier<K, V> {
    pub(crate) fn tier(&self) -> &Arc<dyn AnyTier<K, V>> {
        &self.tier
    }

    /// The changes that the tier is to be told.
    pub(crate) fn outgoing(&self) -> &Arc<Outgoing<K, V>> {
        &self.outgoing
    }

    /// Whether the tier may be asked for this flight's key.
    fn may_ask(&self, flight: &Flight<K, V>, name: &TierKey) -> bool {
        if goes_to_the_source(flight) {
            // a loaded value on its way to the tier would invalidate the ticket
            self.outgoing.is_idle(name)
        } else {
            self.outgoing.is_settled(name)
        }
    }

    pub(super) fn add_to(&self, stats: &mut Stats) {
        stats.tier_hits = self.counts.hits.get();
        stats.tier_misses = self.counts.misses.get();
        stats.tier_errors = self.counts.errors.get();
        stats.tier_skipped = self.counts.unwritten.get() + self.counts.unread.get();
        stats.tier_news = self.counts.heard.get();
    }

    /// Notes a change for the tier.
    fn note(&self, change: TierChange<K, V>, now: Tick) -> Told<K, V> {
        let noted = self.outgoing.note(change, now);
        let has_tickets = noted.tickets().next().is_some();
        Told { noted, tickets_to: has_tickets.then(|| Arc::clone(&self.tier)) }
    }

    /// Somebody else has removed or expired all that has this tag, or everything.
    fn overtake(&self, tag: Option<&str>) {
        // what is replaced are written values, without tickets
        drop(self.outgoing.overtake(tag));
    }
}

/// A change that was noted for the tier. Its drop gives back the tickets of loaded values that it replaced:
/// others may wait for those loads.
#[must_use = "it is to be dropped where no lock is held"]
pub(crate) struct Told<K, V> {
    noted: Noted<K, V>,
    /// The tier, if there are tickets.
    tickets_to: Option<Arc<dyn AnyTier<K, V>>>,
}

impl<K, V> Told<K, V> {
    /// The number of the change, by which later ones are known.
    pub(super) fn number(&self) -> u64 {
        self.noted.number()
    }
}

impl<K, V> Drop for Told<K, V> {
    fn drop(&mut self) {
        if let Some(tier) = &self.tickets_to {
            self.noted.tickets().for_each(|(key, ticket)| give_back(&**tier, key, ticket));
        }
    }
}

/// Gives a ticket back. The tier may be the user's: its panic stops nothing here.
pub(crate) fn give_back<K, V>(tier: &dyn AnyTier<K, V>, key: &TierKey, ticket: &TierTicket) {
    contain(|| tier.release(key, ticket));
}

impl<K, V> Drop for StoreTier<K, V> {
    fn drop(&mut self) {
        self.outgoing.close(PARTING);
        if self.outgoing.len() > 0 && !must_not_wait() {
            let outgoing = &self.outgoing;
            wait_at_most(PARTING, poll_fn(|task| outgoing.poll_over(task.waker())));
        }
    }
}

/// Blocks until the future is done, but not longer than `limit`. Returns whether it is done.
fn wait_at_most(limit: Duration, future: impl Future<Output = ()>) -> bool {
    let mut future = pin!(future);
    let waker = Waker::from(Unpark::this());
    let mut task = Context::from_waker(&waker);
    let until = std::time::Instant::now() + limit;
    while future.as_mut().poll(&mut task).is_pending() {
        let left = until.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            return false;
        }
        park_timeout(left);
    }
    true
}

/// What the tier was told of a written value.
#[must_use = "it is to be dropped where no lock is held"]
pub(super) struct ToldOfWrite<K, V> {
    pub(super) noted: Option<Told<K, V>>,
    /// The removal after it, if there had to be one.
    removal: Option<Told<K, V>>,
    /// What it was not told.
    moot: Option<TierChange<K, V>>,
}

impl<K, V, S> Store<K, V, S> {
    /// Whether this thread must not wait for anybody that may wait for the tier.
    pub(crate) fn must_not_wait(&self) -> bool {
        self.tier.is_some() && must_not_wait()
    }

    /// The key's name in the tier, if there is one.
    pub(crate) fn named<Q: ?Sized + StdHash>(&self, key: &Q) -> Option<TierKey> {
        self.tier.as_ref().map(|_| TierKey::of(key))
    }

    /// The same without `K: Hash`.
    pub(super) fn name_of(&self, key: &K) -> Option<TierKey> {
        self.tier.as_ref().map(|tier| (tier.name)(key))
    }

    /// Notes a change for the tier, if there is one. To be called with the lock of the key's shard held,
    /// before the cache changes; the returned value is to be dropped after the lock.
    pub(super) fn tell(&self, change: Option<TierChange<K, V>>) -> Option<Told<K, V>> {
        Some(self.tier.as_ref()?.note(change?, self.clock.now()))
    }

    /// Whether the tier was told of a written value after the change of that number.
    pub(super) fn has_written_since(&self, number: u64) -> bool {
        self.tier.as_ref().is_some_and(|tier| tier.outgoing.has_written_since(number))
    }

    /// Drops the changes that a new one replaced, and waits for a tier that does not keep up with the
    /// changes. To be called with no lock held.
    pub(super) fn let_go(&self, noted: Option<Told<K, V>>) {
        if noted.is_none() {
            return;
        }
        drop(noted);
        let Some(StoreTier { outgoing, .. }) = &self.tier else { return };
        if outgoing.poll_room(Waker::noop()).is_pending() && !must_not_wait() {
            let room = poll_fn(|task| outgoing.poll_room(task.waker()));
            if !wait_at_most(PATIENCE, room) {
                outgoing.is_stuck();
            }
        }
    }

    /// [`let_go`](Self::let_go) for a written value.
    pub(super) fn let_go_of_write(&self, told: ToldOfWrite<K, V>) {
        let ToldOfWrite { noted, removal, moot } = told;
        drop((removal, moot));
        self.let_go(noted);
    }

    /// As [`tell`](Self::tell), for a written value that may have tags: once something has happened to one of
    /// them since the write began, it is not served here, and the tier is told of a removal.
    pub(super) fn tell_of_write(
        &self,
        mut change: Option<TierChange<K, V>>,
        is_outdated: impl Fn() -> bool,
    ) -> ToldOfWrite<K, V> {
        let Some(name) = change.as_ref().and_then(TierChange::key).cloned() else {
            return ToldOfWrite { noted: None, removal: None, moot: None };
        };
        if is_outdated() {
            let moot = change.replace(TierChange::Remove(name));
            return ToldOfWrite { noted: self.tell(change), removal: None, moot };
        }
        let noted = self.tell(change);
        // What happens to a tag is done here before it is on its way to the tier, or before what others did
        // is held against what is on its way. So either it is seen now, or it comes after the value.
        let removal = is_outdated().then(|| self.tell_removal(Some(&name))).flatten();
        ToldOfWrite { noted, removal, moot: None }
    }

    /// Does here what is to happen to all that has a tag, and tells the tier, which is not asked for anything
    /// from before the one until it has done the other.
    pub(super) fn tell_all(&self, change: TierChange<K, V>, here: impl FnOnce()) {
        let Some(tier) = &self.tier else { return here() };
        let _announced = tier.outgoing.announce();
        here();
        drop(tier.note(change, self.clock.now()));
    }

    /// As [`tell`](Self::tell), for the removal of the key of this name.
    pub(super) fn tell_removal(&self, name: Option<&TierKey>) -> Option<Told<K, V>> {
        self.tell(name.cloned().map(TierChange::Remove))
    }

    /// The change that tells the tier of a written value, with the caller's time to live.
    pub(super) fn written(
        &self,
        hash: u64,
        key: &K,
        value: &V,
        ttl: Option<u64>,
        tags: Vec<Tag>,
    ) -> Option<TierChange<K, V>>
    where
        K: Clone,
        V: Clone,
    {
        let name = self.name_of(key)?;
        if ttl == Some(0) {
            return Some(TierChange::Remove(name));
        }
        let random = draw(self.seed ^ hash, 0, self.clock.now());
        let (fresh_for, time_to_live) = self.lives_there(random, ttl);
        let entry = TierEntry {
            fresh_for,
            time_to_live,
            stale_for: duration(self.lives.windows.longest()),
            tags,
            ..TierEntry::new(key.clone(), Some(value.clone()))
        };
        Some(TierChange::Write(name, entry))
    }

    /// How long a value may live in the tier by its own time to live, and how long it would live here.
    fn lives_there(&self, random: u64, ttl: Option<u64>) -> (Duration, Duration) {
        // with jitter: else values loaded together would expire together in the tier
        let drawn = |ttl| match ttl {
            NEVER.. => Duration::MAX,
            ttl => duration(self.lives.stamp(self.clock.now(), ttl, random).life()),
        };
        match ttl {
            Some(ttl) => (drawn(ttl), drawn(ttl)),
            None => (Duration::MAX, drawn(self.lives.ttl)),
        }
    }

    /// A future that asks the tier for a flight's key, if the tier is to be asked.
    pub(super) fn question_of(&self, flight: &Flight<K, V>) -> Option<Question<K, V>> {
        let tier = self.tier.as_ref().filter(|_| !must_not_wait())?;
        let name = (tier.name)(&flight.key);
        tier.may_ask(flight, &name).then(|| Arc::clone(&tier.tier).get(name))
    }

    /// A future of all changes noted until now: it completes when the tier has made them.
    pub(crate) fn when_all_made(
        &self,
    ) -> impl Future<Output = Result<(), TierError>> + Send + use<K, V, S>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let outgoing = self.tier.as_ref().map(|tier| Arc::clone(&tier.outgoing));
        let outgoing = outgoing.map(|outgoing| (outgoing.last(), outgoing));
        poll_fn(move |task| match &outgoing {
            Some(_) if must_not_wait() => Poll::Ready(Err(TierError::Refused(
                "the thread that tells the tier, or brings its news, cannot wait for it".into(),
            ))),
            Some((number, outgoing)) => outgoing.poll_made(*number, task.waker()),
            None => Poll::Ready(Err(TierError::NoTier)),
        })
    }

    pub(super) fn tier_state(&self, name: &TierKey) -> Option<TierState> {
        let outgoing = &self.tier.as_ref()?.outgoing;
        Some(TierState { is_asked: outgoing.is_settled(name), pending: outgoing.len() })
    }

    /// How many changes the tier has not made.
    pub(crate) fn unsettled(&self) -> usize {
        self.tier.as_ref().map_or(0, |tier| tier.outgoing.len())
    }
}
