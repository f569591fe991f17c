//! A limited number of loads at a time, and the line of those that wait for their turn.
//!
//! It knows nothing of caches, only who has a slot, who waits, and in which order. A blocked thread and a
//! pending task wait in the same way, as a waker in the line. A slot that is given back goes straight to the
//! first in line, so no newcomer can take it first, and a waiter that is woken has its slot.
//!
//! A slot is a lease: a load that has not given it back in time has lost it, since a loader that hangs must
//! not keep others from the source for ever.

use crate::words::clock::Clock;
use crate::words::contain::contain;
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

pub(crate) struct LoadSlots {
    limit: usize,
    /// How many ticks a slot may be kept.
    lease: u64,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The slots that are held, in the order in which they were given, and until when. All leases have one
    /// length, so the first is the one that ends first.
    held: BTreeMap<u64, Tick>,
    /// The line, first place first.
    waiting: BTreeMap<u64, Waiting>,
    /// The slots of waiters that were woken but have not fetched them yet, by place.
    ready: BTreeMap<u64, LoadSlot>,
    next: u64,
}

struct Waiting {
    waker: Waker,
    load: Arc<dyn Queued>,
}

/// A load that waits for a slot. It is told at once when it gets one, since its waiter may be slow to wake up.
pub(crate) trait Queued: Send + Sync {
    /// It has its slot from `at` on.
    fn begin(&self, at: Tick);
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Somebody waits for the result.
    Miss,
    /// Nobody waits for the result: it gets a slot when no miss waits.
    Refresh,
}

/// A slot, to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a slot that is not given back is lost until its lease ends"]
pub(crate) struct LoadSlot {
    number: u64,
    since: Tick,
}

impl LoadSlot {
    /// The tick at which it was given.
    pub(crate) fn since(self) -> Tick {
        self.since
    }
}

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a place that is not left gets a slot"]
pub(crate) struct Place(u64);

/// Refreshes stand behind all misses.
const REFRESH: u64 = 1 << 63;

/// What a waiter finds when it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Its turn.
    Yours(LoadSlot),
    /// It had a slot, but came so late that the lease is over.
    Over,
    /// Not its turn yet. The first lease ends at this tick: then, at the latest, look again.
    Wait(Tick),
}

/// The waiters to be called once the lock is released.
type Called = Vec<(Waiting, Tick)>;

impl LoadSlots {
    /// `limit` is not zero; `lease` is in ticks.
    pub(crate) fn new(limit: usize, lease: u64, clock: Clock) -> Self {
        Self { limit, lease, clock, state: Mutex::new(State::default()) }
    }

    /// Its identity: an address that is unique while it exists.
    pub(crate) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Takes a slot, if one is free now. While anybody waits, none is.
    pub(crate) fn try_take(&self) -> Option<LoadSlot> {
        let mut called = Called::new();
        let slot = {
            let mut state = self.state.lock();
            self.settle(&mut state, &mut called);
            (state.held.len() < self.limit).then(|| state.give(self.clock.now(), self.lease))
        };
        tell(called);
        slot
    }

    /// Whether none is free now.
    pub(crate) fn are_taken(&self) -> bool {
        let mut called = Called::new();
        let are_taken = {
            let mut state = self.state.lock();
            self.settle(&mut state, &mut called);
            state.held.len() >= self.limit
        };
        tell(called);
        are_taken
    }

    /// Takes a slot, or else a place in the line: at its end, or at `before`, which somebody left who waited
    /// for the same load.
    pub(crate) fn take(
        &self,
        rank: Rank,
        before: Option<Place>,
        load: Arc<dyn Queued>,
    ) -> Result<LoadSlot, Place> {
        let mut called = Called::new();
        let taken = {
            let mut state = self.state.lock();
            self.settle(&mut state, &mut called);
            if state.held.len() < self.limit {
                Ok(state.give(self.clock.now(), self.lease))
            } else {
                let place = state.place(rank, before);
                state.waiting.insert(place.0, Waiting { waker: Waker::noop().clone(), load });
                Err(place)
            }
        };
        tell(called);
        taken
    }

    /// Looks whether it is this place's turn; if not, `waker` is woken when it is. A waiter that looks again
    /// with another waker is woken through the newer one. After any answer but `Wait` the place is gone.
    pub(crate) fn look(&self, place: Place, waker: &Waker) -> Turned {
        // wakers are the runtime's code: cloned before the lock is taken, dropped after
        let mut waker = waker.clone();
        let mut called = Called::new();
        let turned = {
            let mut state = self.state.lock();
            self.settle(&mut state, &mut called);
            if let Some(waiting) = state.waiting.get_mut(&place.0) {
                std::mem::swap(&mut waiting.waker, &mut waker);
                Turned::Wait(state.held.first_key_value().map_or(Tick::MAX, |(_, until)| *until))
            } else {
                let slot = state.ready.remove(&place.0);
                let slot = slot.filter(|slot| state.held.contains_key(&slot.number));
                slot.map_or(Turned::Over, Turned::Yours)
            }
        };
        tell(called);
        drop(waker);
        turned
    }

    /// The waiter of this place goes away. A slot that was ready for it goes to the next in line.
    pub(crate) fn leave(&self, place: Place) {
        let mut called = Called::new();
        let left = {
            let mut state = self.state.lock();
            let left = state.waiting.remove(&place.0);
            if let Some(slot) = state.ready.remove(&place.0) {
                state.held.remove(&slot.number);
            }
            self.settle(&mut state, &mut called);
            left
        };
        tell(called);
        drop(left);
    }

    /// A load that has a slot cannot go on before this place has its turn. So it gets a slot now, one above
    /// the limit, since the load that waits for it does nothing meanwhile.
    pub(crate) fn let_through(&self, place: Place) {
        let mut called = Called::new();
        {
            let mut state = self.state.lock();
            if let Some(waiting) = state.waiting.remove(&place.0) {
                state.call(place.0, waiting, self.clock.now(), self.lease, &mut called);
            }
        }
        tell(called);
    }

    /// Gives a slot back, if its lease is not over.
    pub(crate) fn give_back(&self, slot: LoadSlot) {
        let mut called = Called::new();
        {
            let mut state = self.state.lock();
            state.held.remove(&slot.number);
            self.settle(&mut state, &mut called);
        }
        tell(called);
    }

    /// How many slots are taken, and how many wait.
    pub(crate) fn used(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.held.len(), state.waiting.len())
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes back overdue slots, and gives free ones to the first in line. After it, nobody waits while a
    /// slot is free.
    fn settle(&self, state: &mut State, called: &mut Called) {
        if state.held.is_empty() && state.waiting.is_empty() {
            return;
        }
        // read under the lock: the leases must end in the order in which they were given
        let now = self.clock.now();
        while state.held.first_key_value().is_some_and(|(_, until)| *until <= now) {
            state.held.pop_first();
        }
        while state.held.len() < self.limit {
            let Some((place, waiting)) = state.waiting.pop_first() else { break };
            state.call(place, waiting, now, self.lease, called);
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn give(&mut self, now: Tick, lease: u64) -> LoadSlot {
        let slot = LoadSlot { number: self.number(), since: now };
        self.held.insert(slot.number, now.saturating_add(lease));
        slot
    }

    fn call(&mut self, place: u64, waiting: Waiting, now: Tick, lease: u64, called: &mut Called) {
        let slot = self.give(now, lease);
        self.ready.insert(place, slot);
        called.push((waiting, now));
    }

    fn place(&mut self, rank: Rank, before: Option<Place>) -> Place {
        let mut place = before.map_or_else(|| self.number(), |before| before.0 & !REFRESH);
        if rank == Rank::Refresh {
            place |= REFRESH;
        }
        while self.waiting.contains_key(&place) || self.ready.contains_key(&place) {
            // two that waited for the same load may both come back with its place
            place = place & REFRESH | self.number();
        }
        Place(place)
    }
}

fn tell(called: Called) {
    for (Waiting { waker, load }, at) in called {
        load.begin(at);
        // a waker that panics must not keep the others from being woken
        contain(|| waker.wake());
    }
}

impl fmt::Debug for LoadSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadSlots").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;
    use crate::words::clock::ManualClock;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;
    use std::time::Duration;

    const LEASE: u64 = 100;

    /// A load that waits, and when it was told that it begins.
    #[derive(Default)]
    struct Load(AtomicU64);

    impl Queued for Load {
        fn begin(&self, at: Tick) {
            self.0.store(at, SeqCst);
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn slots(limit: usize) -> (LoadSlots, ManualClock) {
        let (clock, hand) = Clock::manual();
        (LoadSlots::new(limit, LEASE, clock), hand)
    }

    fn queue(slots: &LoadSlots, rank: Rank) -> Place {
        slots.take(rank, None, Arc::new(Load::default())).expect_err("all slots are taken")
    }

    fn looks(slots: &LoadSlots, place: Place) -> Option<LoadSlot> {
        match slots.look(place, Waker::noop()) {
            Turned::Yours(slot) => Some(slot),
            Turned::Wait(_) => None,
            Turned::Over => panic!("its turn was over"),
        }
    }

    #[test]
    fn the_first_in_line_is_the_first_served_and_nobody_snatches() {
        let (slots, _hand) = slots(1);
        let first = slots.try_take().unwrap();
        let line: Vec<_> = (0..3).map(|_| queue(&slots, Rank::Miss)).collect();
        slots.give_back(first);
        assert!(slots.try_take().is_none(), "it belongs to the first in line");
        assert!(looks(&slots, line[1]).is_none());
        let second = looks(&slots, line[0]).unwrap();
        slots.give_back(second);
        let third = looks(&slots, line[1]).unwrap();
        slots.give_back(third);
        slots.give_back(looks(&slots, line[2]).unwrap());
        assert_eq!(slots.used(), (0, 0));
    }

    #[test]
    fn whoever_leaves_the_line_passes_on_a_slot_that_was_ready_for_it() {
        let (slots, _hand) = slots(1);
        let held = slots.try_take().unwrap();
        let line: Vec<_> = (0..3).map(|_| queue(&slots, Rank::Miss)).collect();
        slots.leave(line[1]);
        slots.give_back(held);
        slots.leave(line[0]);
        let last = looks(&slots, line[2]).unwrap();
        assert_eq!(slots.used(), (1, 0));
        slots.give_back(last);
        slots.give_back(held); // a slot is given back once, whatever is done with a copy of it
        assert_eq!(slots.used(), (0, 0));
    }

    #[test]
    fn a_refresh_goes_when_no_miss_waits() {
        let (slots, _hand) = slots(1);
        let held = slots.try_take().unwrap();
        let refresh = queue(&slots, Rank::Refresh);
        let miss = queue(&slots, Rank::Miss);
        slots.give_back(held);
        assert!(looks(&slots, refresh).is_none());
        slots.give_back(looks(&slots, miss).unwrap());
        slots.give_back(looks(&slots, refresh).unwrap());
    }

    #[test]
    fn a_place_can_be_inherited_once() {
        let (slots, _hand) = slots(1);
        let held = slots.try_take().unwrap();
        let (old, other) = (queue(&slots, Rank::Miss), queue(&slots, Rank::Miss));
        slots.leave(old);
        let heir = |before| slots.take(Rank::Miss, Some(before), Arc::new(Load::default()));
        let (first, second) = (heir(old).unwrap_err(), heir(old).unwrap_err());
        assert!(first < other && other < second);
        slots.give_back(held);
        slots.give_back(looks(&slots, first).unwrap());
        slots.give_back(looks(&slots, other).unwrap());
        slots.give_back(looks(&slots, second).unwrap());
    }

    #[test]
    fn a_lease_ends_at_its_tick_and_the_next_is_told_from_when_its_own_runs() {
        let (slots, hand) = slots(1);
        let held = slots.try_take().unwrap();
        let (load, wakes) = (Arc::new(Load::default()), Arc::new(Wakes::default()));
        let place = slots.take(Rank::Miss, None, load.clone()).unwrap_err();
        let waker = Waker::from(wakes.clone());
        let end = held.since() + LEASE;
        assert_eq!(slots.look(place, &waker), Turned::Wait(end));
        hand.advance(Duration::from_millis(LEASE - 1));
        assert_eq!(slots.look(place, &waker), Turned::Wait(end));
        hand.advance(Duration::from_millis(1));
        assert!(slots.try_take().is_none(), "whoever comes by gives it to the first in line");
        assert_eq!((load.0.load(SeqCst), wakes.0.load(SeqCst)), (end, 1));
        slots.give_back(held);
        assert_eq!(slots.used(), (1, 0), "what was taken away is not given back");
        hand.advance(Duration::from_millis(LEASE));
        assert_eq!(slots.look(place, &waker), Turned::Over, "it never came to fetch it");
        assert_eq!(slots.used(), (0, 0));
    }

    #[test]
    fn one_let_through_is_above_the_limit_and_counts() {
        let (slots, _hand) = slots(1);
        let parent = slots.try_take().unwrap();
        let (urgent, other) = (queue(&slots, Rank::Miss), queue(&slots, Rank::Miss));
        slots.let_through(urgent);
        let child = looks(&slots, urgent).unwrap();
        assert_eq!(slots.used(), (2, 1));
        slots.give_back(child);
        assert!(looks(&slots, other).is_none(), "the parent still has the only slot");
        slots.let_through(urgent); // it has gone its way: nothing happens
        slots.give_back(parent);
        slots.give_back(looks(&slots, other).unwrap());
    }

    #[test]
    fn a_waiter_is_woken_through_its_newest_waker() {
        let (slots, _hand) = slots(1);
        let held = slots.try_take().unwrap();
        let place = queue(&slots, Rank::Miss);
        let (old, new) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        for wakes in [&old, &new] {
            let waker = Waker::from(Arc::clone(wakes));
            assert!(matches!(slots.look(place, &waker), Turned::Wait(_)));
        }
        assert_eq!(Arc::strong_count(&old), 1, "it was let go of");
        slots.give_back(held);
        assert_eq!((old.0.load(SeqCst), new.0.load(SeqCst)), (0, 1));
        slots.leave(place);
    }
}
