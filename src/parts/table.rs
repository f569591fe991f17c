//! The open-addressed table of one shard: groups in a row, an entry in its home group or in one of
//! the next ones.
//!
//! A slot is free, live or dead. A live slot holds an entry, or stands for one that is kept elsewhere (a
//! cached "not found" has no value to put into a slot). A dead slot is a tombstone: its entry left while its
//! id is still in a queue of the policy; a newcomer to the same group takes the slot over, or the policy's
//! hand frees it. To tell look-ups when to stop, each group counts the entries that passed it because it was
//! full.

use super::eviction::{SlotId, Slots};
use super::group::{
    CLASSES, COLD, DEAD, Group, Hash, LANES, MAIN, MANY, TAGGED, TAKEN, cold, heat,
};
use crate::words::prefetch::prefetch;

/// How many groups an entry may be away from home. In a table 11/16 full, runs of full groups are short; only
/// keys that share their hash get this far, and the limit keeps a flood of them from making each look-up walk
/// the whole table.
pub(crate) const REACH: usize = 128;

pub(crate) struct Table<T> {
    groups: Vec<Group<T>>,
    live: usize,
    dead: usize,
}

/// A slot that was given to a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: SlotId,
    /// The slot was dead: its id is still in a queue of the policy.
    pub(crate) was_dead: bool,
}

impl<T> Table<T> {
    pub(crate) fn with_groups(n: usize) -> Self {
        let mut table = Self::with_room_for(n);
        table.extend(n);
        table
    }

    /// An empty table of no groups yet, with memory for so many.
    pub(crate) fn with_room_for(groups: usize) -> Self {
        Self { groups: Vec::with_capacity(groups), live: 0, dead: 0 }
    }

    /// Makes it a table of `n` groups. It must be empty: where entries belong depends on the number of
    /// groups.
    pub(crate) fn extend(&mut self, n: usize) {
        debug_assert!(self.taken() == 0 && n >= self.groups.len());
        self.groups.resize_with(n, Group::new);
    }

    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn slots(&self) -> usize {
        self.groups.len() * LANES
    }

    /// Live slots.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Slots that are not free.
    pub(crate) fn taken(&self) -> usize {
        self.live + self.dead
    }

    /// The group that a look-up begins with.
    #[inline]
    pub(crate) fn home(&self, hash: Hash) -> Option<(usize, &Group<T>)> {
        let home = hash.home(self.groups.len());
        // also returns here if there is no group yet: 0 is not below 0
        if home >= self.groups.len() {
            return None;
        }
        Some((home, &self.groups[home]))
    }

    /// Visits the live and dead slots whose tag is that of `hash`, home first, until `visit` says
    /// that it is the one.
    #[inline]
    pub(crate) fn find<'t, R>(
        &'t self,
        hash: Hash,
        mut visit: impl FnMut(SlotId, &'t Group<T>, usize) -> Option<R>,
    ) -> Option<R> {
        let (home, group) = self.home(hash)?;
        for lane in group.tagged(hash.tag()) {
            if let found @ Some(_) = visit(id(home, lane), group, lane) {
                return found;
            }
        }
        if !group.is_passed_by(hash) {
            return None;
        }
        self.find_beyond(hash, home, visit)
    }

    /// The rest of [`find`](Self::find), for those that do not end at home.
    #[inline]
    pub(crate) fn find_beyond<'t, R>(
        &'t self,
        hash: Hash,
        home: usize,
        mut visit: impl FnMut(SlotId, &'t Group<T>, usize) -> Option<R>,
    ) -> Option<R> {
        let mut g = home;
        for _ in 1..self.groups.len().min(REACH) {
            g = self.next(g);
            let group = &self.groups[g];
            for lane in group.tagged(hash.tag()) {
                if let found @ Some(_) = visit(id(g, lane), group, lane) {
                    return found;
                }
            }
            if !group.is_passed_by(hash) {
                break;
            }
        }
        None
    }

    /// Whether any slot is dead.
    #[inline]
    pub(crate) fn has_dead(&self) -> bool {
        self.dead > 0
    }

    /// Finds a slot for a newcomer: a dead one that it can take over, or a free one. `None` if all
    /// within reach of its home are live.
    #[inline]
    pub(crate) fn claim(&mut self, hash: Hash) -> Option<Claim> {
        if self.has_dead() {
            return self.claim_beyond(hash, hash.home(self.groups.len()));
        }
        self.claim_free(hash).map(|id| Claim { id, was_dead: false })
    }

    /// The same in a table without dead slots: most find a free one at home.
    #[inline]
    pub(crate) fn claim_free(&mut self, hash: Hash) -> Option<SlotId> {
        debug_assert!(!self.has_dead());
        let home = hash.home(self.groups.len());
        if let Some(group) = self.groups.get_mut(home) {
            if let Some(lane) = group.free_lane() {
                group.take(lane, hash, 0);
                self.live += 1;
                return Some(id(home, lane));
            }
        }
        self.claim_beyond(hash, home).map(|claim| claim.id)
    }

    /// Puts a newcomer into a free slot, in a table without dead slots: most find one at home. Gives it back
    /// if all slots within reach are live.
    #[inline]
    pub(crate) fn settle(&mut self, hash: Hash, entry: T) -> Result<SlotId, T> {
        debug_assert!(!self.has_dead());
        let home = hash.home(self.groups.len());
        if let Some(group) = self.groups.get_mut(home) {
            if let Some(lane) = group.free_lane() {
                group.take(lane, hash, 0);
                group.slots[lane] = Some(entry);
                self.live += 1;
                return Ok(id(home, lane));
            }
        }
        self.settle_beyond(hash, home, entry)
    }

    #[inline(never)]
    fn settle_beyond(&mut self, hash: Hash, home: usize, entry: T) -> Result<SlotId, T> {
        let Some(claim) = self.claim_beyond(hash, home) else { return Err(entry) };
        *self.entry_mut(claim.id) = Some(entry);
        Ok(claim.id)
    }

    /// [`claim`](Self::claim) in full.
    #[inline(never)]
    fn claim_beyond(&mut self, hash: Hash, home: usize) -> Option<Claim> {
        let n = self.groups.len();
        let mut g = home;
        let (lane, was_dead) = 'found: {
            for _ in 0..n.min(REACH) {
                let group = &mut self.groups[g];
                if self.dead > 0 {
                    if let Some(lane) = (0..LANES).find(|&lane| group.mark(lane) & DEAD != 0) {
                        break 'found (lane, true);
                    }
                }
                if let Some(lane) = group.free_lane() {
                    break 'found (lane, false);
                }
                g = self.next(g);
            }
            return None;
        };
        if was_dead {
            self.pass(self.groups[g].hash(lane), g, Group::remove_passed);
            self.dead -= 1;
        }
        self.pass(hash, g, Group::add_passed);
        self.live += 1;
        let group = &mut self.groups[g];
        // a dead slot stays in the queue that it is in
        let queue = group.mark(lane) & MAIN;
        group.take(lane, hash, queue);
        Some(Claim { id: id(g, lane), was_dead })
    }

    /// Makes a slot dead: its entry left, and its id is still in a queue.
    pub(crate) fn kill(&mut self, id: SlotId) {
        let (group, lane) = self.group_mut(id);
        debug_assert!(group.is_live(lane) && group.slots[lane].is_none());
        let queue = group.mark(lane) & MAIN;
        group.set_mark(lane, queue | TAKEN | DEAD | COLD);
        self.live -= 1;
        self.dead += 1;
    }

    #[inline]
    pub(crate) fn entry(&self, id: SlotId) -> Option<&T> {
        let (g, lane) = place(id);
        self.groups[g].slots[lane].as_ref()
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, id: SlotId) -> &mut Option<T> {
        let (group, lane) = self.group_mut(id);
        &mut group.slots[lane]
    }

    /// Replaces an entry, which counts as a hit, and gives back the old one.
    #[inline]
    pub(crate) fn replace(&mut self, id: SlotId, entry: T) -> Option<T> {
        let (group, lane) = self.group_mut(id);
        let old = group.slots[lane].replace(entry);
        group.warm(lane);
        old
    }

    /// Takes the entry out of a live slot, and frees the slot. Its id must be in no queue any more.
    #[inline]
    pub(crate) fn evict(&mut self, id: SlotId) -> Option<T> {
        let (g, lane) = place(id);
        let group = &mut self.groups[g];
        debug_assert!(group.is_live(lane));
        let old = group.slots[lane].take();
        let hash = group.hash(lane);
        group.set_mark(lane, 0);
        self.pass(hash, g, Group::remove_passed);
        self.live -= 1;
        old
    }

    pub(crate) fn hash_of(&self, id: SlotId) -> Hash {
        let (g, lane) = place(id);
        self.groups[g].hash(lane)
    }

    #[inline]
    pub(crate) fn warm(&self, id: SlotId) {
        let (g, lane) = place(id);
        self.groups[g].warm(lane);
    }

    #[inline]
    pub(crate) fn has_tags(&self, id: SlotId) -> bool {
        let (g, lane) = place(id);
        self.groups[g].has_tags(lane)
    }

    pub(crate) fn set_has_tags(&mut self, id: SlotId, has_tags: bool) {
        let (group, lane) = self.group_mut(id);
        let mark = group.mark(lane);
        group.set_mark(lane, if has_tags { mark | TAGGED } else { mark & !TAGGED });
    }

    /// The live slots of one group.
    pub(crate) fn live_in(&self, g: usize) -> impl Iterator<Item = SlotId> + '_ {
        let group = &self.groups[g];
        (0..LANES).filter(move |&lane| group.is_live(lane)).map(move |lane| id(g, lane))
    }

    /// Whether entries whose home is `g` or before may be beyond it.
    pub(crate) fn overflows(&self, g: usize) -> bool {
        self.groups[g].is_passed()
    }

    pub(crate) fn next(&self, g: usize) -> usize {
        if g + 1 == self.groups.len() { 0 } else { g + 1 }
    }

    /// Moves all live slots into `to`, where they start with the same heat and flags; those for which there
    /// is no room within reach stay. It goes from front to back: whatever the number of groups, homes keep
    /// their order, so both tables are traversed in memory order. (72,000 entries in the order of the
    /// policy's queues, which is random access: 4.6 ms. In this order, and then the ids in the queues: 1.3.)
    ///
    /// The old table is then good for one thing only: it knows [where](Self::moved) every entry went.
    pub(crate) fn move_into(&mut self, to: &mut Self) {
        for g in 0..self.groups.len() {
            for lane in 0..LANES {
                let from = &mut self.groups[g];
                let mark = from.mark(lane);
                if mark & (TAKEN | DEAD) != TAKEN {
                    continue;
                }
                let Some(claim) = to.claim(from.hash(lane)) else { continue };
                debug_assert!(!claim.was_dead);
                let (target, there) = to.group_mut(claim.id);
                target.slots[there] = from.slots[lane].take();
                target.seen[there] = from.seen[lane];
                target.set_mark(there, mark);
                from.forward(lane, claim.id);
            }
        }
    }

    /// Where a slot's entry [moved](Self::move_into); `None` if the slot had none, or it stayed.
    #[inline]
    pub(crate) fn moved(&self, id: SlotId) -> Option<SlotId> {
        let (g, lane) = place(id);
        self.groups[g].forwarded(lane)
    }

    /// Adds to, or takes from, the overflow of every group from the home of `hash` to before `g`.
    fn pass(&mut self, hash: Hash, g: usize, count: fn(&mut Group<T>, Hash)) {
        let mut passed = hash.home(self.groups.len());
        while passed != g {
            count(&mut self.groups[passed], hash);
            passed = self.next(passed);
        }
    }

    fn group_mut(&mut self, id: SlotId) -> (&mut Group<T>, usize) {
        let (g, lane) = place(id);
        (&mut self.groups[g], lane)
    }

    /// Panics if the counters do not match the slots. For tests.
    pub(crate) fn validate(&self) {
        let n = self.groups.len();
        let mut overflow = vec![[0_u8; CLASSES]; n];
        let (mut live, mut dead) = (0, 0);
        for (g, group) in self.groups.iter().enumerate() {
            for lane in 0..LANES {
                if group.mark(lane) == 0 {
                    assert!(group.slots[lane].is_none(), "a free slot holds an entry");
                    continue;
                }
                if group.is_live(lane) {
                    live += 1;
                } else {
                    dead += 1;
                    assert!(group.slots[lane].is_none(), "a dead slot holds an entry");
                }
                let hash = group.hash(lane);
                let mut passed = hash.home(n);
                while passed != g {
                    let count = &mut overflow[passed][hash.class()];
                    *count = count.saturating_add(1);
                    passed = self.next(passed);
                }
            }
        }
        assert_eq!((live, dead), (self.live, self.dead), "live and dead slots");
        for (g, group) in self.groups.iter().enumerate() {
            for (class, &count) in group.overflow.iter().enumerate() {
                assert!([overflow[g][class], MANY].contains(&count), "overflow of group {g}");
            }
        }
    }
}

impl<T> Slots for Table<T> {
    #[inline]
    fn is_live(&self, id: SlotId) -> bool {
        let (g, lane) = place(id);
        self.groups[g].is_live(lane)
    }

    fn free(&mut self, id: SlotId) {
        let (g, lane) = place(id);
        let group = &mut self.groups[g];
        debug_assert!(group.mark(lane) & TAKEN != 0 && group.slots[lane].is_none());
        let was_live = group.is_live(lane);
        let hash = group.hash(lane);
        group.set_mark(lane, 0);
        self.pass(hash, g, Group::remove_passed);
        *(if was_live { &mut self.live } else { &mut self.dead }) -= 1;
    }

    fn heat(&self, id: SlotId) -> u8 {
        let (g, lane) = place(id);
        heat(self.groups[g].mark(lane))
    }

    fn set_heat(&mut self, id: SlotId, heat: u8) {
        let (group, lane) = self.group_mut(id);
        let mark = group.mark(lane);
        group.set_mark(lane, mark & !COLD | cold(heat));
    }

    fn seen(&self, id: SlotId) -> u8 {
        let (g, lane) = place(id);
        self.groups[g].seen[lane]
    }

    fn set_seen(&mut self, id: SlotId, seen: u8) {
        let (group, lane) = self.group_mut(id);
        group.seen[lane] = seen;
    }

    fn in_main(&self, id: SlotId) -> bool {
        let (g, lane) = place(id);
        self.groups[g].mark(lane) & MAIN != 0
    }

    fn set_in_main(&mut self, id: SlotId, main: bool) {
        let (group, lane) = self.group_mut(id);
        let mark = group.mark(lane);
        group.set_mark(lane, if main { mark | MAIN } else { mark & !MAIN });
    }

    #[inline]
    fn live_heat(&self, id: SlotId) -> Option<u8> {
        let (g, lane) = place(id);
        let mark = self.groups[g].mark(lane);
        (mark & DEAD == 0).then_some(heat(mark))
    }

    #[inline]
    fn stand(&mut self, id: SlotId, main: bool, heat: u8, seen: u8) {
        let (group, lane) = self.group_mut(id);
        let tagged = group.mark(lane) & TAGGED;
        group.set_mark(lane, TAKEN | tagged | cold(heat) | if main { MAIN } else { 0 });
        group.seen[lane] = seen;
    }

    #[inline]
    fn hash(&self, id: SlotId) -> u32 {
        self.hash_of(id).bits()
    }

    #[inline]
    fn prefetch(&self, id: SlotId) {
        let (g, lane) = place(id);
        if let Some(group) = self.groups.get(g) {
            prefetch(group);
            // the header may reach into the next line, which has the hashes of a newcomer and a victim
            prefetch(&group.high[lane]);
            prefetch(&group.slots[lane]);
        }
    }
}

#[inline]
pub(crate) fn id(g: usize, lane: usize) -> SlotId {
    (g * LANES + lane) as SlotId
}

#[inline]
fn place(id: SlotId) -> (usize, usize) {
    (id as usize / LANES, id as usize % LANES)
}

#[cfg(test)]
mod tests;
