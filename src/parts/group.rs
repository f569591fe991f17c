//! Sixteen slots, with a header that finds the right one without touching the others.
//!
//! The idea is F14's and hashbrown's: one byte of the hash a slot, side by side, so that one comparison rules
//! out fifteen of sixteen slots. Entries are inline behind their tags: a hit touches the first cache line of
//! the group and the line of its entry, and nothing else. A table of our own instead of hashbrown's with a
//! slab gave 1.3 to 1.7 times the rate of hits.

use super::eviction::SlotId;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use wide::u8x16;

pub(crate) const LANES: usize = 16;

/// The number of classes by which a group counts the entries that passed it, so that most look-ups of absent
/// keys end at home: of look-ups of new keys in a cache of 100k entries whose entries have all been replaced
/// several times, 1.5 per cent go on, and with eight classes 7. The counts fill space that the alignment of a
/// group would leave empty.
pub(crate) const CLASSES: usize = 16;

/// A class that so many entries passed is counted no more: look-ups go on as long as the table stands.
pub(crate) const MANY: u8 = u8::MAX;

/// Three bits of a slot's mark that store 7, the highest heat, minus the slot's heat. Most hits find a slot
/// with the highest heat and without tags, and so one test of the mark tells both. (With the heat itself in
/// there a hit took two instructions more, of 117.)
pub(crate) const COLD: u8 = 0b0000_0111;
/// The heat that a mark stands for.
#[inline]
pub(crate) fn heat(mark: u8) -> u8 {
    mark & COLD ^ COLD
}

/// The bits of a mark that stand for a heat.
#[inline]
pub(crate) fn cold(heat: u8) -> u8 {
    debug_assert!(heat <= COLD, "a heat has three bits");
    heat ^ COLD
}

/// The policy's own bit: which queue the slot's id is in.
pub(crate) const MAIN: u8 = 0b0000_1000;
/// The slot is not free.
pub(crate) const TAKEN: u8 = 0b0010_0000;
/// The entry left, and the slot waits for the policy to free it.
pub(crate) const DEAD: u8 = 0b0001_0000;

/// The entry has tags: they are kept aside, and are to be checked.
pub(crate) const TAGGED: u8 = 0b0100_0000;

/// The whole mark of a slot whose entry has moved to another table: see [`Group::forward`].
const MOVED: u8 = 0b1000_0000;

/// 32-byte alignment keeps `tags` and `marks`, which every look-up reads, in one cache line, and
/// makes a group of `u64` to `u64` 480 bytes: 43.6 an entry at the load of 11 of 16.
#[repr(C, align(32))]
pub(crate) struct Group<T> {
    /// The low 8 bits of each slot's hash; meaningless for a free slot.
    pub(crate) tags: [u8; LANES],
    /// Heat and flags. Readers under a shared lock add heat; everything else happens under the
    /// exclusive lock. The plain atomics of `std`, for explorers too: a lost increment does no harm.
    pub(crate) marks: [AtomicU8; LANES],
    /// The policy's clock when it last looked at the slot.
    pub(crate) seen: [u8; LANES],
    /// How many entries found this group full on the way from their home, and are further on, by the
    /// [class](Hash::class) of their hash.
    pub(crate) overflow: [u8; CLASSES],
    /// The other 16 bits of each slot's hash: with the tag enough to move an entry when the table
    /// grows, and to remember it as a ghost, without calling the user's `Hash` under a lock.
    pub(crate) high: [u16; LANES],
    pub(crate) slots: [Option<T>; LANES],
}

impl<T> Group<T> {
    pub(crate) fn new() -> Self {
        Self {
            tags: [0; LANES],
            marks: std::array::from_fn(|_| AtomicU8::new(0)),
            seen: [0; LANES],
            overflow: [0; CLASSES],
            high: [0; LANES],
            slots: std::array::from_fn(|_| None),
        }
    }

    #[inline]
    pub(crate) fn mark(&self, lane: usize) -> u8 {
        self.marks[lane].load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_mark(&mut self, lane: usize, mark: u8) {
        *self.marks[lane].get_mut() = mark;
    }

    /// Counts a hit, unless the slot has the highest heat: a hot slot's line is only read.
    #[inline]
    pub(crate) fn warm(&self, lane: usize) {
        self.warm_from(lane, self.mark(lane));
    }

    /// The same for a caller that has read the mark already.
    #[inline]
    pub(crate) fn warm_from(&self, lane: usize, mark: u8) {
        if mark & COLD != 0 {
            self.marks[lane].store(mark - 1, Relaxed);
        }
    }

    /// Whether the entry has tags, so that its stamp alone does not tell its freshness.
    #[inline]
    pub(crate) fn has_tags(&self, lane: usize) -> bool {
        self.mark(lane) & TAGGED != 0
    }

    #[inline]
    pub(crate) fn hash(&self, lane: usize) -> Hash {
        Hash(u32::from(self.high[lane]) << 8 | u32::from(self.tags[lane]))
    }

    #[inline]
    pub(crate) fn is_live(&self, lane: usize) -> bool {
        self.mark(lane) & (TAKEN | DEAD) == TAKEN
    }

    /// The entry of this slot has moved to a slot of another table. Stores the new id where the hash was.
    #[inline]
    pub(crate) fn forward(&mut self, lane: usize, to: SlotId) {
        self.high[lane] = (to >> 16) as u16;
        self.seen[lane] = (to >> 8) as u8;
        self.tags[lane] = to as u8;
        self.set_mark(lane, MOVED);
    }

    #[inline]
    pub(crate) fn forwarded(&self, lane: usize) -> Option<SlotId> {
        let low = u32::from(self.seen[lane]) << 8 | u32::from(self.tags[lane]);
        (self.mark(lane) == MOVED).then(|| u32::from(self.high[lane]) << 16 | low)
    }

    /// Whether an entry of this class of hashes may be further on.
    #[inline]
    pub(crate) fn is_passed_by(&self, hash: Hash) -> bool {
        self.overflow[hash.class()] > 0
    }

    /// Whether any entry may be further on.
    pub(crate) fn is_passed(&self) -> bool {
        self.overflow.iter().any(|&passed| passed > 0)
    }

    /// An entry of this hash found the group full, and is further on.
    pub(crate) fn add_passed(&mut self, hash: Hash) {
        let passed = &mut self.overflow[hash.class()];
        *passed = passed.saturating_add(1);
    }

    /// An entry of this hash was further on, and has left.
    pub(crate) fn remove_passed(&mut self, hash: Hash) {
        let passed = &mut self.overflow[hash.class()];
        if *passed < MANY {
            *passed -= 1;
        }
    }

    /// Gives the slot to a newcomer, in this queue (`MAIN` or nothing).
    #[inline]
    pub(crate) fn take(&mut self, lane: usize, hash: Hash, queue: u8) {
        self.tags[lane] = hash.tag();
        self.high[lane] = hash.high();
        self.set_mark(lane, queue | TAKEN | COLD);
    }

    /// A free slot.
    #[inline]
    pub(crate) fn free_lane(&mut self) -> Option<usize> {
        let marks = std::array::from_fn(|lane| *self.marks[lane].get_mut());
        Lanes::matching(&marks, 0).next()
    }

    #[inline]
    pub(crate) fn tagged(&self, tag: u8) -> Lanes {
        Lanes::matching(&self.tags, tag)
    }
}

/// The 24 bits of a key's hash that its shard's table works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hash(u32);

impl Hash {
    #[inline]
    pub(crate) fn new(hash: u64) -> Self {
        Self(hash as u32 & 0x00FF_FFFF)
    }

    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) fn tag(self) -> u8 {
        self.0 as u8
    }

    /// By its lowest bits: none of those that choose its home.
    #[inline]
    pub(crate) fn class(self) -> usize {
        self.0 as usize % CLASSES
    }

    #[inline]
    pub(crate) fn high(self) -> u16 {
        (self.0 >> 8) as u16
    }

    /// Which of `groups` groups it belongs to: the high bits, by multiplication, so that any number
    /// of groups will do and growth keeps the order of homes.
    #[inline]
    pub(crate) fn home(self, groups: usize) -> usize {
        ((u64::from(self.0) * groups as u64) >> 24) as usize
    }
}

/// A set of lanes: bit n for lane n.
pub(crate) struct Lanes(u32);

impl Lanes {
    /// The lanes whose byte is `wanted`. The compiler makes 40 instructions of a loop, 24 of arithmetic on
    /// two words, and nine of `wide`'s compare and mask.
    #[inline]
    fn matching(bytes: &[u8; LANES], wanted: u8) -> Self {
        let mask = u8x16::from(*bytes).cmp_eq(u8x16::splat(wanted)).move_mask();
        #[allow(clippy::cast_sign_loss)] // sixteen bits of it are used
        Self(mask as u32)
    }
}

impl Iterator for Lanes {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let lane = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        // tells the compiler what the type cannot: no bounds check on the arrays of a group
        Some(lane & (LANES - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_small_entries_is_fifteen_half_lines() {
        // an entry of u64 to u64 with its stamp: 24 bytes, none of them for the Option
        assert_eq!(size_of::<Group<(u64, u64, std::num::NonZeroU64)>>(), 480);
    }

    #[test]
    fn matching_lanes_are_exact() {
        let mut tags = [0_u8; LANES];
        tags[3] = 0x80;
        tags[4] = 0x7F;
        tags[5] = 0x81;
        tags[15] = 0x80;
        assert_eq!(Lanes::matching(&tags, 0x80).collect::<Vec<_>>(), [3, 15]);
        assert_eq!(Lanes::matching(&tags, 0).count(), 12);
        assert_eq!(Lanes::matching(&tags, 1).count(), 0);
    }

    #[test]
    fn hashes_survive_the_split_into_tag_and_high() {
        for bits in [0, 1, 0x100, 0xFF_FFFF, 0x12_3400] {
            let hash = Hash::new(bits);
            let mut group: Group<u64> = Group::new();
            group.tags[2] = hash.tag();
            group.high[2] = hash.high();
            assert_eq!(group.hash(2), hash);
        }
    }
}
