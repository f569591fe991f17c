//! Which entry goes: the interface between a shard's table and the rule that chooses its victims.

mod ghosts;
#[cfg(test)]
mod mock;
mod ring;
mod target;
mod ticks;
mod window;

pub(crate) use window::ClockWindow;

/// Where an entry is in its shard's table. Stable from insertion until the entry is freed, except that growth
/// renumbers all ids at once ([`Policy::renumber`]).
pub(crate) type SlotId = u32;

/// What a policy may see and change of the table's slots. A slot is *live* (holds an entry), *dead* (its
/// entry left by removal or expiry, while its id is still in one of the policy's queues) or *free* (in no
/// queue).
pub(crate) trait Slots {
    /// Whether the slot holds an entry; `false` for a dead one.
    fn is_live(&self, id: SlotId) -> bool;
    /// Gives a slot back to the table, dead or emptied. Its id must be in no queue any more.
    fn free(&mut self, id: SlotId);
    /// Hits since the policy last looked, up to seven.
    fn heat(&self, id: SlotId) -> u8;
    fn set_heat(&mut self, id: SlotId, heat: u8);
    /// The time of the policy's own clock when it last looked at the entry.
    fn seen(&self, id: SlotId) -> u8;
    fn set_seen(&mut self, id: SlotId, seen: u8);
    /// One bit of the policy's own: which queue the slot's id is in.
    fn in_main(&self, id: SlotId) -> bool;
    fn set_in_main(&mut self, id: SlotId, main: bool);
    /// The heat of a live slot; `None` for a dead one.
    #[inline]
    fn live_heat(&self, id: SlotId) -> Option<u8> {
        self.is_live(id).then(|| self.heat(id))
    }
    /// Sets the queue, the heat and the time of the last look of a live slot.
    #[inline]
    fn stand(&mut self, id: SlotId, main: bool, heat: u8, seen: u8) {
        self.set_in_main(id, main);
        self.set_heat(id, heat);
        self.set_seen(id, seen);
    }
    /// 24 well-mixed bits of the key's hash, the same ones that [`Policy::arrive`] is given. The
    /// low bits are those that keys of one group differ in.
    fn hash(&self, id: SlotId) -> u32;
    /// How much room the entry takes.
    #[inline]
    fn bulk(&self, _id: SlotId) -> Bulk {
        Bulk::AVERAGE
    }
    /// Starts loading what `heat`, `seen` and a removal will touch.
    fn prefetch(&self, _id: SlotId) {}
}

/// An entry's weight relative to the mean of its shard, in eighths, from one to sixteen. Of 19 rows with
/// sizes from 64 bytes to 256 KiB, 51.9 per cent are hits; if an entry may count for as little as a 64th,
/// 52.2. If it may count for as much as eight, the hits are the same, and 3 points fewer bytes are hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bulk(u32);

impl Bulk {
    /// The bulk of every entry if a unit is an entry.
    pub(crate) const AVERAGE: Self = Self(8);

    /// `mean` is in eighths.
    pub(crate) fn of(weight: u64, mean: u64) -> Self {
        Self((weight.saturating_mul(64) / mean.max(1)).clamp(1, 16) as u32)
    }

    /// The heat that survives one look.
    #[inline]
    fn one_look(self) -> u8 {
        self.0.div_ceil(8) as u8
    }

    /// Whole ones, and eighths.
    #[inline]
    fn parts(self) -> (u8, u32) {
        ((self.0 / 8) as u8, self.0 % 8)
    }

    /// A time, scaled by this bulk.
    #[inline]
    fn times(self, ticks: u32) -> u64 {
        u64::from(self.0) * u64::from(ticks)
    }
}

/// What [`Policy::arrive`] found out about a newcomer from the ghosts of evicted keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Its key left lately enough to be worth more than the main queue's next victim.
    Passed,
    /// Unknown, or gone for too long: it starts in the window like everybody.
    Ordinary,
}

/// The rule that chooses the victims of one shard. A hit never calls it: all that a hit does is to
/// raise the slot's heat, under shared access. Every method here runs under the shard's exclusive
/// lock, so a policy is plain data.
pub(crate) trait Policy: Sized {
    /// `capacity`: how many entries the shard holds when it is full (its fair share), or 0 if that
    /// is not known (weighted or unbounded): then the number of entries it has when something must
    /// first go is taken, and followed from there.
    fn new(capacity: usize, seed: u64) -> Self;
    /// A key that is not resident is being loaded: prefetch what storing it will touch.
    fn expect(&self, hash: u32);
    /// A key that is not resident is about to be stored, and will take so much room.
    fn arrive(&mut self, slots: &mut impl Slots, hash: u32, bulk: Bulk) -> Admission;
    /// The newcomer has been given a slot that was free.
    fn place(&mut self, slots: &mut impl Slots, id: SlotId, admission: Admission);
    /// The newcomer has been given a dead slot, whose id is still in a queue: it inherits the position.
    /// Called when the slot is live again; `in_main` is as it was when the slot died.
    fn revive(&mut self, slots: &mut impl Slots, id: SlotId, admission: Admission, bulk: Bulk);
    /// Chooses a victim, takes it out of its queue and remembers it among the ghosts. The slot is still live:
    /// the caller takes the entry out and frees the slot. Dead slots met on the way are freed. `None` if
    /// there is no live entry.
    fn evict(&mut self, slots: &mut impl Slots) -> Option<SlotId>;
    /// A live entry leaves otherwise (removed, expired): its slot is dead from now on, and its id
    /// stays in its queue until the hand meets it. Its key may come back, so what was worth the main queue is
    /// remembered among the ghosts. Called before the slot is marked dead.
    fn died(&mut self, slots: &impl Slots, id: SlotId);
    /// The table grew. Every queue is walked in order, oldest first; `f` gives an entry's new id, or
    /// `None` if the slot was dead or its entry found no room.
    fn renumber(&mut self, f: impl FnMut(SlotId) -> Option<SlotId>);
    /// All slots were freed at once.
    fn clear(&mut self);
    /// Panics if the queues do not match the slots: an id queued twice, a live count that is off, an
    /// `in_main` that is wrong. For tests.
    fn validate(&self, slots: &impl Slots);
}
