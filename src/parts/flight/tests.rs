use super::*;
use std::sync::atomic::AtomicUsize as Count;
use std::task::Wake;

struct Counting(Count);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker's own trouble");
    }
}

fn flight() -> Flight<u32, u32> {
    Flight::new(Begin { number: 1, ..Begin::of_nothing(1) }, 1, 1)
}

fn value(flight: &Flight<u32, u32>) -> Option<u32> {
    match flight.landing() {
        Some(Landing::Value(brought)) => Some(brought.value),
        _ => None,
    }
}

fn brought(value: u32) -> Landing<u32> {
    Landing::Value(Arc::new(Brought {
        value,
        age: None,
        fresh_for: Duration::MAX,
        validator: None,
    }))
}

#[test]
fn only_the_first_landing_counts() {
    let flight = flight();
    assert!(flight.land(brought(1)));
    assert!(!flight.land(brought(2)));
    assert_eq!(value(&flight), Some(1));
}

#[test]
fn a_follower_polled_with_another_waker_is_woken_through_that_one() {
    let (old, new) = (Arc::new(Counting(Count::new(0))), Arc::new(Counting(Count::new(0))));
    let flight = flight();
    let mut ticket = WaiterTicket::default();
    assert!(flight.poll(&mut ticket, &Waker::from(old.clone())).is_none());
    assert!(flight.poll(&mut ticket, &Waker::from(new.clone())).is_none());
    flight.land(brought(1));
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
}

#[test]
fn a_follower_that_left_is_not_woken() {
    let gone = Arc::new(Counting(Count::new(0)));
    let flight = flight();
    let mut ticket = WaiterTicket::default();
    assert!(flight.poll(&mut ticket, &Waker::from(gone.clone())).is_none());
    flight.leave(&ticket);
    flight.land(brought(1));
    assert_eq!(gone.0.load(Ordering::Relaxed), 0);
    assert_eq!(Arc::strong_count(&gone), 1, "the flight let go of the waker");
}

#[test]
fn a_panicking_waker_leaves_nobody_asleep() {
    let after = Arc::new(Counting(Count::new(0)));
    let flight = flight();
    let (mut first, mut second) = (WaiterTicket::default(), WaiterTicket::default());
    assert!(flight.poll(&mut first, &Waker::from(Arc::new(Panicking))).is_none());
    assert!(flight.poll(&mut second, &Waker::from(after.clone())).is_none());
    flight.land(brought(1));
    assert_eq!(after.0.load(Ordering::Relaxed), 1);
}
