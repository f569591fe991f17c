//! The second tier: asked before the source, told of every change, and heard where others change
//! something.
//!
//! What keeps an old value out, from wherever it comes, are the fences that loads have anyway: what the
//! tier has is landed by the key's flight, which loses its key to every removal; news from others are
//! such removals, but for telling the tier. What this cache changed and the tier does not know yet stands
//! in [`Outgoing`], and the tier is not asked for it.

use super::lead::Lead;
use super::put::{By, Stored};
use super::store::{Store, spread};
use super::unreported::Later;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::outgoing::{Noted, Outgoing};
use crate::parts::slots::Queued;
use crate::parts::stack;
use crate::rules::ahead::draw;
use crate::rules::expiry::{NEVER, duration, ticks};
use crate::rules::explain::TierState;
use crate::rules::got::Got;
use crate::rules::loaded::LoadReason;
use crate::rules::stats::Stats;
use crate::rules::tag::Tag;
use crate::rules::tier::{
    News, Tier, TierChange, TierEntry, TierError, TierFound, TierTicket, TierWatcher, Watch,
};
use crate::shard::entry::{Notes, Put, Returned};
use crate::shard::outbox::Outbox;
use crate::words::block_on::block_on;
use crate::words::contain::contain;
use crate::words::error::LoadError;
use crate::words::sync::{Counter, park_timeout, thread_local};
use crate::words::tick::Tick;
use crate::words::tier_key::{ByName, TierKey};
use crate::words::unpark::Unpark;
use std::any::TypeId;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hash as StdHash};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// What a tier is asked, as a future that borrows nothing.
type Asked<T> = Pin<Box<dyn Future<Output = Result<T, TierError>> + Send>>;
pub(crate) type Question<K, V> = Asked<TierFound<K, V>>;
pub(crate) type Questions<K, V> = Asked<Vec<TierFound<K, V>>>;

/// A [`Tier`] of whatever type.
pub(crate) trait AnyTier<K, V>: Send + Sync {
    fn get(self: Arc<Self>, key: TierKey) -> Question<K, V>;
    fn get_many(self: Arc<Self>, keys: Vec<TierKey>) -> Questions<K, V>;
    /// Blocks until it is done.
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

/// The tier of one store.
pub(crate) struct Behind<K, V> {
    tier: Arc<dyn AnyTier<K, V>>,
    outgoing: Arc<Outgoing<K, V>>,
    /// Made where it was known that keys can be hashed.
    name: fn(&K) -> TierKey,
    pub(super) counts: TierCounts,
}

#[derive(Default)]
pub(super) struct TierCounts {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) errors: Counter,
    pub(super) heard: Counter,
}

thread_local! {
    /// Whether this thread brings news of a tier. It may be the one that has to answer for it, so nothing
    /// that user code does in here may wait for the tier.
    // no `const` block: the explorers' macro has none
    #[allow(clippy::missing_const_for_thread_local)]
    static BRINGS_NEWS: Cell<bool> = Cell::new(false);
}

fn brings_news() -> bool {
    BRINGS_NEWS.with(Cell::get)
}

/// How long the last handle to a cache waits for its tier to hear of its last changes.
const PARTING: Duration = Duration::from_secs(1);

/// How long one who makes changes waits for a tier that does not keep up.
const PATIENCE: Duration = Duration::from_millis(50);

impl<K: StdHash, V> Behind<K, V> {
    pub(crate) fn new(tier: Arc<dyn AnyTier<K, V>>) -> Self {
        let outgoing = Arc::new(Outgoing::new());
        Self { tier, outgoing, name: |key| TierKey::of(key), counts: TierCounts::default() }
    }
}

impl<K, V> Behind<K, V> {
    pub(crate) fn tier(&self) -> &Arc<dyn AnyTier<K, V>> {
        &self.tier
    }

    /// What the tier is to be told.
    pub(crate) fn outgoing(&self) -> &Arc<Outgoing<K, V>> {
        &self.outgoing
    }

    pub(super) fn add_to(&self, stats: &mut Stats) {
        stats.tier_hits = self.counts.hits.get();
        stats.tier_misses = self.counts.misses.get();
        stats.tier_errors = self.counts.errors.get();
        stats.tier_news = self.counts.heard.get();
    }

    /// Notes a change for the tier. What is returned is to be dropped where no lock is held.
    fn note(&self, change: TierChange<K, V>) -> Noted<K, V> {
        self.outgoing.note(change)
    }
}

impl<K, V> Drop for Behind<K, V> {
    fn drop(&mut self) {
        self.outgoing.close();
        if self.outgoing.len() > 0 && !brings_news() {
            let outgoing = &self.outgoing;
            wait_at_most(PARTING, poll_fn(|task| outgoing.poll_over(task.waker())));
        }
    }
}

/// Blocks until the future is done, or for so long. Whether it is done.
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

impl<K, V, S> Store<K, V, S> {
    /// Whether this thread must not wait for anybody who may wait for the tier.
    pub(crate) fn brings_news(&self) -> bool {
        self.tier.is_some() && brings_news()
    }

    /// What a key is called in the tier, where there is one.
    pub(crate) fn named<Q: ?Sized + StdHash>(&self, key: &Q) -> Option<TierKey> {
        self.tier.as_ref().map(|_| TierKey::of(key))
    }

    /// The same where it is not known that it can be hashed.
    pub(super) fn name_of(&self, key: &K) -> Option<TierKey> {
        self.tier.as_ref().map(|tier| (tier.name)(key))
    }

    /// Tells the tier. To be called with the lock of the key's shard held, before the cache changes; and
    /// what is returned is to be dropped without it.
    pub(super) fn tell(&self, change: Option<TierChange<K, V>>) -> Option<Noted<K, V>> {
        Some(self.tier.as_ref()?.note(change?))
    }

    /// Lets go of what a change replaced. Where more changes are made than the tier keeps up with, waits for
    /// it; with no lock held.
    pub(super) fn let_go(&self, noted: Option<Noted<K, V>>) {
        if noted.is_none() {
            return;
        }
        drop(noted);
        let Some(Behind { outgoing, .. }) = &self.tier else { return };
        if outgoing.poll_room(Waker::noop()).is_pending() && !BRINGS_NEWS.get() {
            let room = poll_fn(|task| outgoing.poll_room(task.waker()));
            if !wait_at_most(PATIENCE, room) {
                outgoing.is_stuck();
            }
        }
    }

    /// As [`tell`](Self::tell), for the removal of what is called so.
    pub(super) fn tell_removal(&self, name: Option<&TierKey>) -> Option<Noted<K, V>> {
        self.tell(name.cloned().map(TierChange::Remove))
    }

    /// What the tier is told of a value that somebody writes, with the life that was said for it.
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

    /// How long a value may live in the tier by what was said of it alone, and how long it would live here.
    fn lives_there(&self, random: u64, ttl: Option<u64>) -> (Duration, Duration) {
        // jitter there too: else what was loaded together would end together there
        let drawn = |ttl| match ttl {
            NEVER.. => Duration::MAX,
            ttl => duration(self.lives.stamp(self.clock.now(), ttl, random).life()),
        };
        match ttl {
            Some(ttl) => (drawn(ttl), drawn(ttl)),
            None => (Duration::MAX, drawn(self.lives.ttl)),
        }
    }

    /// The future of what the tier has of a key, if it is to be asked.
    pub(super) fn question_of(&self, flight: &Flight<K, V>) -> Option<Question<K, V>> {
        let tier = self.tier.as_ref().filter(|_| !brings_news())?;
        let name = (tier.name)(&flight.key);
        let may_ask = if goes_to_the_source(flight) {
            // a load on its way there would take the ticket's place
            tier.outgoing.is_idle(&name)
        } else {
            tier.outgoing.is_settled(&name)
        };
        may_ask.then(|| Arc::clone(&tier.tier).get(name))
    }

    /// The future of all changes that are noted until now: done when the tier has made them.
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
            Some(_) if brings_news() => Poll::Ready(Err(TierError::Refused(
                "who is told of its news cannot wait for it".into(),
            ))),
            Some((number, outgoing)) => outgoing.poll_made(*number, task.waker()),
            None => Poll::Ready(Err(TierError::None)),
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

    /// The hash of whatever key is called so.
    fn hash_of_name(&self, name: &TierKey) -> Option<u64>
    where
        S: BuildHasher + 'static,
    {
        let hash = name.hash_by(self.hasher())?;
        Some(if TypeId::of::<S>() == TypeId::of::<ahash::RandomState>() {
            hash
        } else {
            spread(hash)
        })
    }
}

/// While it lives, its thread brings news; then what was before, also after a panic of the user's code.
struct Bringing(bool);

impl Drop for Bringing {
    fn drop(&mut self) {
        BRINGS_NEWS.with(|brings| brings.set(self.0));
    }
}

/// Tells a store what others did.
struct Ear<K, V, S>(Weak<Store<K, V, S>>);

impl<K, V, S> Watch for Ear<K, V, S>
where
    K: StdHash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn told(&self, news: News<'_>) -> bool {
        // outlives the store, which may go here
        let _bringing = Bringing(BRINGS_NEWS.with(|brings| brings.replace(true)));
        let store = self.0.upgrade();
        if let Some(store) = &store {
            store.hear(news);
        }
        store.is_some()
    }

    fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: StdHash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Has the tier bring its news here from now on.
    pub(crate) fn listen(self: &Arc<Self>) -> Result<(), TierError> {
        match &self.tier {
            Some(tier) => tier.tier.watch(TierWatcher::new(Arc::new(Ear(Arc::downgrade(self))))),
            None => Ok(()),
        }
    }

    /// Others did this: the same is done here, and the tier is not told.
    fn hear(&self, news: News<'_>) {
        if let Some(tier) = &self.tier {
            tier.counts.heard.add(1);
        }
        match news {
            News::Changed(name) => {
                if let Some(hash) = self.hash_of_name(name) {
                    self.change_here(hash, name);
                }
            }
            News::Expired(name) => {
                if let Some(hash) = self.hash_of_name(name) {
                    self.expire_here(hash, name);
                }
            }
            News::TagRemoved(tag) => self.remove_tag_here(tag),
            News::TagExpired(tag) => self.expire_tag_here(tag),
            News::Cleared => self.clear_here(),
            News::Missed => self.expire_all_here(),
        }
    }

    /// A name may be that of several keys.
    fn change_here(&self, hash: u64, name: &TierKey) {
        let mut out = Outbox::new();
        {
            let mut shard = self.cell(hash).shard.write();
            self.ledger.note(hash);
            shard.fence_each(hash, &ByName(name), &mut out);
            shard.remove_each(Hash::new(hash), &ByName(name), &self.terms(), &mut out);
        }
        self.deliver(out);
    }

    /// The same for what is over, but not gone.
    fn expire_here(&self, hash: u64, name: &TierKey) {
        let mut out = Outbox::new();
        let expired = {
            let mut shard = self.cell(hash).shard.write();
            self.ledger.note(hash);
            shard.fence_each(hash, &ByName(name), &mut out);
            shard.expire_each(Hash::new(hash), &ByName(name), &self.terms(), &mut out)
        };
        self.deliver(out);
        if expired {
            self.request_sweep();
        }
    }
}

/// Whether a load is to bring what the source has, whatever the tier has: it asks for a ticket only.
fn goes_to_the_source<K, V>(flight: &Flight<K, V>) -> bool {
    matches!(flight.reason, LoadReason::Forced | LoadReason::Refresh)
}

/// What a lead that asked the tier keeps until it is done: it began at that tick, or later.
pub(super) type Held = (TierKey, TierTicket, Tick);

impl<K, V, S> Lead<K, V, S> {
    /// Gives back what the tier gave for a load that came to nothing.
    pub(super) fn release(&mut self) {
        if let (Some((name, ticket, _)), Some(tier)) = (self.take_ticket(), &self.store.tier) {
            // the tier may be the user's, and the flight has to land in any case
            contain(|| tier.tier.release(&name, &ticket));
        }
    }

    /// The future of what the tier has, if it is to be asked: to be polled as a part of the load.
    pub(crate) fn question(&self) -> Option<Question<K, V>> {
        self.store.question_of(&self.flight)
    }
}

impl<K, V, S> Lead<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// What the tier said. An entry that will do instead of a load, for a caller who takes one that is so
    /// many ticks old; and from a caller to whom "there is none" is no answer, only a value is `wanted`.
    pub(crate) fn answer(
        &mut self,
        found: Result<TierFound<K, V>, TierError>,
        accepts: impl Fn(u64) -> bool,
        needs_value: bool,
    ) -> Option<TierEntry<K, V>> {
        let mut out = Outbox::new();
        let entry = self.answer_quietly(found, accepts, needs_value, &mut out);
        // the load is not over: a listener that asks for its key is told so, and does not wait for it
        let _running = stack::enter(self.id());
        self.store.deliver(out);
        entry
    }

    /// The same without the reports.
    fn answer_quietly(
        &mut self,
        found: Result<TierFound<K, V>, TierError>,
        accepts: impl Fn(u64) -> bool,
        needs_value: bool,
        out: &mut Outbox<K, V>,
    ) -> Option<TierEntry<K, V>> {
        let store = Arc::clone(&self.store);
        let tier = store.tier.as_ref()?;
        // the load, if it comes to that, begins when this is known; its ticket may be older, but what
        // a tier takes to answer is little beside what it leaves for loads
        let now = store.clock.now();
        self.flight.begin(now);
        let Ok(TierFound { entry, ticket }) = found else {
            tier.counts.errors.add(1);
            return None;
        };
        self.keep_ticket(((tier.name)(self.key()), ticket, now));
        let is_ahead = goes_to_the_source(&self.flight);
        let entry = entry.filter(|entry| entry.key == *self.key() && !is_ahead);
        let Some(entry) = entry else {
            tier.counts.misses.add(1);
            return None;
        };
        let may_be = match entry.value {
            Some(_) => true,
            None => !needs_value && store.lives.negative > 0,
        };
        if may_be && !entry.fresh_for.is_zero() && accepts(ticks(entry.age)) {
            tier.counts.hits.add(1);
            return Some(entry);
        }
        tier.counts.misses.add(1);
        if entry.fresh_for.is_zero() {
            self.show(entry, out);
        }
        None
    }

    /// A value past its life is cached as such: the loader is shown it, and it is served if the load
    /// comes to nothing, for as long as this cache's windows say.
    fn show(&mut self, entry: TierEntry<K, V>, out: &mut Outbox<K, V>) {
        let store = Arc::clone(&self.store);
        let over_for = ticks(entry.over_for).max(1);
        if over_for >= store.lives.windows.longest() || store.budget.max() == 0 {
            return;
        }
        let TierEntry { key, value: Some(value), age, validator, tags, .. } = entry else { return };
        let tags = self.tagged(&tags, None);
        let returned = Returned { age: ticks(age).max(over_for), over_for: Some(over_for) };
        let notes = Some(Box::new(Notes { validator, tags, restored: Some(returned) }));
        let hash = self.flight.hash;
        let units = store.units(&key, Some(&value));
        let put = Put { notes, ..Put::of(hash, key, value, units, 1) };
        store.put(hash, put, By::Shown(&self.flight), out);
    }

    /// What the tier is to be told of this load, if it was asked before: made before anything is stored,
    /// for it is made of clones.
    pub(super) fn brought(
        &mut self,
        value: Option<&V>,
        ttl: Option<u64>,
        took: u64,
        notes: Option<&Notes>,
    ) -> Option<TierChange<K, V>> {
        let tier = self.store.tier.as_ref()?;
        let longest = ticks(tier.tier.longest_load());
        let now = self.store.clock.now();
        let validator = notes.and_then(|notes| notes.validator.clone());
        let tags = notes.and_then(|notes| notes.tags.as_ref());
        let tags = tags.map_or_else(Vec::new, |tags| tags.iter().map(Tag::from).collect());
        let said = if value.is_some() { ttl } else { ttl.or(Some(self.store.lives.negative)) };
        if said == Some(0) {
            // Nothing is to be stored, and what was there goes. Others who wait for this load to store need
            // not: the ticket stays, to be given back.
            let (name, ..) = self.ticket()?;
            return Some(TierChange::Remove(name.clone()));
        }
        let Some((name, ticket, began)) = self.take_ticket() else {
            // what the tier has is older than what somebody insisted on
            let is_newer = goes_to_the_source(&self.flight);
            let name = self.store.name_of(self.key());
            return name.filter(|_| is_newer).map(TierChange::Remove);
        };
        if now.saturating_sub(began) >= longest {
            self.keep_ticket((name, ticket, began));
            return None;
        }
        let stale_for = value.map_or(0, |_| self.store.lives.windows.longest());
        let random = draw(self.store.seed ^ self.flight.hash, 0, now);
        let (fresh_for, time_to_live) = match value {
            Some(_) => self.store.lives_there(random, said),
            None => (duration(said.unwrap_or(0)), duration(said.unwrap_or(0))),
        };
        let entry = TierEntry {
            age: duration(took),
            fresh_for,
            time_to_live,
            stale_for: duration(stale_for),
            validator,
            tags,
            ..TierEntry::new(self.key().clone(), value.cloned())
        };
        Some(TierChange::Load(name, entry, ticket))
    }
}

impl<K, V, S> Lead<K, V, S> {
    /// It has landed: the tier is told, unless something newer had happened to the key.
    pub(super) fn tell(&mut self, change: Option<TierChange<K, V>>, stored: Stored) {
        match change {
            Some(TierChange::Load(name, _, ticket)) if stored == Stored::Fenced => {
                self.keep_ticket((name, ticket, 0));
            }
            Some(_) if stored == Stored::Fenced => {}
            change => drop(self.store.tell(change)),
        }
    }
}

/// One question for the keys of several leads.
pub(crate) struct Inquiry<K, V> {
    /// Which of them it is about.
    about: Vec<usize>,
    asked: Questions<K, V>,
    running: Vec<usize>,
}

impl<K, V> Inquiry<K, V> {
    /// Nothing if there is nothing to be asked.
    pub(crate) fn new<S>(store: &Store<K, V, S>, leads: &[Lead<K, V, S>]) -> Option<Self> {
        let tier = store.tier.as_ref().filter(|_| !brings_news())?;
        let names = leads.iter().map(|lead| (tier.name)(lead.key())).enumerate();
        let (about, names): (Vec<_>, Vec<_>) =
            names.filter(|(_, name)| tier.outgoing.is_settled(name)).unzip();
        if about.is_empty() {
            return None;
        }
        let asked = Arc::clone(&tier.tier).get_many(names);
        Some(Self { about, asked, running: leads.iter().map(Lead::id).collect() })
    }

    /// The answer, for [`settle`]. Polled as a part of the loads.
    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<Answers<K, V>> {
        let _running = stack::enter_all(self.running.iter().copied());
        let found = ready!(self.asked.as_mut().poll(task));
        Poll::Ready(Answers { about: std::mem::take(&mut self.about), found })
    }

    /// It took too long.
    pub(crate) fn give_up(self) -> Answers<K, V> {
        Answers { about: self.about, found: Err(TierError::TimedOut) }
    }
}

/// What came of an [`Inquiry`].
pub(crate) struct Answers<K, V> {
    about: Vec<usize>,
    found: Result<Vec<TierFound<K, V>>, TierError>,
}

/// What the tier had, by the places of the leads that need not load any more.
pub(crate) type Settled<V, E> = Vec<(usize, Result<Got<V>, LoadError<E>>)>;

/// Lands what the tier has for these leads, and leaves those that have to load. What had to leave for it
/// is in `later`.
pub(crate) fn settle<K, V, S, E>(
    leads: &mut Vec<Lead<K, V, S>>,
    answers: Answers<K, V>,
    accepts: impl Fn(u64) -> bool,
    later: &mut Later<K, V, S>,
) -> Settled<V, E>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let Answers { about, found } = answers;
    let mut of_each: Vec<Option<Result<_, _>>> = leads.iter().map(|_| None).collect();
    match found {
        Ok(found) => {
            about.iter().zip(found).for_each(|(&at, found)| of_each[at] = Some(Ok(found)));
        }
        Err(error) => about.iter().for_each(|&at| of_each[at] = Some(Err(error.clone()))),
    }
    let mut settled = Vec::new();
    let open = std::mem::take(leads).into_iter().zip(of_each).enumerate();
    for (at, (mut lead, found)) in open {
        let out = &mut later.out;
        match found.and_then(|found| lead.answer_quietly(found, &accepts, false, out)) {
            Some(entry) => {
                settled.push((at, lead.land_kept_quietly(entry, None, &mut later.out)));
            }
            None => leads.push(lead),
        }
    }
    settled
}
