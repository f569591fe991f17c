//! One load of one key, and its waiters.
//!
//! A flight knows nothing of tables and shards. It lands once, with one outcome for all; a blocked thread and
//! a pending task wait for it in the same way, as a waker in its list.

use super::slots::{Place, Queued};
use super::tags::{TagFate, Tagged, Version};
use crate::rules::loaded::LoadReason;
use crate::words::contain::wake_all;
use crate::words::sync::Mutex;
use crate::words::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::words::tick::Tick;
use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

pub(crate) struct Flight<K, V> {
    /// The load's identity before it had a flight; zero if it began with one.
    alias: usize,
    pub(crate) key: K,
    pub(crate) hash: u64,
    /// The key had no entry when the load began. As long as the flight has its key, it still has none:
    /// whatever stores an entry takes the flight off the board, or clears this.
    is_absent: AtomicBool,
    /// Flights of one shard are numbered from 1, in the order in which they began.
    pub(crate) number: u64,
    /// How many loads of the key failed in a row before this one, and the number of the last; zero if none
    /// did.
    pub(crate) attempt: u32,
    pub(crate) after: u64,
    pub(crate) reason: LoadReason,
    /// It is one of several loads by one call of a loader, which count as one load.
    in_batch: AtomicBool,
    /// It is a refresh ahead of expiry: any value will do that lives as long as a new one, even from a second
    /// tier.
    is_ahead: AtomicBool,
    /// A change that was accepted after this one is cached under its key now, or will be.
    is_superseded: AtomicBool,
    /// The version of the tags when it began.
    pub(crate) since: Version,
    /// When it was begun, or got in line for a slot.
    pub(crate) posted: Tick,
    /// The tick that `load_timeout` counts from; `Tick::MAX` while it waits for a slot.
    started: AtomicU64,
    /// It lost its key to something newer, or to its timeout: its result is not stored.
    grounded: AtomicBool,
    /// It gives way: it waits for a slot behind all misses, and a caller that wants its key takes the key and
    /// loads.
    yields: AtomicBool,
    /// How many followers it has ever had. Nobody joins a flight that is off the board.
    followers: AtomicUsize,
    /// Its caller's tags, from when it begins to load; those of a loader come later.
    tagged: OnceLock<Tagged>,
    /// The version of the tags when the last follower came.
    last_joined: AtomicU64,
    state: Mutex<State<V>>,
}

struct State<V> {
    landing: Option<Landing<V>>,
    waiting: Vec<(u64, Waker)>,
    next_ticket: u64,
    /// Its place in the line for slots, now or earlier.
    place: Option<Place>,
    /// A waiter of it has a slot, so it must not wait for one itself.
    is_urgent: bool,
}

/// The outcome of a flight. Cloning it does not clone the value.
pub(crate) enum Landing<V> {
    Value(Arc<Brought<V>>),
    /// The source has no such value.
    Missing,
    /// The loader's error, type-erased.
    Failed(Arc<dyn Any + Send + Sync>),
    Panicked,
    TimedOut,
    /// The breaker did not let it through to the source.
    CircuitOpen,
    /// The loader answered `unchanged`, but had been shown no value.
    NothingToRenew,
    /// Its leader went away before there was an outcome: the waiters look again, and one of them leads.
    Abandoned,
}

pub(crate) struct Brought<V> {
    pub(crate) value: V,
    /// In ticks, if it was not loaded now, but came from a second tier.
    pub(crate) age: Option<u64>,
    pub(crate) fresh_for: Duration,
    pub(crate) validator: Option<Arc<str>>,
}

impl<V> Clone for Landing<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(brought) => Self::Value(Arc::clone(brought)),
            Self::Missing => Self::Missing,
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked => Self::Panicked,
            Self::TimedOut => Self::TimedOut,
            Self::CircuitOpen => Self::CircuitOpen,
            Self::NothingToRenew => Self::NothingToRenew,
            Self::Abandoned => Self::Abandoned,
        }
    }
}

/// What a flight is made from: the fields of the same names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    /// The load's identity until now; zero for one that begins now.
    pub(crate) alias: usize,
    pub(crate) hash: u64,
    pub(crate) is_absent: bool,
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    pub(crate) after: u64,
    pub(crate) reason: LoadReason,
    pub(crate) in_batch: bool,
    pub(crate) since: Version,
}

impl Begin {
    /// The first load of a key of which nothing is known.
    pub(crate) fn of_nothing(hash: u64) -> Self {
        let reason = LoadReason::Miss;
        let (alias, number, attempt, after, since) = (0, 0, 0, 0, 0);
        Self {
            alias,
            hash,
            is_absent: true,
            number,
            attempt,
            after,
            reason,
            in_batch: false,
            since,
        }
    }
}

/// A waiter's place in a flight's list; empty until it has waited once.
#[derive(Debug, Default)]
pub(crate) struct WaiterTicket(Option<u64>);

/// The ticket number of the load's own background task: it is told of the end, but does not count as a waiter.
const OWN: u64 = u64::MAX;

impl WaiterTicket {
    pub(crate) fn of_the_load() -> Self {
        Self(Some(OWN))
    }
}

impl<K, V> Flight<K, V> {
    pub(crate) fn new(begin: Begin, key: K, now: Tick) -> Self {
        let Begin { alias, hash, is_absent, number, attempt, after, reason, in_batch, since } =
            begin;
        Self {
            alias,
            key,
            hash,
            is_absent: AtomicBool::new(is_absent),
            number,
            attempt,
            after,
            reason,
            in_batch: AtomicBool::new(in_batch),
            is_ahead: AtomicBool::new(false),
            is_superseded: AtomicBool::new(false),
            since,
            posted: now,
            started: AtomicU64::new(now),
            grounded: AtomicBool::new(false),
            yields: AtomicBool::new(false),
            followers: AtomicUsize::new(0),
            tagged: OnceLock::new(),
            last_joined: AtomicU64::new(0),
            state: Mutex::new(State {
                landing: None,
                waiting: Vec::new(),
                next_ticket: 0,
                place: None,
                is_urgent: false,
            }),
        }
    }

    /// Whether its key has no entry, as long as the flight has its key.
    pub(crate) fn is_absent(&self) -> bool {
        self.is_absent.load(Ordering::Relaxed)
    }

    /// The key has an entry now, shown by the second tier, which the load is to replace. To be called under the
    /// lock of its board.
    pub(crate) fn stand(&self) {
        self.is_absent.store(false, Ordering::Relaxed);
    }

    /// Whether it is one of several that are counted together.
    pub(crate) fn is_in_batch(&self) -> bool {
        self.in_batch.load(Ordering::Relaxed)
    }

    /// Sets whether it is loaded together with others. Returns whether it was before.
    pub(crate) fn set_in_batch(&self, in_batch: bool) -> bool {
        self.in_batch.swap(in_batch, Ordering::Relaxed)
    }

    /// Whether any value will do that lives as long as a new one would, wherever it comes from.
    pub(crate) fn is_ahead(&self) -> bool {
        self.is_ahead.load(Ordering::Relaxed)
    }

    /// Called by whoever begins it because the old value is due.
    pub(crate) fn set_ahead(&self) {
        self.is_ahead.store(true, Ordering::Relaxed);
    }

    /// An address that is this load's own while it runs.
    pub(crate) fn id(&self) -> usize {
        if self.alias == 0 { std::ptr::from_ref(self).addr() } else { self.alias }
    }

    /// The tick that `load_timeout` counts from. While it waits for a slot its time does not
    /// run, and this is the end of all ticks.
    pub(crate) fn started(&self) -> Tick {
        self.started.load(Ordering::Relaxed)
    }

    /// Its loader is called only now, so its time runs from here. Waiters notice when the deadline that they
    /// computed earlier is over.
    pub(crate) fn begin_late(&self, at: Tick) {
        self.started.store(at, Ordering::Relaxed);
    }

    /// Whether it waits for a slot, and its loader does not run yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.started() == Tick::MAX
    }

    /// No slot is free: from here on it waits for one.
    pub(crate) fn wait(&self) {
        self.started.store(Tick::MAX, Ordering::Relaxed);
    }

    /// It gets in line behind all misses. Whoever wants the key takes it, and loads.
    pub(crate) fn give_way(&self) {
        self.yields.store(true, Ordering::Relaxed);
        self.wait();
    }

    /// Whether it waits behind all misses, and so is not worth waiting for.
    pub(crate) fn gives_way(&self) -> bool {
        self.yields.load(Ordering::Relaxed)
    }

    /// It does not give way any more: whoever wants the key waits for it. To be called under the lock of its
    /// board.
    pub(crate) fn keep_way(&self) {
        self.yields.store(false, Ordering::Relaxed);
    }

    /// It waits in this place. Returns `true` if it must not, since a waiter of it has a slot. Earlier followers
    /// are woken: they may be served a stale value instead.
    pub(crate) fn wait_at(&self, place: Place) -> bool {
        let (is_urgent, waiting) = {
            let mut state = self.state.lock();
            state.place = Some(place);
            (state.is_urgent, std::mem::take(&mut state.waiting))
        };
        wake(waiting);
        is_urgent
    }

    /// If it has to get in line, it takes this place of an earlier load of its key.
    pub(crate) fn take_place(&self, place: Place) {
        self.state.lock().place = Some(place);
    }

    /// A caller that has a slot is about to wait for it. Returns the flight's own place in line, if it has
    /// one.
    pub(crate) fn hurry(&self) -> Option<Place> {
        let mut state = self.state.lock();
        state.is_urgent = true;
        state.place
    }

    /// How many are waiting for it.
    pub(crate) fn waiters(&self) -> usize {
        self.state.lock().waiting.iter().filter(|(number, _)| *number != OWN).count()
    }

    /// Where it has waited for a slot, if it had to.
    pub(crate) fn place(&self) -> Option<Place> {
        self.state.lock().place
    }

    /// Called by whoever takes it off the board for any other reason than its landing.
    pub(crate) fn ground(&self) {
        self.grounded.store(true, Ordering::Relaxed);
    }

    /// To be called under the lock of its board, which orders it.
    pub(crate) fn supersede(&self) {
        self.is_superseded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.is_superseded.load(Ordering::Relaxed)
    }

    pub(crate) fn is_grounded(&self) -> bool {
        self.grounded.load(Ordering::Relaxed)
    }

    /// Counts a follower that knows of what happened to tags up to `now`. To be called under the lock of the
    /// board that the flight was found on.
    pub(crate) fn follow(&self, now: Version) {
        self.followers.fetch_add(1, Ordering::Relaxed);
        self.last_joined.fetch_max(now, Ordering::Relaxed);
    }

    /// The version of the tags that the last follower knew. Final once the flight is off the board.
    pub(crate) fn last_joined(&self) -> Version {
        self.last_joined.load(Ordering::Relaxed)
    }

    /// Sets the tags of its result. Called once, before the loader runs.
    pub(crate) fn tag(&self, tagged: Tagged) {
        let _ = self.tagged.set(tagged);
    }

    /// Whether something has happened to its known tags since it began: then nobody joins it any more.
    pub(crate) fn is_outdated(&self) -> bool {
        self.tagged.get().is_some_and(|tagged| tagged.fate() != TagFate::Untouched)
    }

    /// Whether anybody may be waiting. Final once the flight is off the board.
    pub(crate) fn has_followers(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    /// Sets the outcome for everybody. Only the first one counts; returns `false` for a later one.
    pub(crate) fn land(&self, landing: Landing<V>) -> bool {
        let waiting = {
            let mut state = self.state.lock();
            if state.landing.is_some() {
                // the guard is dropped first, the refused landing with its value after it
                drop(state);
                return false;
            }
            state.landing = Some(landing);
            std::mem::take(&mut state.waiting)
        };
        wake(waiting);
        true
    }

    pub(crate) fn landing(&self) -> Option<Landing<V>> {
        self.state.lock().landing.clone()
    }

    /// Returns the outcome, if there is one; else `waker` is woken when there is. A waiter that polls again
    /// with another waker is woken through the newer one.
    pub(crate) fn poll(&self, ticket: &mut WaiterTicket, waker: &Waker) -> Option<Landing<V>> {
        // wakers are the runtime's code: cloned before the lock is taken, dropped after
        let mut waker = waker.clone();
        let mut state = self.state.lock();
        if let Some(landing) = &state.landing {
            let landing = landing.clone();
            drop(state);
            return Some(landing);
        }
        let place = ticket.0.and_then(|t| state.waiting.iter_mut().find(|(mine, _)| *mine == t));
        if let Some((_, old)) = place {
            std::mem::swap(old, &mut waker);
            drop(state);
            drop(waker);
        } else {
            let number = if ticket.0 == Some(OWN) { OWN } else { state.next_ticket };
            state.next_ticket += 1;
            state.waiting.push((number, waker));
            ticket.0 = Some(number);
        }
        None
    }

    /// The waiter goes away.
    pub(crate) fn leave(&self, ticket: &WaiterTicket) {
        let Some(number) = ticket.0 else { return };
        let left = {
            let mut state = self.state.lock();
            let place = state.waiting.iter().position(|(mine, _)| *mine == number);
            place.map(|place| state.waiting.swap_remove(place))
        };
        drop(left);
    }
}

fn wake(waiting: Vec<(u64, Waker)>) {
    wake_all(waiting.into_iter().map(|(_, waker)| waker));
}

impl<K: Send + Sync, V: Send + Sync> Queued for Flight<K, V> {
    /// Its time runs from here, so its waiters are woken to compute their deadline anew.
    fn begin(&self, at: Tick) {
        let was = Tick::MAX;
        if self.started.compare_exchange(was, at, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let waiting = std::mem::take(&mut self.state.lock().waiting);
        wake(waiting);
    }
}

impl<K, V> fmt::Debug for Flight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("started", &self.started()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests;
