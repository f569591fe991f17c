//! What a second tier leaves out is told: the first of it, and then ever fewer; all of it is counted.

mod common;

use common::{Checked, checked, wait_until};
use larder::{
    Cache, Event, Tier, TierChange, TierError, TierFound, TierKey, TierTicket, TierWatcher,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Can neither read nor write anything.
#[derive(Clone, Default)]
struct Illiterate(Arc<Mutex<Option<TierWatcher>>>);

impl Illiterate {
    fn skip(&self, error: &TierError) {
        let watcher = self.0.lock().clone().unwrap();
        assert!(watcher.skipped(error));
    }
}

impl Tier<u64, u64> for Illiterate {
    async fn get(&self, _: &TierKey) -> Result<TierFound<u64, u64>, TierError> {
        self.skip(&TierError::Unreadable("smudged".into()));
        Ok(TierFound::new(None, TierTicket::default()))
    }

    async fn apply(&self, changes: &[TierChange<u64, u64>]) -> Result<(), TierError> {
        for _ in changes {
            self.skip(&TierError::Unencodable("no pen".into()));
        }
        Ok(())
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        *self.0.lock() = Some(watcher);
        Ok(())
    }
}

fn load(cache: &Cache<u64, u64>, key: u64) {
    assert_eq!(cache.get_or_load(&key, || Ok::<_, String>(key)).unwrap(), key);
    wait_until(|| cache.tier_pending() == 0);
}

fn with_handler(
    tier: Illiterate,
    handler: impl Fn(Event<'_, u64>) + Send + Sync + 'static,
) -> Checked<u64, u64> {
    checked(Cache::builder().max_entries(100).tier(tier).on_event(handler))
}

#[test]
fn each_kind_is_told_whenever_its_number_has_doubled_and_counted_always() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    let cache =
        with_handler(Illiterate::default(), move |event| log.lock().push(event.to_string()));
    for key in 0..5 {
        load(&cache, key);
    }
    let told = |kind: &str| {
        let lines = lines.lock();
        lines.iter().filter(|line| line.contains(kind)).cloned().collect::<Vec<_>>()
    };
    let told_of = |text: &str| [1, 2, 4].map(|number| format!("{text} ({number} so far)"));
    assert_eq!(told("smudged"), told_of("the second tier cannot read an entry: smudged"));
    assert_eq!(told("no pen"), told_of("the second tier cannot store an entry: no pen"));
    assert_eq!(lines.lock().len(), 6);
    let stats = cache.stats();
    assert_eq!((stats.tier_skipped, stats.tier_misses, stats.loads), (10, 5, 5));
    // no failure of the tier's, nor news
    assert_eq!((stats.tier_errors, stats.tier_news), (0, 0));
    assert!(stats.counts().any(|count| count == ("tier_skipped", 10)));
}

#[test]
fn a_handler_that_is_told_waits_neither_for_the_load_nor_for_the_tier() {
    let own = Arc::new(Mutex::new(None::<Cache<u64, u64>>));
    let (its, refused) = (Arc::clone(&own), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&refused);
    let cache = with_handler(Illiterate::default(), move |event| {
        assert!(matches!(event, Event::TierSkipped { entries: 1, .. }), "{event}");
        let cache = its.lock().clone().unwrap();
        // its own key, which is being loaded where the tier reads, and another one
        for key in [1, 2] {
            let found = cache.get_or_load(&key, || Err::<u64, _>("not called"));
            assert!(found.is_ok_and(|value| value == key) || cache.peek(&key).is_none());
        }
        assert!(matches!(cache.tier_flush(), Err(TierError::Refused(_))));
        count.fetch_add(1, Ordering::SeqCst);
    });
    *own.lock() = Some(cache.clone());
    load(&cache, 1);
    let own = own.lock().take();
    drop(own);
    assert_eq!(refused.load(Ordering::SeqCst), 2);
    assert_eq!(cache.stats().listener_panics, 0);
}

#[test]
fn without_a_handler_it_is_counted() {
    let cache = checked(Cache::builder().max_entries(100).tier(Illiterate::default()));
    load(&cache, 1);
    assert_eq!(cache.stats().tier_skipped, 2);
}

#[test]
fn a_cache_that_is_gone_is_told_nothing() {
    let tier = Illiterate::default();
    let cache = with_handler(tier.clone(), |event| panic!("{event}"));
    drop(cache);
    let watcher = tier.0.lock().clone().unwrap();
    wait_until(|| !watcher.is_alive());
    assert!(!watcher.skipped(&TierError::Unreadable("smudged".into())));
}
