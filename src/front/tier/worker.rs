//! The thread that sends a cache's changes to its second tier.

#[cfg(not(larder_loom))]
use crate::engine::tier::news::without_waiting;
use crate::engine::tier::{AnyTier, give_back};
use crate::parts::notifier::Notifier;
use crate::parts::outgoing::{InHand, Outgoing};
use crate::rules::event::Event;
use crate::rules::tier::{TierChange, TierError};
use crate::words::block_on::block_on;
use crate::words::clock::Clock;
use crate::words::contain::contain;
#[cfg(not(larder_loom))]
use crate::words::sync::thread;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shortest and the longest pause after a failed attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Starts the thread. It does not keep the cache alive, and ends with it.
#[cfg(not(larder_loom))]
pub(crate) fn start<K, V>(
    tier: Arc<dyn AnyTier<K, V>>,
    outgoing: Arc<Outgoing<K, V>>,
    clock: Clock,
    notifier: Option<Arc<Notifier<K>>>,
) -> std::io::Result<()>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let work = move || {
        // User code on this thread (drops of keys and values, the handler of events) must not wait for the tier:
        // this is the thread that it would wait for.
        without_waiting(move || {
            let guard = OverGuard(&outgoing);
            work(&*tier, &outgoing, &clock, notifier.as_deref());
            drop(guard);
        });
    };
    thread::Builder::new().name("larder-tier".to_owned()).spawn(work).map(drop)
}

/// loom has no named threads; its models have no tier.
#[cfg(larder_loom)]
pub(crate) fn start<K, V>(
    _: Arc<dyn AnyTier<K, V>>,
    _: Arc<Outgoing<K, V>>,
    _: Clock,
    _: Option<Arc<Notifier<K>>>,
) -> std::io::Result<()> {
    Ok(())
}

/// However this thread ends, those who wait for a change are told.
struct OverGuard<'a, K, V>(&'a Outgoing<K, V>);

impl<K, V> Drop for OverGuard<'_, K, V> {
    fn drop(&mut self) {
        self.0.over();
    }
}

fn work<K, V>(
    tier: &dyn AnyTier<K, V>,
    outgoing: &Outgoing<K, V>,
    clock: &Clock,
    notifier: Option<&Notifier<K>>,
) {
    let take = || block_on(poll_fn(|task| outgoing.poll_take(task.waker(), clock.now())));
    while let Some(hand) = take() {
        if !make(tier, outgoing, notifier, hand) {
            return;
        }
    }
}

/// Makes these changes in the tier, with as many attempts as it takes; if the cache is gone, with one more.
/// `false` if that has failed and there is no time for the changes behind them.
fn make<K, V>(
    tier: &dyn AnyTier<K, V>,
    outgoing: &Outgoing<K, V>,
    notifier: Option<&Notifier<K>>,
    mut hand: InHand<K, V>,
) -> bool {
    let mut failures = 0_u32;
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut is_last_try = false;
    loop {
        let mut result = Err(TierError::Refused("it panicked".into()));
        contain(|| result = tier.apply(&hand.changes));
        let Err(error) = result else {
            contain(|| outgoing.made(hand));
            return true;
        };
        let mut longest = Duration::MAX;
        contain(|| longest = tier.longest_life());
        let changes = hand.changes.len();
        failures = failures.saturating_add(1);
        if begun.elapsed() >= longest {
            // after that time the tier has dropped what they were to change
            give_back_all(tier, &hand);
            contain(|| outgoing.made(hand));
            hand = InHand::new();
        } else {
            let (left, moot) = outgoing.failed(hand, error.clone());
            give_back_all(tier, &moot);
            contain(|| drop(moot));
            hand = left;
        }
        if let Some(notifier) = notifier {
            notifier.notify(Event::TierLags { changes, failures, error: &error });
        }
        if hand.is_empty() {
            return true;
        }
        if is_last_try {
            return outgoing.has_time();
        }
        // the cache is gone: failed changes are tried once more at once, since other processes share the tier
        is_last_try = !outgoing.pause(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Gives back the tickets of loaded values that are not passed on.
fn give_back_all<K, V>(tier: &dyn AnyTier<K, V>, moot: &InHand<K, V>) {
    for (key, ticket) in moot.changes.iter().filter_map(TierChange::ticket) {
        give_back(tier, key, ticket);
    }
}
