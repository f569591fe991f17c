//! The store: all shards of one cache with what they share.

use super::ahead::Refresher;
use super::background::Background;
use super::behind::Queues;
use super::counts::Counts;
use super::guard::Guards;
use super::handlers::{Handlers, Listener};
use super::sweeper::Upkeep;
use super::tier::StoreTier;
use super::writing::holds::Holds;
use crate::parts::breaker::Breaker;
use crate::parts::budget::Budget;
use crate::parts::flight::Landing;
use crate::parts::ledger::Ledger;
use crate::parts::notifier::Notifier;
use crate::parts::slots::LoadSlots;
use crate::parts::tags::Tags;
use crate::parts::weights::WeightPart;
use crate::rules::counted::CountedErrors;
use crate::rules::expiry::{Lives, NEVER, ticks};
use crate::rules::timeouts::Timeouts;
use crate::shard::entry::Terms;
use crate::shard::{Shard, Share};
use crate::words::clock::{Clock, STILL};
use crate::words::keeper;
use crate::words::striped::Lookups;
use crate::words::sync::atomic::AtomicU64;
use crate::words::sync::{Mutex, RwLock};
use crate::words::tick::Tick;
use std::any::TypeId;
use std::hash::{BuildHasher, Hash as StdHash};
use std::sync::Arc;
use std::time::Duration;

pub(crate) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;

pub(crate) struct Store<K, V, S> {
    // what look-ups and inserts touch first
    pub(super) cells: Box<[Cell<K, V>]>,
    pub(super) shortcuts: Shortcuts,
    /// While the clock shows less than this, freshness is decided by what it shows: 0 if hits have no
    /// shortcut, [`STILL`] if its lives end, else [`u64::MAX`].
    pub(super) glances_below: u64,
    hasher: S,
    pub(crate) clock: Clock,
    pub(super) lives: Lives,
    pub(super) lookups: Lookups,

    // the bound
    pub(super) budget: Budget,
    pub(super) weigher: Option<Weigher<K, V>>,
    /// The heavy turn, held by the one insert at a time that takes its room from other shards.
    pub(super) heavy: Mutex<()>,

    // who is told of what happens, and what has happened
    pub(super) handlers: Handlers<K, V>,
    pub(super) counts: Counts,
    pub(super) ledger: Ledger,
    pub(crate) tags: Tags,

    // loads, and what stands between them and the source
    pub(crate) timeouts: Timeouts,
    /// `None` if nothing protects the source.
    pub(crate) guards: Option<Arc<Guards>>,
    /// Runs the loads that nobody waits for; `None` in a cache without a loader of its own.
    pub(super) refresher: Option<Box<Background<K, V, S>>>,
    /// No value is due more than so many ticks before its expiry, if refreshes depend on load times.
    pub(super) horizon: AtomicU64,
    /// The second tier, asked before the source.
    pub(super) tier: Option<StoreTier<K, V>>,

    // writes at the source, before and after it has them
    pub(super) queues: Queues<K, V>,
    pub(super) holds: Holds,

    pub(super) upkeep: Upkeep<Self>,
    pub(super) seed: u64,
    pub(crate) name: Option<Arc<str>>,
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
        // where nothing is served stale, nobody waits for that
        let soft = plan.soft_timeout.filter(|_| lives.windows.is_any());
        let timeouts = Timeouts::new(plan.load_timeout, soft, clock.lag());
        let slots = plan.max_loads.map(|n| LoadSlots::new(n, timeouts.load, clock.clone()));
        let breaker = plan.breaker.map(|(failures, open_for)| {
            Breaker::new(failures, ticks(open_for), timeouts.load, clock.clone())
                .watched(plan.notifier.is_some())
        });
        let is_guarded = slots.is_some() || breaker.is_some();
        let counted = plan.counted;
        let guards = is_guarded.then(|| Arc::new(Guards { slots, breaker, counted }));
        let refresher =
            plan.refresher.map(|loader| Box::new(Background::new(loader, plan.detaches)));
        let shortcuts = Shortcuts {
            hits: !clock.is_manual() && lives.idle == NEVER && lives.ahead.is_never(),
            writes: !weighted && bound > 0 && plan.tier.is_none(),
            loads: guards.is_none()
                && !weighted
                && refresher.is_none()
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
            shortcuts,
            glances_below,
            hasher,
            clock,
            lives,
            lookups: Lookups::new(),
            budget: Budget::new(bound, weighted),
            weigher,
            heavy: Mutex::new(()),
            handlers: Handlers { removals: listener, events: plan.notifier },
            counts: Counts::default(),
            ledger: Ledger::default(),
            tags: Tags::new(),
            timeouts,
            guards,
            refresher,
            horizon: AtomicU64::new(lives.ahead.horizon(1)),
            tier: plan.tier,
            queues: Queues::new(),
            holds: Holds::new(),
            upkeep: Upkeep::new(me.clone(), ticking),
            seed,
            name,
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
        let load_timeout = self.timeouts.load;
        let (lives, budget, tags) = (&self.lives, &self.budget, &self.tags);
        Terms { now, lives, budget, tags, load_timeout }
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
        if let Some(background) = &self.refresher {
            // what still loads does so without a caller: it is told to stop
            for cell in &self.cells {
                let flights = cell.shard.write().end_flights();
                for flight in flights {
                    flight.land(Landing::Abandoned);
                }
            }
            // and those that lost their key meanwhile
            background.end();
        }
        if !self.clock.is_manual() {
            keeper::nudge();
        }
    }
}
