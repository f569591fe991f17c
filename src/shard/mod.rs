//! Floor 3: one shard of the map: its table, its policy, its loads in flight.
//!
//! A shard is told the time, fills an outbox, and calls nobody: no clock, no listener, no lock. The only user
//! code that runs in here is `Eq` of keys and, under a shared lock, `Clone`.

pub(crate) mod ahead;
pub(crate) mod ask;
pub(crate) mod aside;
pub(crate) mod board;
mod calm;
mod choose;
pub(crate) mod entry;
pub(crate) mod explain;
pub(crate) mod failures;
pub(crate) mod fences;
mod grow;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod look;
pub(crate) mod outbox;
pub(crate) mod seat;
pub(crate) mod store;
mod under_way;
pub(crate) mod validate;
pub(crate) mod walk;

use crate::parts::eviction::{ClockWindow, Policy, SlotId};
use crate::parts::group::Hash;
use crate::parts::table::Table;
use crate::parts::tags::{TagFate, Tags, Version};
use crate::parts::weights::WeightPart;
use crate::rules::expiry::{Age, Lives, NEVER};
use crate::words::removal::RemovalCause;
use crate::words::tick::Tick;
use aside::Aside;
use board::Board;
use entry::{Entry, Notes, Terms};
use equivalent::Equivalent;
use failures::Failures;
use fences::Fences;
use grow::Growth;

/// A table is made for 11 taken slots of 16. At 13 it is 6 bytes an entry smaller, but every fourth group is
/// full and look-ups walk on: hits in 64k entries are 10 % slower, `get_or_insert_with` over a Zipf of 1M
/// keys in 100k entries 25 %. The hit ratio is the same from 11 to 14.
const LOAD: usize = 11;

pub(crate) struct Shard<K, V> {
    table: Table<Entry<K, V>>,
    growth: Growth<Entry<K, V>>,
    policy: ClockWindow,
    aside: Aside<K>,
    board: Board<K, V>,
    fences: Fences<K>,
    failures: Failures<K, V>,
    /// How many loads have begun, which numbers them.
    begun: u64,
    tally: Tally,
    /// State of the generator that draws lives.
    random: u64,
    sweep: Sweep,
    /// How many entries have tags.
    tagged: usize,
    /// How many groups the table has when the shard holds its fair share; `usize::MAX` if the number of
    /// entries is not known.
    full_groups: usize,
}

/// Counts of events that happen under the exclusive lock anyway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) insertions: u64,
    pub(crate) replaced: u64,
    pub(crate) removed: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
    pub(crate) rejected: u64,
}

impl Tally {
    /// A value left.
    #[inline]
    fn left(&mut self, cause: RemovalCause) {
        *match cause {
            RemovalCause::Replaced => &mut self.replaced,
            RemovalCause::Removed => &mut self.removed,
            RemovalCause::Expired => &mut self.expired,
            RemovalCause::Evicted => &mut self.evicted,
            RemovalCause::Rejected => &mut self.rejected,
        } += 1;
    }
}

/// How far the round that looks for expired entries has come.
struct Sweep {
    hand: SlotId,
    /// Nothing expires before this tick: until then there is nothing to look for. [`NEVER`] or less.
    earliest: Tick,
    /// The same for the slots that the hand has passed in this round, and for what was stored meanwhile: no
    /// less than `earliest`.
    of_round: Tick,
    /// The version of the tags when this round began: the round finds all that was removed by then.
    begun: Version,
    /// The same for the last round.
    found: Version,
}

impl Sweep {
    fn new() -> Self {
        Self { hand: 0, earliest: NEVER, of_round: NEVER, begun: 0, found: 0 }
    }

    /// Something was stored that ends then. Most that is stored ends later than what was stored before.
    #[inline]
    fn expects(&mut self, at: Tick) {
        debug_assert!(self.earliest <= self.of_round, "a round passes what is there");
        if at < self.of_round {
            self.of_round = at;
            self.earliest = self.earliest.min(at);
        }
    }
}

/// A shard's share of the cache's bound.
#[derive(Clone, Debug)]
pub(crate) enum Share {
    /// How many entries it will hold when the cache is full.
    Entries(usize),
    Weight(WeightPart),
    Unbounded,
}

impl<K, V> Shard<K, V> {
    pub(crate) fn new(share: Share, lives: &Lives, seed: u64) -> Self {
        let (entries, weight) = match share {
            Share::Entries(entries) => (Some(entries), None),
            Share::Weight(weight) => (None, Some(weight)),
            Share::Unbounded => (None, None),
        };
        Self {
            table: Table::with_groups(0),
            growth: Growth::new(),
            policy: ClockWindow::new(entries.unwrap_or(0), seed),
            aside: Aside::new(weight, lives.idle < NEVER, lives.ahead.needs_costs()),
            board: Board::new(),
            fences: Fences::new(),
            failures: Failures::new(),
            begun: 0,
            tally: Tally::default(),
            random: seed,
            sweep: Sweep::new(),
            tagged: 0,
            full_groups: entries.map_or(usize::MAX, |entries| entries.div_ceil(LOAD).max(1)),
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// How many loads are in flight.
    pub(crate) fn flights(&self) -> usize {
        self.board.len()
    }

    /// How many keys are being written at the source.
    pub(crate) fn fences(&self) -> usize {
        self.fences.len()
    }

    /// The number of the load that began last.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// The tick before which no entry is past its last window.
    #[inline]
    pub(crate) fn earliest(&self, tags: &Tags) -> Tick {
        // entries that a tag removed are gone already, and not reported yet
        let is_behind = self.tagged > 0 && self.sweep.found != tags.version();
        if is_behind { 0 } else { self.sweep.earliest }
    }

    /// How many slots a full look for expired entries visits.
    pub(crate) fn slots(&self) -> usize {
        self.table.slots()
    }

    /// The slot of a key, whether its entry is fresh or not.
    fn locate<Q>(&self, hash: Hash, key: &Q) -> Option<SlotId>
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.locate_if(hash, key, |_| true)
    }

    /// The first slot that `will_do`, if several keys are equivalent to this one.
    #[inline]
    fn locate_if<Q>(&self, hash: Hash, key: &Q, will_do: impl Fn(SlotId) -> bool) -> Option<SlotId>
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.table.find(hash, |id, group, lane| {
            let stands = match &group.slots[lane] {
                Some(entry) => key.equivalent(&entry.key),
                None => self.aside.missing(id).is_some_and(|m| key.equivalent(&m.key)),
            };
            (stands && will_do(id)).then_some(id)
        })
    }

    /// The tick at which one of a slot's tags ended its entry: zero if a tag was removed, the end of all
    /// ticks if nothing has happened to the tags.
    #[inline]
    fn cut(&self, id: SlotId) -> Tick {
        // most shards have no entry with tags: then the mark need not be read
        if self.tagged > 0 && self.table.has_tags(id) { self.cut_by_tags(id) } else { Tick::MAX }
    }

    #[inline(never)]
    fn cut_by_tags(&self, id: SlotId) -> Tick {
        match self.aside.notes(id).map_or(TagFate::Untouched, Notes::fate) {
            TagFate::Untouched => Tick::MAX,
            TagFate::Expired(at) => at,
            TagFate::Removed => 0,
        }
    }

    /// The tick at which the entry expires as things are now: by its life, by its tags or by not being used.
    #[inline]
    fn expiry(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives) -> Tick {
        let expiry = entry.stamp.expiry().min(self.cut(id));
        match self.aside.last_use(id) {
            Some(used) => expiry.min(used + lives.idle),
            None => expiry,
        }
    }

    /// The tick at which the entry is gone for good, as things are now. An entry that ends by not being used
    /// has no stale windows; one whose life ends before that has both.
    #[inline]
    fn end(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives) -> Tick {
        self.end_if_cut(id, entry, lives, self.cut(id))
    }

    #[inline]
    fn end_if_cut(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives, cut: Tick) -> Tick {
        if cut == 0 {
            return 0; // what was removed is not stale
        }
        let life = entry.stamp.expiry();
        match self.aside.last_use(id) {
            Some(used) if used + lives.idle < life && used + lives.idle <= cut => used + lives.idle,
            _ => lives.windows.end(life.min(cut)),
        }
    }

    /// What may be done with an entry now.
    fn age(&self, id: SlotId, entry: &Entry<K, V>, terms: &Terms<'_>) -> Age {
        if terms.now < self.expiry(id, entry, terms.lives) {
            Age::Fresh
        } else if terms.now >= self.end(id, entry, terms.lives) {
            Age::Gone
        } else {
            terms.lives.windows.age(entry.stamp.expiry().min(self.cut(id)), terms.now)
        }
    }

    /// Whether an entry is within its life.
    pub(crate) fn is_fresh(&self, id: SlotId, entry: &Entry<K, V>, terms: &Terms<'_>) -> bool {
        terms.now < self.expiry(id, entry, terms.lives)
    }

    /// Whether the entry of a live slot is past its last window, and so counts as absent. A cached "not
    /// found" has no windows: a stale one would hide a value that has come into being since.
    fn is_gone(&self, id: SlotId, terms: &Terms<'_>) -> bool {
        match self.table.entry(id) {
            Some(entry) => self.end(id, entry, terms.lives) <= terms.now,
            None => !self.is_missing(id, terms),
        }
    }

    /// Whether a slot without an entry has a "not found" that is still valid.
    fn is_missing(&self, id: SlotId, terms: &Terms<'_>) -> bool {
        let missing = self.aside.missing(id);
        missing.is_some_and(|m| m.stamp.is_fresh(terms.now)) && terms.now < self.cut(id)
    }

    #[inline]
    fn draw(&mut self) -> u64 {
        // wyrand (Wang Yi 2019): one addition and one multiplication, any seed will do
        self.random = self.random.wrapping_add(0xA076_1D64_78BD_642F);
        let wide = u128::from(self.random) * u128::from(self.random ^ 0xE703_7ED1_A0B4_28DB);
        wide as u64 ^ (wide >> 64) as u64
    }
}
