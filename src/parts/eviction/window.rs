//! The adaptive clock window.

use super::ghosts::{Ghost, Ghosts};
use super::ring::{Queue, Rings};
use super::target::Target;
use super::ticks::{OLDEST, Ticks};
use super::{Admission, Policy, SlotId, Slots};

#[cfg(test)]
mod tests;

/// Heat that takes an entry from the window into the main queue without a detour. Less earns a
/// second look.
const HOT: u8 = 3;
/// Queue steps an eviction or a sweep takes at most; then heat counts as none. With 8 the hit
/// ratio falls by 0.35 points, with more it does not rise.
const ROUNDS: u32 = 64;
/// Ticks in which as many events happen as the shard has entries.

/// "Came back soon": before a tenth as many entries had left the same way as the shard holds.
/// Departures are counted in ticks of a 64th, so 6 of them are as near to a tenth as they get.
const SOON: u8 = 6;
/// The age, in ticks of misses, at which the main queue's next victim is stale.
fn turn() -> u32 { std::env::var("TURN").ok().and_then(|s| s.parse().ok()).unwrap_or(32) }
fn pmin() -> u32 { std::env::var("PMIN").ok().and_then(|s| s.parse().ok()).unwrap_or(1) }
const STALE: u32 = 1024;

/// See the [module](self).
#[derive(Clone, Debug)]
pub(crate) struct ClockWindow {
    rings: Rings,
    ghosts: Ghosts,
    /// Live entries in the window.
    window: usize,
    /// Live entries in the main queue.
    main: usize,
    target: Target,
    /// How many entries the shard holds when full; 0 as long as that is unknown.
    capacity: usize,
    /// Whether `capacity` was guessed from what the shard held.
    guessed: bool,
    /// Whether something had to go already. Until then, the main queue takes everything up to
    /// its share: there is nothing to weigh the first entries against.
    filled: bool,
    /// Misses; entries and ghosts are dated by them.
    misses: Ticks,
    /// Departures out of the window, which tell how soon a key came back.
    window_left: Ticks,
    /// Departures out of the main queue.
    main_left: Ticks,
    /// Decides which evictions the stale valve takes over.
    random: u32,
}

impl ClockWindow {
    fn tune(&mut self, capacity: usize) {
        self.capacity = capacity;
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        self.misses.set_period((capacity / turn()).max(pmin()));
        self.window_left.set_period(capacity / 64);
        self.main_left.set_period(capacity / 64);
    }

    /// Something must go: from here on, the capacity is known or guessed, and there are ghosts.
    fn fill(&mut self) {
        self.filled = true;
        self.follow();
        if self.ghosts.len() == 0 || self.ghosts.len() < self.capacity / 2 {
            self.ghosts.allocate(self.capacity);
        }
    }

    /// Takes what the shard holds for its capacity, if that is unknown.
    fn follow(&mut self) {
        let live = self.window + self.main;
        if self.guessed && self.capacity.abs_diff(live) > self.capacity / 8 {
            self.target.rescale(live);
            self.tune(live);
        }
    }

    fn enter(&mut self, slots: &mut impl Slots, id: SlotId, queue: Queue) {
        match queue {
            Queue::Window => self.window += 1,
            Queue::Main => self.main += 1,
        }
        slots.set_in_main(id, queue == Queue::Main);
        self.requeue(slots, id, queue, 0);
    }

    /// Puts the id at the young end, looked at just now.
    fn requeue(&mut self, slots: &mut impl Slots, id: SlotId, queue: Queue, heat: u8) {
        slots.set_heat(id, heat);
        slots.set_seen(id, self.misses.stamp());
        self.rings.push(queue, id, self.misses.now());
    }

    /// Turns the main queue until its oldest entry is one that was not hit, and gives that.
    /// `None` if there is none within the rounds.
    fn sweep(&mut self, slots: &mut impl Slots) -> Option<SlotId> {
        for _ in 0..ROUNDS {
            let id = self.rings.peek(Queue::Main)?;
            if !slots.is_live(id) {
                self.rings.pop(Queue::Main);
                slots.free(id);
                continue;
            }
            let heat = slots.heat(id);
            if heat == 0 {
                break;
            }
            self.rings.pop(Queue::Main);
            self.requeue(slots, id, Queue::Main, heat - 1);
        }
        self.rings.peek(Queue::Main).filter(|id| slots.is_live(*id))
    }

    /// How long ago, in ticks, the main queue's oldest entry was looked at. Its stamp is one byte
    /// and would be ambiguous after 256 ticks, but its chunk and the next are dated in full.
    fn main_age(&self, slots: &mut impl Slots, id: SlotId) -> u32 {
        let (now, seen) = (self.misses.now(), slots.seen(id));
        match self.rings.tail_dates(Queue::Main) {
            Some((_, Some(next))) => {
                now.wrapping_sub(next) + u32::from((next as u8).wrapping_sub(seen))
            }
            // The only chunk: keep the stamp from looking young again.
            Some((born, None)) if self.misses.age(seen) == OLDEST => {
                slots.set_seen(id, self.misses.clamp(seen));
                now.wrapping_sub(born)
            }
            _ => u32::from(self.misses.age(seen)),
        }
    }

    /// Whether a key that left at `used` comes back sooner than the main queue's next victim was
    /// looked at. This is LIRS's "is it still in the stack" in terms of clocks: a loop or a scan
    /// does not turn the main queue over. Without it, 45.8 instead of 50.1.
    fn passes(&mut self, slots: &mut impl Slots, used: u8) -> bool {
        let Some(victim) = self.sweep(slots) else { return true };
        u32::from(self.misses.age(used)) < self.main_age(slots, victim)
    }

    /// The window's oldest entry, cold, is about to go. Whether the main queue's next victim has
    /// not been looked at for so long that the two change places, in one case of four. It refills
    /// the main queue after a change to a loop longer than the ghosts reach.
    fn stale(&mut self, slots: &mut impl Slots) -> Option<SlotId> {
        let (born, _) = self.rings.tail_dates(Queue::Main)?;
        if self.misses.now().wrapping_sub(born) <= STALE {
            return None;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let victim = self.rings.peek(Queue::Main)?;
        let gives_way = self.random % 4 == 0
            && slots.is_live(victim)
            && slots.heat(victim) == 0
            && self.main_age(slots, victim) > STALE;
        gives_way.then_some(victim)
    }

    /// `id` was taken out of the window and is cold.
    fn leave_window(&mut self, slots: &mut impl Slots, id: SlotId) -> SlotId {
        if let Some(victim) = self.stale(slots) {
            self.rings.pop(Queue::Main);
            self.window -= 1;
            self.enter(slots, id, Queue::Main);
            return self.leave_main(slots, victim);
        }
        self.window -= 1;
        self.window_left.advance();
        let ghost = Ghost::Window { used: slots.seen(id), gone: self.window_left.stamp() };
        self.ghosts.add(slots.hash(id), ghost, self.misses);
        id
    }

    /// `id` was taken out of the main queue and is cold.
    fn leave_main(&mut self, slots: &impl Slots, id: SlotId) -> SlotId {
        self.main -= 1;
        self.main_left.advance();
        let ghost = Ghost::Main { gone: self.main_left.stamp() };
        self.ghosts.add(slots.hash(id), ghost, self.misses);
        id
    }

    fn prefetch(&self, slots: &impl Slots) {
        for ahead in 0..2 {
            for queue in [Queue::Window, Queue::Main] {
                if let Some(id) = self.rings.ahead(queue, ahead) {
                    slots.prefetch(id);
                }
            }
        }
    }
}

impl Policy for ClockWindow {
    fn new(capacity: usize, seed: u64) -> Self {
        let mut policy = Self {
            rings: Rings::new(),
            ghosts: Ghosts::new(),
            window: 0,
            main: 0,
            target: Target::new(capacity),
            capacity,
            guessed: capacity == 0,
            filled: false,
            misses: Ticks::new(1),
            window_left: Ticks::new(1),
            main_left: Ticks::new(1),
            // xorshift must not start at 0
            random: (seed ^ (seed >> 32)) as u32 | 1,
        };
        policy.tune(capacity);
        policy
    }

    fn arrive(&mut self, slots: &mut impl Slots, hash: u32) -> Admission {
        self.misses.advance();
        if self.filled {
            self.prefetch(slots);
        }
        match self.ghosts.take(hash) {
            Some(Ghost::Window { used, gone }) if self.passes(slots, used) => {
                // Only who passes may let the window grow: else a loop slightly larger than the
                // shard makes the window eat the main queue (loop at 1,000: 33 instead of 96.6).
                if self.window_left.age(gone) <= SOON {
                    self.target.grow();
                }
                Admission::Passed
            }
            Some(Ghost::Main { gone }) => {
                if self.main_left.age(gone) <= SOON {
                    self.target.shrink();
                }
                Admission::Ordinary
            }
            _ => Admission::Ordinary,
        }
    }

    fn place(&mut self, slots: &mut impl Slots, id: SlotId, admission: Admission) {
        if !self.filled {
            self.follow();
        }
        let warming = !self.filled && self.main < self.target.main();
        let main = warming || admission == Admission::Passed;
        self.enter(slots, id, if main { Queue::Main } else { Queue::Window });
    }

    fn revive(&mut self, slots: &mut impl Slots, id: SlotId, admission: Admission) {
        // The position may be the next to go, so the hand must forgive it once. Who passed and
        // stands in the window is sent on to the main queue, where it belongs.
        let main = slots.in_main(id);
        slots.set_heat(id, if !main && admission == Admission::Passed { HOT } else { 1 });
        slots.set_seen(id, self.misses.stamp());
        if main {
            self.main += 1;
        } else {
            self.window += 1;
        }
    }

    fn evict(&mut self, slots: &mut impl Slots) -> Option<SlotId> {
        self.fill();
        let mut rounds = ROUNDS;
        while self.window + self.main > 0 {
            let from_window = self.main == 0 || self.target.reached(self.window);
            if self.window == 0 || !from_window {
                if let Some(id) = self.sweep(slots) {
                    self.rings.pop(Queue::Main);
                    return Some(self.leave_main(slots, id));
                }
                continue;
            }
            let id = self.rings.pop(Queue::Window)?;
            if !slots.is_live(id) {
                slots.free(id);
                continue;
            }
            let heat = if rounds == 0 { 0 } else { slots.heat(id) };
            rounds = rounds.saturating_sub(1);
            if heat == 0 {
                return Some(self.leave_window(slots, id));
            } else if heat < HOT {
                self.requeue(slots, id, Queue::Window, 0);
            } else {
                self.window -= 1;
                self.enter(slots, id, Queue::Main);
            }
        }
        None
    }

    fn died(&mut self, slots: &impl Slots, id: SlotId) {
        if slots.in_main(id) {
            self.main -= 1;
        } else {
            self.window -= 1;
        }
    }

    fn renumber(&mut self, f: impl FnMut(SlotId) -> Option<SlotId>) {
        self.rings.renumber(f);
    }

    fn clear(&mut self) {
        let capacity = if self.guessed { 0 } else { self.capacity };
        *self = Self::new(capacity, u64::from(self.random));
    }

    fn validate(&self, slots: &impl Slots) {
        let mut seen = std::collections::HashSet::new();
        for (queue, count) in [(Queue::Window, self.window), (Queue::Main, self.main)] {
            let mut live = 0;
            for id in self.rings.iter(queue) {
                assert!(seen.insert(id), "{id} is queued twice");
                assert_eq!(slots.in_main(id), queue == Queue::Main, "{id} denies its queue");
                live += usize::from(slots.is_live(id));
            }
            assert_eq!(live, count, "live entries of {queue:?}");
        }
    }
}
