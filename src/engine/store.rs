//! The store: all shards of one cache with what they share.

use super::ahead::Refresher;
use super::behind::Queues;
use super::guard::Guards;
use super::tier::StoreTier;
use super::writing::{Holds, no_holds};
use crate::parts::breaker::Breaker;
use crate::parts::budget::Budget;
use crate::parts::flight::{Flight, Landing};
use crate::parts::ledger::Ledger;
use crate::parts::notifier::Notifier;
use crate::parts::slots::LoadSlots;
use crate::parts::tags::Tags;
use crate::parts::weights::WeightPart;
use crate::rules::counted::CountedErrors;
use crate::rules::event::Event;
use crate::rules::expiry::{Lives, NEVER, ticks};
use crate::rules::stats::Stats;
use crate::shard::entry::Terms;
use crate::shard::outbox::Outbox;
use crate::shard::{Shard, Share};
use crate::words::clock::{Clock, STILL, Ticking};
use crate::words::contain::contain;
use crate::words::keeper;
use crate::words::removal::Removal;
use crate::words::striped::Lookups;
use crate::words::sync::atomic::{AtomicBool, AtomicU64};
use crate::words::sync::{Counter, Mutex, RwLock};
use crate::words::tick::Tick;
use crate::words::weak_list::WeakList;
use std::any::TypeId;
use std::hash::{BuildHasher, Hash as StdHash};
use std::sync::{Arc, Weak};
use std::time::Duration;

pub(crate) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;
pub(crate) type Listener<K, V> = Box<dyn Fn(Removal<K, V>) + Send + Sync>;

pub(crate) struct Store<K, V, S> {
    pub(super) cells: Box<[Cell<K, V>]>,
    pub(super) shortcuts: Shortcuts,
    /// While the clock shows less than this, freshness is decided by what it shows: 0 if hits have no
    /// shortcut, [`STILL`] if its lives end, else [`u64::MAX`].
    pub(super) glances_below: u64,
    hasher: S,
    pub(crate) clock: Clock,
    pub(super) lives: Lives,
    pub(super) budget: Budget,
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(super) listener: Option<Listener<K, V>>,
    pub(super) notifier: Option<Arc<Notifier<K>>>,
    /// Ticks.
    pub(crate) load_timeout: u64,
    pub(crate) soft_timeout: Option<u64>,
    /// `None` if nothing protects the source.
    pub(crate) guards: Option<Arc<Guards>>,
    /// Runs the loads that nobody waits for; `None` in a cache without a loader of its own.
    pub(super) refresher: Option<Box<dyn Refresher<K, V, S>>>,
    /// The refresher also runs the loads of misses.
    pub(super) detaches: bool,
    /// No value is due more than so many ticks before its expiry, if refreshes depend on load times.
    pub(super) horizon: AtomicU64,
    pub(super) seed: u64,
    pub(super) counts: Counts,
    pub(super) lookups: Lookups,
    pub(super) ledger: Ledger,
    pub(crate) tags: Tags,
    pub(super) holds: Holds,
    /// Loads without a caller. They are told when the store is dropped, also those that have lost their key
    /// and so are on no board.
    pub(super) sent_away: Mutex<WeakList<Flight<K, V>>>,
    /// The heavy turn, held by the one insert at a time that takes its room from other shards.
    pub(super) heavy: Mutex<()>,
    /// Whether the keeper has a sweep of this store on its list.
    pub(super) is_swept: AtomicBool,
    pub(super) queues: Queues<K, V>,
    /// The second tier, asked before the source.
    pub(super) tier: Option<StoreTier<K, V>>,
    pub(super) me: Weak<Self>,
    pub(crate) name: Option<Arc<str>>,
    _ticking: Option<Ticking>,
}

/// Which fast paths this cache's settings allow; decided when it is built.
pub(super) struct Shortcuts {
    /// A hit needs nothing but the value, and the clock is the system's.
    pub(super) hits: bool,
    /// A value that is written, and has a life, only has to be stored.
    pub(super) writes: bool,
    /// A load needs nothing but its value: see [`solo`](super::solo).
    pub(super) loads: bool,
}

/// One shard behind its lock, on lines of its own: two, because processors fetch them in pairs.
#[repr(align(128))]
pub(super) struct Cell<K, V> {
    pub(super) shard: RwLock<Shard<K, V>>,
}

/// Counts of events that are rare enough to share a cache line.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) load_failures: Counter,
    pub(super) load_timeouts: Counter,
    pub(super) abandoned: Counter,
    pub(super) load_millis: Counter,
    pub(super) overloaded: Counter,
    pub(super) circuit_open: Counter,
    pub(super) joined: Counter,
    pub(super) fenced: Counter,
    pub(super) unchanged: Counter,
    pub(super) refreshes: Counter,
    pub(super) refused: Counter,
    pub(super) changed: Counter,
    pub(super) listener_panics: Counter,
}

/// What the builder decided.
pub(crate) struct Plan<K, V, S> {
    pub(crate) shards: usize,
    /// In entries, or in weight if there is a weigher; `u64::MAX` for no bound.
    pub(crate) bound: u64,
    pub(crate) hasher: S,
    pub(crate) clock: Clock,
    pub(crate) lives: Lives,
    pub(crate) weigher: Option<Weigher<K, V>>,
    pub(crate) listener: Option<Listener<K, V>>,
    pub(crate) notifier: Option<Arc<Notifier<K>>>,
    pub(crate) load_timeout: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) max_loads: Option<usize>,
    /// How many failures in a row open it, and for how long.
    pub(crate) breaker: Option<(u32, Duration)>,
    pub(crate) counted: CountedErrors,
    pub(crate) refresher: Option<Box<dyn Refresher<K, V, S>>>,
    pub(crate) detaches: bool,
    pub(crate) tier: Option<StoreTier<K, V>>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) seed: u64,
}

impl<K, V, S> Store<K, V, S> {
    pub(crate) fn new(plan: Plan<K, V, S>) -> Arc<Self> {
        let Plan { shards, bound, hasher, clock, lives, weigher, listener, name, seed, .. } = plan;
        let weighted = weigher.is_some();
        let share = match bound / shards as u64 {
            _ if weighted => Share::Weight(WeightPart::of(bound, shards)),
            _ if bound == u64::MAX => Share::Unbounded,
            entries => Share::Entries(usize::try_from(entries).unwrap_or(usize::MAX / 64)),
        };
        let cell = |n: u64| Cell {
            shard: RwLock::new(Shard::new(
                share.clone(),
                &lives,
                // any odd factor keeps the seeds of the shards apart
                seed ^ n.wrapping_mul(0xD6E8_FEB8_6659_FD93),
            )),
        };
        let cells = (0..shards as u64).map(cell).collect();
        // a value that lives for ever is served without asking for the time
        let lives_end = lives.ttl < NEVER || lives.idle < NEVER;
        let ticking = lives_end.then(|| clock.keep_ticking()).flatten();
        // a timeout is never shorter than set, though the clock lags
        let lasting = |time: Duration| ticks(time).saturating_add(clock.lag()).min(NEVER);
        let load_timeout = lasting(plan.load_timeout);
        let soft_timeout = plan.soft_timeout.map(lasting);
        let slots = plan.max_loads.map(|n| LoadSlots::new(n, load_timeout, clock.clone()));
        let breaker = plan.breaker.map(|(failures, open_for)| {
            Breaker::new(failures, ticks(open_for), load_timeout, clock.clone())
                .watched(plan.notifier.is_some())
        });
        let is_guarded = slots.is_some() || breaker.is_some();
        let counted = plan.counted;
        let guards = is_guarded.then(|| Arc::new(Guards { slots, breaker, counted }));
        let shortcuts = Shortcuts {
            hits: !clock.is_manual() && lives.idle == NEVER && lives.ahead.is_never(),
            writes: !weighted && bound > 0 && plan.tier.is_none(),
            loads: guards.is_none()
                && !weighted
                && plan.refresher.is_none()
                && plan.tier.is_none()
                && lives.ahead.is_never()
                && !lives.windows.is_any(),
        };
        let glances_below = match (shortcuts.hits, lives_end) {
            (false, _) => 0,
            (true, true) => STILL,
            (true, false) => u64::MAX,
        };
        Arc::new_cyclic(|me| Self {
            cells,
            hasher,
            clock,
            lives,
            budget: Budget::new(bound, weighted),
            weigher,
            listener,
            notifier: plan.notifier,
            load_timeout,
            soft_timeout,
            guards,
            refresher: plan.refresher,
            detaches: plan.detaches,
            shortcuts,
            glances_below,
            horizon: AtomicU64::new(lives.ahead.horizon(1)),
            seed,
            counts: Counts::default(),
            lookups: Lookups::new(),
            ledger: Ledger::default(),
            tags: Tags::new(),
            holds: no_holds(),
            sent_away: Mutex::new(WeakList::default()),
            heavy: Mutex::new(()),
            is_swept: AtomicBool::new(false),
            queues: Queues::new(),
            tier: plan.tier,
            me: me.clone(),
            name,
            _ticking: ticking,
        })
    }

    /// The key's hash, well mixed: a user's hasher may leave bits unmixed, and shards, groups and tags take
    /// theirs from different ends. It costs one multiplication with both halves folded, but not for the
    /// default hasher, which ends in just that.
    #[inline]
    pub(crate) fn hash<Q: ?Sized + StdHash>(&self, key: &Q) -> u64
    where
        S: BuildHasher + 'static,
    {
        if TypeId::of::<S>() == TypeId::of::<ahash::RandomState>() {
            return self.hasher.hash_one(key);
        }
        spread(self.hasher.hash_one(key))
    }

    pub(super) fn hasher(&self) -> &S {
        &self.hasher
    }

    #[inline]
    pub(super) fn index(&self, hash: u64) -> usize {
        // the high bits pick the shard, the low ones the group
        ((u128::from(hash) * self.cells.len() as u128) >> 64) as usize
    }

    #[inline]
    pub(super) fn cell(&self, hash: u64) -> &Cell<K, V> {
        &self.cells[self.index(hash)]
    }

    /// The settings and the current time for a critical section. To be called with the shard's lock held: with a
    /// time that was read before the wait for the lock, a value that expired meanwhile would be served.
    #[inline]
    pub(super) fn terms(&self) -> Terms<'_> {
        self.terms_at(self.clock.now())
    }

    /// The same for a caller that has read the clock under the lock.
    #[inline]
    pub(super) fn terms_at(&self, now: Tick) -> Terms<'_> {
        let load_timeout = self.load_timeout;
        let (lives, budget, tags) = (&self.lives, &self.budget, &self.tags);
        Terms { now, lives, budget, tags, load_timeout }
    }

    /// Reports and drops what left, in order; no lock is held.
    pub(super) fn deliver(&self, out: Outbox<K, V>) {
        if self.hears() {
            self.report_all(out);
        }
    }

    /// Whether there is a listener. Where speed counts, removed entries are handed over only if there is one,
    /// and else dropped in place: to move what was written just before stalls the processor.
    #[inline]
    pub(super) fn hears(&self) -> bool {
        self.listener.is_some()
    }

    #[inline(never)]
    pub(super) fn report_all(&self, out: Outbox<K, V>) {
        out.hand_over(|removal| self.report(removal));
    }

    pub(super) fn report(&self, removal: Removal<K, V>) {
        let Some(listener) = &self.listener else { return };
        // a panic of the listener is counted, and not passed on
        if !contain(|| listener(removal)) {
            self.counts.listener_panics.add(1);
            self.emit(Event::ListenerPanicked);
        }
    }

    /// The builder's settings for lives.
    #[cfg(any(feature = "http", feature = "snapshot"))]
    pub(crate) fn lives(&self) -> Lives {
        self.lives
    }

    pub(crate) fn len(&self) -> u64 {
        self.budget.entries()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.budget.used()
    }

    /// `None` if there is no bound.
    pub(crate) fn capacity(&self) -> Option<u64> {
        Some(self.budget.max()).filter(|max| *max < u64::MAX)
    }

    pub(crate) fn stats(&self) -> Stats {
        let [hits, misses, stale_hits] = self.lookups.sum();
        let mut stats = Stats {
            hits,
            misses,
            stale_hits,
            loads: self.lookups.loads(),
            load_failures: self.counts.load_failures.get(),
            load_timeouts: self.counts.load_timeouts.get(),
            abandoned: self.counts.abandoned.get(),
            overloaded: self.counts.overloaded.get(),
            circuit_open: self.counts.circuit_open.get(),
            joined: self.counts.joined.get(),
            fenced: self.counts.fenced.get(),
            unchanged: self.counts.unchanged.get(),
            refreshes: self.counts.refreshes.get(),
            refused: self.counts.refused.get(),
            changed: self.counts.changed.get(),
            listener_panics: self.counts.listener_panics.get()
                + self.notifier.as_ref().map_or(0, |notifier| notifier.panics()),
            load_time: Duration::from_millis(self.counts.load_millis.get()),
            ..Stats::default()
        };
        if let Some(tier) = &self.tier {
            tier.add_to(&mut stats);
        }
        for cell in &self.cells {
            let tally = cell.shard.read().tally();
            stats.insertions += tally.insertions;
            stats.replaced += tally.replaced;
            stats.removed += tally.removed;
            stats.expired += tally.expired;
            stats.evicted += tally.evicted;
            stats.rejected += tally.rejected;
        }
        stats
    }

    /// How many loads are in flight.
    pub(crate) fn flights(&self) -> usize {
        self.cells.iter().map(|cell| cell.shard.read().flights()).sum()
    }

    /// How many keys are being written at the source.
    pub(crate) fn fences(&self) -> usize {
        self.cells.iter().map(|cell| cell.shard.read().fences()).sum()
    }

    /// Panics if an invariant does not hold. Exact only while nobody else uses the cache.
    pub(crate) fn validate(&self)
    where
        K: Eq,
    {
        let terms = self.terms();
        let (mut entries, mut units) = (0, 0);
        for cell in &self.cells {
            let held = cell.shard.read().validate(&terms);
            entries += held.entries;
            units += held.units;
        }
        assert_eq!(entries, self.len(), "len() is not what the shards hold");
        assert_eq!(units, self.weight(), "weight() is not what the shards hold");
        assert!(units <= self.budget.max(), "the bound is exceeded");
    }
}

/// Mixes what a user's hasher may have left unmixed.
#[inline]
pub(super) fn spread(hash: u64) -> u64 {
    let wide = u128::from(hash) * 0x9E37_79B9_7F4A_7C15;
    wide as u64 ^ (wide >> 64) as u64
}

/// A panic of user code leaves a cache as valid as it was: see the chapter on locks in
/// [`design`](crate::design).
impl<K, V, S> std::panic::RefUnwindSafe for Store<K, V, S> {}

impl<K, V, S> Drop for Store<K, V, S> {
    fn drop(&mut self) {
        if self.refresher.is_some() {
            // what still loads does so without a caller: it is told to stop
            for cell in &self.cells {
                let flights = cell.shard.write().end_flights();
                for flight in flights {
                    flight.land(Landing::Abandoned);
                }
            }
            // and those that lost their key meanwhile
            let sent_away = std::mem::take(&mut *self.sent_away.lock());
            for flight in sent_away.into_living() {
                flight.land(Landing::Abandoned);
            }
        }
        if !self.clock.is_manual() {
            keeper::nudge();
        }
    }
}
