//! Races that are small enough to be run on every schedule, under the memory model.

use super::explore::{explore, explore_up_to};
use super::setting::{KEY, Moments, Shelf, builder, shelf};
use crate::parts::budget::Budget;
use crate::parts::flight::{Begin, Brought, Flight, Landing, WaiterTicket};
use crate::parts::slots::{LoadSlots, Queued, Rank, Turned};
use crate::parts::waiter::{Limits, Waiter};
use crate::words::clock::Clock;
use crate::words::sync::thread;
use crate::words::tick::Tick;
use crate::{LoadError, ManualClock};
use loom::future::block_on;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

fn flight() -> Arc<Flight<u32, u32>> {
    let begin = Begin { number: 1, ..Begin::of_nothing(1) };
    Arc::new(Flight::new(begin, KEY, 1))
}

fn land(flight: &Flight<u32, u32>, value: u32) -> bool {
    let (fresh_for, validator) = (Duration::MAX, None);
    flight.land(Landing::Value(Arc::new(Brought { value, age: None, fresh_for, validator })))
}

fn value(landing: Option<Landing<u32>>) -> u32 {
    match landing {
        Some(Landing::Value(brought)) => brought.value,
        _ => panic!("it landed with a value"),
    }
}

fn waiter(flight: &Arc<Flight<u32, u32>>) -> Waiter<u32, u32> {
    Waiter::new(Arc::clone(flight), Clock::manual().0, limits(u64::MAX))
}

fn limits(load: u64) -> Limits {
    Limits { load, soft: None, own: None, minds_line: false }
}

/// A wake-up lost between the look and the sleep is a deadlock here.
#[test]
fn a_thread_that_goes_to_sleep_as_the_flight_lands_is_woken() {
    explore(|| {
        let flight = flight();
        let follower = waiter(&flight);
        let follower = thread::spawn(move || value(follower.block()));
        assert!(land(&flight, 3));
        assert_eq!(follower.join().unwrap(), 3);
    });
}

#[test]
fn a_task_that_is_polled_as_the_flight_lands_is_woken() {
    explore(|| {
        let flight = flight();
        let follower = waiter(&flight);
        let follower = thread::spawn(move || value(block_on(follower)));
        assert!(land(&flight, 3));
        assert_eq!(follower.join().unwrap(), 3);
    });
}

#[test]
fn a_follower_that_leaves_as_the_flight_lands_keeps_nobody_asleep() {
    explore(|| {
        let flight = flight();
        let mut gone = WaiterTicket::default();
        assert!(flight.poll(&mut gone, Waker::noop()).is_none());
        let follower = waiter(&flight);
        let follower = thread::spawn(move || value(follower.block()));
        let lander = thread::spawn({
            let flight = Arc::clone(&flight);
            move || assert!(land(&flight, 3))
        });
        flight.leave(&gone);
        assert_eq!(follower.join().unwrap(), 3);
        lander.join().unwrap();
    });
}

/// A leader that is done, and a follower whose patience is over: one outcome, for everybody.
#[test]
fn of_two_landings_one_counts() {
    explore(|| {
        let flight = flight();
        let other = thread::spawn({
            let flight = Arc::clone(&flight);
            move || land(&flight, 1)
        });
        let mine = land(&flight, 2);
        let first = value(flight.landing());
        let others = other.join().unwrap();
        assert!(mine != others);
        assert_eq!(first, if mine { 2 } else { 1 });
        assert_eq!(value(flight.landing()), first, "it stays");
    });
}

#[test]
fn a_budget_is_never_exceeded_and_nothing_of_it_is_lost() {
    explore(|| {
        let budget = Arc::new(Budget::new(3, true));
        let spend = |budget: &Budget, units| {
            let taken = budget.try_take(units);
            if taken {
                budget.entered();
                budget.left(1);
                budget.give_back(units);
            }
            taken
        };
        let other = thread::spawn({
            let budget = Arc::clone(&budget);
            move || spend(&budget, 2)
        });
        assert!(spend(&budget, 1), "there is room for both");
        assert!(budget.used() <= 3);
        let mine = spend(&budget, 2);
        assert!(budget.used() <= 3);
        assert!(other.join().unwrap() || mine, "the first of them gets it");
        assert_eq!((budget.used(), budget.entries()), (0, 0));
    });
}

fn load(shelf: &Shelf, moments: &Moments) -> u64 {
    shelf.get_or_load(&KEY, || Ok::<_, Infallible>(moments.next())).unwrap()
}

fn spawn_load(shelf: &Shelf, moments: &Moments) -> loom::thread::JoinHandle<u64> {
    let (shelf, moments) = (shelf.clone(), moments.clone());
    thread::spawn(move || load(&shelf, &moments))
}

/// The gap between landing and publishing, in which a second load could begin.
#[test]
fn a_call_that_arrives_as_a_load_lands_joins_it_or_finds_its_value() {
    explore_up_to(4, || {
        let (shelf, moments) = (shelf(), Moments::default());
        let others = [spawn_load(&shelf, &moments), spawn_load(&shelf, &moments)];
        assert_eq!(load(&shelf, &moments), 1);
        assert_eq!(others.map(|other| other.join().unwrap()), [1, 1]);
        assert_eq!((moments.count(), shelf.flights()), (1, 0));
        shelf.validate();
    });
}

/// Joining, arriving and removing meet on the board.
#[test]
fn removed_as_a_load_lands_is_never_stored() {
    explore_up_to(4, || {
        let (shelf, moments) = (shelf(), Moments::default());
        let loaders = [spawn_load(&shelf, &moments), spawn_load(&shelf, &moments)];
        // a step in between, or the removal would begin before everything else in all schedules
        shelf.get(&KEY);
        let begun = moments.next();
        shelf.remove(&KEY);
        let after = shelf.get(&KEY);
        assert!(after.is_none_or(|value| value > begun), "{after:?} is older than {begun}");
        let after = load(&shelf, &moments);
        assert!(after > begun, "{after} is older than {begun}");
        for loader in loaders {
            loader.join().unwrap();
        }
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

#[test]
fn inserted_as_a_load_lands_stays() {
    explore(|| {
        let (shelf, moments) = (shelf(), Moments::default());
        let loaders = [spawn_load(&shelf, &moments), spawn_load(&shelf, &moments)];
        shelf.insert(KEY, 100);
        assert_eq!(shelf.get(&KEY), Some(100));
        for loader in loaders {
            loader.join().unwrap();
        }
        assert_eq!((shelf.get(&KEY), shelf.flights()), (Some(100), 0));
        shelf.validate();
    });
}

/// The leader goes away while others join: then one of them leads.
#[test]
fn whoever_follows_a_leader_that_goes_away_leads() {
    explore_up_to(4, || {
        let shelf = shelf();
        let leaver = thread::spawn({
            let shelf = shelf.clone();
            move || {
                let load = || std::future::pending::<Result<u64, Infallible>>();
                let mut call = pin!(shelf.get_or_load_async(&KEY, load));
                let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(poll.is_pending() || shelf.get(&KEY) == Some(2));
            }
        });
        let follower = thread::spawn({
            let shelf = shelf.clone();
            move || shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2)).unwrap()
        });
        assert_eq!(shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2)).unwrap(), 2);
        assert_eq!(follower.join().unwrap(), 2);
        leaver.join().unwrap();
        assert_eq!((shelf.get(&KEY), shelf.flights()), (Some(2), 0));
        shelf.validate();
    });
}

/// A flight that never lands, and the clock that passes its deadline.
fn hung() -> (Shelf, ManualClock) {
    let (builder, hand) = builder();
    let timeout = Duration::from_millis(1);
    (builder.max_entries(100).load_timeout(timeout).build().unwrap(), hand)
}

/// The deadline passes between the look at the clock and the sleep.
#[test]
fn a_thread_that_goes_to_sleep_as_its_time_runs_out_is_woken() {
    explore(|| {
        let (shelf, hand) = hung();
        let pending = || std::future::pending::<Result<u64, Infallible>>();
        let mut leader = Box::pin(shelf.get_or_load_async(&KEY, pending));
        assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let mover = thread::spawn(move || hand.advance(Duration::from_millis(1)));
        match shelf.get_or_load(&KEY, || Ok::<_, Infallible>(2)) {
            // come after the time was over, and led
            Ok(value) => assert_eq!(value, 2),
            Err(LoadError::TimedOut) => assert_eq!(shelf.get(&KEY), None),
            Err(other) => panic!("{other:?}"),
        }
        mover.join().unwrap();
        assert_eq!(shelf.flights(), 0, "whichever it was, the hung one has lost its key");
        drop(leader);
        shelf.validate();
    });
}

#[test]
fn a_task_that_is_polled_as_its_time_runs_out_is_woken() {
    explore(|| {
        let (clock, hand) = Clock::manual();
        let flight = flight();
        let load_timeout = clock.now() + 1 - flight.started();
        let waiter = Waiter::new(flight, clock, limits(load_timeout));
        let follower = thread::spawn(move || block_on(waiter).is_none());
        hand.advance(Duration::from_millis(1));
        assert!(follower.join().unwrap());
    });
}

struct Load;

impl Queued for Load {
    fn begin(&self, _: Tick) {}
}

/// A slot that is given back as one in line leaves goes to the other, and is not lost.
#[test]
fn a_slot_goes_to_whoever_is_left_in_line() {
    explore(|| {
        let slots = Arc::new(LoadSlots::new(1, 100, Clock::manual().0));
        let held = slots.try_take().unwrap();
        let line = || slots.take(Rank::Miss, None, Arc::new(Load)).unwrap_err();
        let (leaves, stays) = (line(), line());
        let giver = thread::spawn({
            let slots = Arc::clone(&slots);
            move || slots.give_back(held)
        });
        slots.leave(leaves);
        giver.join().unwrap();
        let Turned::Yours(slot) = slots.look(stays, Waker::noop()) else {
            panic!("it is the only one in line")
        };
        slots.give_back(slot);
        assert_eq!(slots.used(), (0, 0));
    });
}
