//! Writes that reach the source later: none is lost, the last one of a key wins, reads see them.

mod common;

use common::gate::Gate;
use common::{Watchdog, checked, ms, secs, silence_expected_panics, wait_until};
use larder::{
    Altered, Cache, Change, Clock, ConfigError, GaveUp, Given, How, LoadError, ManualClock,
    MemoryTier, RefreshAhead, SteppingRuntime, Unwritten, WhenFull, WriteBehind,
    WriteBehindBuilder, WriteError, Writer,
};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// A source that writes down what it is told, and fails or stops when told to.
#[derive(Clone, Default)]
struct Source(Arc<Inner>);

type Batch = Vec<(u64, Option<u64>)>;

#[derive(Default)]
struct Inner {
    rows: Mutex<HashMap<u64, u64>>,
    batches: Mutex<Vec<Batch>>,
    /// So many of the next writes fail.
    failures: AtomicUsize,
    is_away: AtomicBool,
    /// And so many of the next ones panic.
    panics: AtomicUsize,
    refused: Mutex<HashSet<u64>>,
    gate: OnceLock<Gate>,
}

impl Source {
    fn rows(&self) -> HashMap<u64, u64> {
        self.0.rows.lock().clone()
    }

    fn batches(&self) -> Vec<Batch> {
        self.0.batches.lock().clone()
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.rows().get(&key).copied()
    }

    /// Writes stop at a gate from here on.
    fn shut(&self) -> &Gate {
        self.0.gate.get_or_init(Gate::new)
    }
}

impl Writer<u64, u64> for Source {
    type Error = String;

    fn write(&self, batch: &[Change<'_, u64, u64>]) -> Result<(), String> {
        let seen = batch.iter().map(|change| (*change.key(), change.value().copied()));
        self.0.batches.lock().push(seen.collect());
        if let Some(gate) = self.0.gate.get() {
            gate.pass(());
        }
        let one_of = |n: &AtomicUsize| n.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
        assert!(!one_of(&self.0.panics), "expected: the writer panics");
        let fails = one_of(&self.0.failures);
        if fails || self.0.is_away.load(SeqCst) {
            return Err("away".to_owned());
        }
        let refused = self.0.refused.lock().clone();
        if batch.iter().any(|change| refused.contains(change.key())) {
            return Err("refused".to_owned());
        }
        let mut rows = self.0.rows.lock();
        for change in batch {
            match *change {
                Change::Put(key, value) => _ = rows.insert(*key, *value),
                Change::Delete(key) => _ = rows.remove(key),
            }
        }
        Ok(())
    }
}

type Queue = WriteBehind<u64, u64, Source>;
type Builder = WriteBehindBuilder<u64, u64, Source>;

struct Setting {
    queue: Option<Queue>,
    cache: common::Checked<u64, u64>,
    source: Source,
    hand: ManualClock,
    lost: Arc<Mutex<Vec<Unwritten<u64, u64, String>>>>,
}

impl Setting {
    fn queue(&self) -> &Queue {
        self.queue.as_ref().unwrap()
    }

    fn close(&mut self) -> Result<(), WriteError> {
        self.queue.take().unwrap().close()
    }

    /// Lets time pass until nothing is left.
    fn pass(&self) {
        wait_until(|| {
            self.hand.advance(secs(60));
            self.queue().pending() == 0
        });
    }

    fn lost(&self) -> Vec<Unwritten<u64, u64, String>> {
        self.lost.lock().clone()
    }
}

fn setting(entries: u64, settings: impl FnOnce(Builder) -> Builder) -> Setting {
    let (clock, hand) = Clock::manual();
    let cache = checked(Cache::builder().max_entries(entries).clock(clock).seed(1));
    let source = Source::default();
    let lost = Arc::new(Mutex::new(Vec::new()));
    let builder = WriteBehind::builder((*cache).clone(), source.clone()).on_give_up({
        let lost = lost.clone();
        move |unwritten| lost.lock().push(unwritten)
    });
    let queue = Some(settings(builder).build().unwrap());
    Setting { queue, cache, source, hand, lost }
}

fn usual() -> Setting {
    setting(1_000, |builder| builder)
}

#[test]
fn a_change_is_in_the_cache_at_once_and_at_the_source_later() {
    let mut it = usual();
    it.queue().put(1, 10).unwrap();
    it.queue().put(2, 20).unwrap();
    assert_eq!((it.cache.get(&1), it.queue().get(&2)), (Some(10), Some(20)));
    assert_eq!((it.queue().pending(), it.source.rows().len()), (2, 0));
    it.queue().delete(&2).unwrap();
    assert_eq!((it.cache.get(&2), it.queue().get(&2)), (None, None));
    it.queue().flush().unwrap();
    assert_eq!((it.source.rows(), it.queue().pending()), (HashMap::from([(1, 10)]), 0));
    it.queue().delete(&1).unwrap();
    it.close().unwrap();
    assert_eq!((it.source.rows().len(), it.cache.get(&1)), (0, None));
}

#[test]
fn a_key_that_changes_again_is_written_once_with_its_last_change() {
    let mut it = usual();
    for value in 0..100 {
        it.queue().put(1, value).unwrap();
        it.queue().put(2, value).unwrap();
    }
    it.queue().delete(&2).unwrap();
    assert_eq!(it.queue().pending(), 2);
    it.close().unwrap();
    assert_eq!(it.source.batches(), [[(1, Some(99)), (2, None)]]);
}

#[test]
fn a_change_waits_for_company_no_longer_than_its_delay() {
    let mut it = setting(1_000, |builder| builder.max_delay(ms(50)).batch(10));
    it.queue().put(1, 10).unwrap();
    it.hand.advance(ms(49));
    it.queue().put(2, 20).unwrap();
    assert_eq!(it.source.batches().len(), 0);
    it.hand.advance(ms(1));
    wait_until(|| it.queue().pending() == 0);
    assert_eq!(it.source.batches(), [[(1, Some(10)), (2, Some(20))]]);
    // a change of what waits does not start the wait anew
    it.queue().put(1, 11).unwrap();
    it.hand.advance(ms(30));
    it.queue().put(1, 12).unwrap();
    it.hand.advance(ms(20));
    wait_until(|| it.queue().pending() == 0);
    assert_eq!(it.source.get(1), Some(12));
    it.close().unwrap();
}

#[test]
fn a_whole_batch_waits_for_nothing() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::MAX).batch(3));
    (1..=3).for_each(|key| it.queue().put(key, key).unwrap());
    wait_until(|| it.queue().pending() == 0);
    it.queue().put(4, 4).unwrap();
    assert_eq!((it.source.batches().len(), it.queue().pending()), (1, 1));
    it.close().unwrap();
    assert_eq!(it.source.rows().len(), 4);
}

#[test]
fn without_a_delay_what_comes_during_a_write_is_the_next_batch() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO));
    let gate = it.source.shut();
    it.queue().put(1, 10).unwrap();
    gate.wait_until_entered(1);
    it.queue().put(1, 11).unwrap();
    it.queue().put(2, 20).unwrap();
    it.queue().put(1, 12).unwrap();
    assert_eq!(it.queue().get(&1), Some(12));
    gate.open();
    it.queue().flush().unwrap();
    assert_eq!(it.source.batches(), [vec![(1, Some(10))], vec![(1, Some(12)), (2, Some(20))]]);
    it.close().unwrap();
}

#[test]
fn reads_see_what_is_unwritten_though_the_cache_let_it_go() {
    for entries in [0, 1, 1_000] {
        let mut it = setting(entries, |builder| builder);
        (0..10).for_each(|key| it.queue().put(key, key * 10).unwrap());
        it.cache.clear();
        it.queue().delete(&3).unwrap();
        for key in (0..10).filter(|key| *key != 3) {
            assert_eq!(it.queue().get(&key), Some(key * 10));
            // a load is answered from the queue, and does not ask the source, which is behind
            assert_eq!(it.cache.get_or_load(&key, common::uncalled).unwrap(), key * 10);
            let load = |_: &_| common::uncalled::<u64>();
            assert_eq!(it.cache.at(&key).load(load).unwrap().value, key * 10);
            assert_eq!(it.cache.get_or_insert_with(&key, || unreachable!()), key * 10);
        }
        let none = it.cache.get_or_load_optional(&3, common::uncalled);
        assert_eq!((none.unwrap(), it.queue().get(&3)), (None, None));
        assert!(matches!(it.cache.get_or_load(&3, common::uncalled), Err(LoadError::NotFound)));
        it.close().unwrap();
        assert_eq!(it.source.rows().len(), 9);
        it.cache.clear();
        // written: the source is asked again
        let load = || Ok::<_, String>(it.source.get(4).unwrap() + 1);
        assert_eq!(it.cache.get_or_load(&4, load).unwrap(), 41);
    }
}

#[test]
fn what_is_about_to_be_deleted_may_be_made_anew() {
    let mut it = usual();
    it.queue().delete(&1).unwrap();
    assert_eq!(it.cache.get_or_insert_with(&1, || 5), 5);
    it.close().unwrap();
}

#[test]
fn a_task_is_answered_from_the_queue_too() {
    let mut it = usual();
    it.queue().put(1, 10).unwrap();
    it.cache.remove(&1);
    let load = it.cache.get_or_load_async(&1, || async { common::uncalled::<u64>() });
    let loaded = common::tasks::Task::new(load).poll();
    assert!(matches!(loaded, std::task::Poll::Ready(Ok(10))));
    it.close().unwrap();
}

#[test]
fn a_load_in_flight_when_a_change_comes_is_not_stored() {
    let mut it = usual();
    let gate = Gate::new();
    thread::scope(|scope| {
        let cache = &it.cache;
        let leader = scope.spawn(|| cache.get_or_load(&1, || Ok::<_, String>(gate.pass(9))));
        let deleted = scope.spawn(|| cache.get_or_load(&2, || Ok::<_, String>(gate.pass(9))));
        gate.wait_until_entered(2);
        it.queue().put(1, 10).unwrap();
        it.queue().delete(&2).unwrap();
        gate.open();
        assert_eq!(leader.join().unwrap().unwrap(), 9, "it began before the change");
        assert_eq!(deleted.join().unwrap().unwrap(), 9);
    });
    assert_eq!((it.cache.get(&1), it.cache.get(&2)), (Some(10), None));
    assert_eq!(it.cache.stats().fenced, 2);
    it.close().unwrap();
}

#[test]
fn what_a_batch_brings_unasked_is_not_stored_over_a_change() {
    let mut it = usual();
    let load = |keys: &[u64]| {
        assert_eq!(keys, [1]);
        it.queue().put(2, 20).unwrap(); // during the load
        it.cache.remove(&2);
        Ok::<_, String>([(1, 10), (2, 0), (3, 0)])
    };
    it.queue().put(3, 30).unwrap(); // before it
    it.cache.remove(&3);
    assert!(it.cache.get_or_load_many(&[1], load).error.is_none());
    assert_eq!((it.cache.get(&2), it.cache.get(&3)), (None, None));
    let load = |_: &[u64]| {
        let stale = it.source.rows();
        it.queue().flush().unwrap(); // what was read is older than what is written now
        Ok::<_, String>([(4, 40), (2, stale.get(&2).copied().unwrap_or(0))])
    };
    assert!(it.cache.get_or_load_many(&[4], load).error.is_none());
    assert_eq!((it.cache.get(&4), it.cache.get(&2)), (Some(40), None));
    it.close().unwrap();
}

#[test]
fn what_failed_is_tried_again_later_and_holds_up_nobody() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO));
    it.source.0.failures.store(1, SeqCst);
    it.queue().put(1, 10).unwrap();
    wait_until(|| it.source.batches().len() == 1);
    // another key's write tells that the failure is known
    it.queue().put(2, 20).unwrap();
    wait_until(|| it.source.get(2).is_some());
    it.hand.advance(ms(99));
    it.queue().put(3, 30).unwrap();
    wait_until(|| it.source.get(3).is_some());
    assert_eq!(it.source.get(1), None);
    it.hand.advance(ms(1));
    wait_until(|| it.queue().pending() == 0);
    assert_eq!(it.source.get(1), Some(10));
    it.close().unwrap();
    assert!(it.lost().is_empty());
}

#[test]
fn a_newer_change_takes_the_place_of_one_that_failed() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO));
    it.source.0.failures.store(1, SeqCst);
    it.queue().put(1, 10).unwrap();
    wait_until(|| it.source.batches().len() == 1);
    it.queue().put(1, 11).unwrap();
    it.pass();
    assert_eq!(it.source.batches(), [[(1, Some(10))], [(1, Some(11))]]);
    it.close().unwrap();
}

#[test]
fn what_the_source_refuses_does_not_hold_up_its_neighbours() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::MAX).batch(8).attempts(6));
    it.source.0.refused.lock().insert(5);
    (0..8).for_each(|key| it.queue().put(key, key).unwrap());
    it.pass();
    wait_until(|| !it.lost().is_empty());
    assert_eq!((it.source.rows().len(), it.source.get(5)), (7, None));
    let lost = it.lost();
    assert_eq!((lost.len(), lost[0].key, lost[0].value, lost[0].attempts), (1, 5, Some(5), 6));
    assert!(matches!(&lost[0].why, GaveUp::Failed(error) if **error == "refused"));
    assert_eq!(it.cache.get(&5), None, "the source does not have it");
    assert_eq!(it.queue().flush(), Err(WriteError::GaveUp { changes: 1 }));
    assert_eq!((it.queue().flush(), it.queue().given_up()), (Ok(()), 1), "told once");
    it.close().unwrap();
}

#[test]
fn a_writer_that_panics_has_failed() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO).attempts(2));
    it.source.0.panics.store(1, SeqCst);
    it.queue().put(1, 10).unwrap();
    it.pass();
    assert_eq!((it.source.get(1), it.source.batches().len()), (Some(10), 2));
    it.source.0.panics.store(2, SeqCst);
    it.queue().put(2, 20).unwrap();
    it.pass();
    wait_until(|| !it.lost().is_empty());
    assert!(matches!(it.lost()[0], Unwritten { key: 2, why: GaveUp::Panicked, .. }));
    it.queue().put(3, 30).unwrap();
    assert_eq!(it.queue().flush(), Err(WriteError::GaveUp { changes: 1 }));
    assert_eq!(it.source.get(3), Some(30), "the thread goes on");
    it.close().unwrap();
}

#[test]
fn a_full_queue_refuses_new_keys_or_makes_them_wait() {
    let mut it = setting(1_000, |builder| builder.max_pending(2).when_full(WhenFull::Refuse));
    let gate = it.source.shut();
    it.queue().put(1, 10).unwrap();
    it.queue().put(2, 20).unwrap();
    assert_eq!(it.queue().put(3, 30), Err(WriteError::Full));
    assert_eq!(it.cache.get(&3), None, "what was not accepted is not shown");
    it.queue().put(1, 11).unwrap(); // no further place
    gate.open();
    it.pass();
    it.queue().put(3, 30).unwrap();
    it.close().unwrap();
    assert_eq!(it.source.rows(), HashMap::from([(1, 11), (2, 20), (3, 30)]));

    let it = setting(1_000, |builder| builder.max_pending(1));
    let gate = it.source.shut();
    it.queue().put(1, 10).unwrap();
    gate.wait_until_entered(1);
    thread::scope(|scope| {
        let blocked = scope.spawn(|| it.queue().put(2, 20));
        let closed_out = scope.spawn(|| it.queue().put(3, 30));
        assert_eq!(it.queue().pending(), 1);
        gate.open();
        assert_eq!((blocked.join().unwrap(), closed_out.join().unwrap()), (Ok(()), Ok(())));
    });
    it.queue().flush().unwrap();
    assert_eq!(it.source.rows().len(), 3);
}

#[test]
fn closing_lets_go_of_those_who_wait_for_room() {
    let mut it = setting(1_000, |builder| builder.max_pending(1));
    let gate = it.source.shut().clone();
    it.queue().put(1, 10).unwrap();
    gate.wait_until_entered(1);
    let (queue, entered) = (it.queue().clone(), Arc::new(AtomicBool::new(false)));
    let blocked = thread::spawn({
        let entered = entered.clone();
        move || {
            entered.store(true, SeqCst);
            queue.put(2, 20)
        }
    });
    wait_until(|| entered.load(SeqCst));
    let closer = it.queue().clone();
    let closing = thread::spawn(move || closer.close());
    assert_eq!(blocked.join().unwrap(), Err(WriteError::Closed));
    gate.open();
    closing.join().unwrap().unwrap();
    assert_eq!(it.queue().put(4, 40), Err(WriteError::Closed));
    assert_eq!(it.queue().delete(&4), Err(WriteError::Closed));
    assert_eq!((it.queue().flush(), it.queue().get(&1)), (Ok(()), Some(10)));
    it.close().unwrap();
    assert_eq!(it.source.rows(), HashMap::from([(1, 10)]));
}

#[test]
fn a_drop_writes_what_there_is() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::MAX));
    let other = it.queue().clone();
    (0..90).for_each(|key| it.queue().put(key, key).unwrap());
    it.queue = None;
    assert_eq!(it.source.rows().len(), 0, "there is another handle");
    drop(other);
    assert_eq!(it.source.rows().len(), 90);
    assert!(it.lost().is_empty());
}

#[test]
fn a_drop_reports_what_it_could_not_write() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO));
    it.source.0.is_away.store(true, SeqCst);
    it.queue().put(1, 10).unwrap();
    it.queue().put(2, 20).unwrap();
    it.queue().delete(&3).unwrap();
    it.queue = None; // under a manual clock it does not wait for time that nobody lets pass
    let mut lost: Vec<_> = it.lost().iter().map(|lost| (lost.key, lost.value)).collect();
    lost.sort_unstable();
    assert_eq!(lost, [(1, Some(10)), (2, Some(20)), (3, None)]);
    assert!(it.lost().iter().all(|lost| matches!(lost.why, GaveUp::Dropped)));
    assert_eq!((it.cache.get(&1), it.cache.get(&2)), (None, None));
}

#[test]
fn a_drop_does_not_wait_for_a_writer_that_hangs() {
    let _watchdog = Watchdog::start();
    let source = Source::default();
    let gate = source.shut().clone();
    let lost = Arc::new(AtomicUsize::new(0));
    let queue = WriteBehind::builder(Cache::new(100), source.clone())
        .drop_timeout(ms(20))
        .max_delay(Duration::ZERO)
        .on_give_up({
            let lost = lost.clone();
            move |_| _ = lost.fetch_add(1, SeqCst)
        })
        .build()
        .unwrap();
    queue.put(1, 10).unwrap();
    gate.wait_until_entered(1);
    queue.put(2, 20).unwrap();
    drop(queue);
    assert_eq!(lost.load(SeqCst), 2);
    gate.open();
    wait_until(|| source.rows().len() == 1);
    assert_eq!(lost.load(SeqCst), 2, "the late write is nobody's any more");
}

#[test]
fn threads_come_with_the_first_change_and_go_with_the_queue() {
    let _watchdog = Watchdog::start();
    if !cfg!(target_os = "linux") {
        return;
    }
    // by name and by what they write to, since other tests have queues too
    let of_mine = Arc::new(Mutex::new(HashSet::new()));
    let tasks = || -> HashSet<String> {
        let entries = std::fs::read_dir("/proc/self/task").unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let queue = WriteBehind::builder(Cache::<u64, u64>::new(100), {
        let of_mine = of_mine.clone();
        move |_: &[Change<'_, u64, u64>]| {
            let id = std::fs::read_link("/proc/thread-self").unwrap();
            of_mine.lock().insert(id.file_name().unwrap().to_str().unwrap().to_owned());
            Ok::<_, ()>(())
        }
    })
    .build()
    .unwrap();
    queue.flush().unwrap();
    queue.put(1, 10).unwrap();
    queue.flush().unwrap();
    let mine = of_mine.lock().clone();
    assert_eq!(mine.len(), 1);
    assert!(mine.is_subset(&tasks()));
    queue.close().unwrap();
    wait_until(|| mine.is_disjoint(&tasks()));
}

type Wr = dyn Fn(&[Change<'_, u64, u64>]) -> Result<(), ()> + Send + Sync;
type Handle = Mutex<Option<WriteBehind<u64, u64, Box<Wr>>>>;

#[test]
fn a_writer_that_uses_its_own_queue_is_told_what_it_cannot_do() {
    let _watchdog = Watchdog::start();
    let handle: Arc<Handle> = Arc::default();
    let told = Arc::new(Mutex::new(Vec::new()));
    let inside: Box<Wr> = Box::new({
        let (handle, told) = (handle.clone(), told.clone());
        move |batch: &[Change<'_, u64, u64>]| {
            if *batch[0].key() == 1 {
                let queue = handle.lock().clone().unwrap();
                let mut told = told.lock();
                told.push(queue.put(2, 20)); // takes the last place
                told.push(queue.put(3, 30));
                told.push(queue.alter(&2, |n| n.map(|n| n + 1)).map(|n| assert_eq!(n, Some(21))));
                told.push(queue.alter(&3, |_| Some(30)).map(|_| ()));
                told.push(queue.flush());
                told.push(queue.clone().close());
            }
            Ok(())
        }
    });
    let queue = WriteBehind::builder(Cache::new(100), inside)
        .max_pending(2)
        .max_delay(Duration::ZERO)
        .build()
        .unwrap();
    *handle.lock() = Some(queue.clone());
    queue.put(1, 10).unwrap();
    queue.flush().unwrap();
    let refused = Err(WriteError::InsideWriter);
    let [room, none] = [Ok(()), refused];
    let told = told.lock().clone();
    assert_eq!(told, [&room, &none, &room, &none, &none, &none].map(Clone::clone));
    queue.close().unwrap();
    // or the writer would keep its own queue alive
    let held = handle.lock().take();
    drop(held);
}

#[test]
fn a_queue_whose_last_handle_goes_in_its_writer_gives_up_in_time() {
    let _watchdog = Watchdog::start();
    for is_manual in [true, false] {
        let (clock, hand) = Clock::manual();
        let clock = if is_manual { clock } else { Clock::system() };
        let cache = checked(Cache::builder().max_entries(10).clock(clock));
        let (handle, lost): (Arc<Handle>, _) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let gate = Gate::new();
        let last: Box<Wr> = Box::new({
            let (handle, gate) = (handle.clone(), gate.clone());
            move |_: &[Change<'_, u64, u64>]| {
                gate.pass(());
                let last = handle.lock().take();
                drop(last);
                Err(())
            }
        });
        let queue = WriteBehind::builder((*cache).clone(), last)
            .max_delay(Duration::ZERO)
            .writers(2)
            .retry(ms(1), if is_manual { secs(1) } else { ms(1) })
            .drop_timeout(ms(20))
            .on_give_up({
                let lost = lost.clone();
                move |_| _ = lost.fetch_add(1, SeqCst)
            })
            .build()
            .unwrap();
        queue.put(1, 10).unwrap();
        gate.wait_until_entered(1);
        *handle.lock() = Some(queue);
        gate.open();
        // under a manual clock nobody lets time pass: it does not wait for that
        wait_until(|| lost.load(SeqCst) == 1);
        assert_eq!(cache.get(&1), None);
        drop(hand);
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let refused = |settings: fn(Builder) -> Builder| {
        let builder = WriteBehind::builder(Cache::new(10), Source::default());
        settings(builder).build().map(|_| ()).unwrap_err()
    };
    let build = |settings| refused(settings).to_string();
    assert_eq!(build(|b| b.max_pending(0)), "`max_pending` is 0, but accepts 1 and more");
    assert_eq!(build(|b| b.batch(0)), "`batch` is 0, but accepts 1 and more");
    assert_eq!(build(|b| b.attempts(0)), "`attempts` is 0, but accepts 1 and more");
    assert_eq!(build(|b| b.writers(0)), "`writers` is 0, but accepts 1 and more");
    let error = refused(|b| b.writers(0));
    assert!(matches!(error, ConfigError::OutOfRange { given: Given::Count(0), .. }), "{error:?}");
    let retry = |b: Builder| b.retry(ms(2), ms(1));
    let error = retry(WriteBehind::builder(Cache::new(10), Source::default())).build();
    assert!(matches!(error, Err(ConfigError::OutOfRange { setting: "retry", .. })));
    assert!(build(|b| b.retry(ms(0), ms(1))).contains("a first pause of more than zero"));
}

#[test]
fn a_listener_that_panics_is_called_again() {
    let mut it = usual();
    let told = Arc::new(AtomicUsize::new(0));
    it.queue = WriteBehind::builder((*it.cache).clone(), it.source.clone())
        .attempts(1)
        .batch(1)
        .on_give_up({
            let told = told.clone();
            move |_| {
                told.fetch_add(1, SeqCst);
                panic!("expected: the listener panics");
            }
        })
        .build()
        .ok();
    it.source.0.is_away.store(true, SeqCst);
    (0..3).for_each(|key| it.queue().put(key, key).unwrap());
    assert_eq!(it.close(), Err(WriteError::GaveUp { changes: 3 }));
    assert_eq!(told.load(SeqCst), 3);
}

#[test]
fn two_who_put_at_once_leave_the_last_or_nothing() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::MAX));
    for round in 0..500 {
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for n in 0..2 {
                let queue = it.queue();
                threads.push(scope.spawn(move || queue.put(1, round * 2 + n).unwrap()));
            }
            // the thread sanitizer sees a join, and not the end of a scope
            for thread in threads {
                thread.join().unwrap();
            }
        });
        let cached = it.cache.get(&1);
        let last = it.queue().get(&1).unwrap();
        assert!(cached.is_none_or(|cached| cached == last), "{cached:?} of {last}");
        it.cache.remove(&1);
        assert_eq!(it.queue().get(&1), Some(last), "and that is what the queue says");
    }
    let last = it.queue().get(&1);
    it.close().unwrap();
    assert_eq!(it.source.get(1), last);
}

/// A value whose `Clone` panics when told to.
struct Touchy(u64, Arc<AtomicBool>);

impl Clone for Touchy {
    fn clone(&self) -> Self {
        assert!(!self.1.load(SeqCst), "expected: a clone panics");
        Self(self.0, Arc::clone(&self.1))
    }
}

#[test]
fn a_clone_that_panics_is_not_accepted() {
    let _watchdog = Watchdog::start();
    let written = Arc::new(AtomicU64::new(0));
    let queue = WriteBehind::builder(Cache::new(100), {
        let written = written.clone();
        move |batch: &[Change<'_, u64, Touchy>]| {
            let values = batch.iter().filter_map(Change::value).map(|value| value.0);
            written.fetch_add(values.sum(), SeqCst);
            Ok::<_, ()>(())
        }
    })
    .max_delay(Duration::MAX)
    .build()
    .unwrap();
    let fuse = Arc::new(AtomicBool::new(false));
    queue.put(1, Touchy(1, fuse.clone())).unwrap();
    fuse.store(true, SeqCst);
    let put = || queue.put(1, Touchy(100, fuse.clone()));
    assert!(catch_unwind(AssertUnwindSafe(put)).is_err());
    fuse.store(false, SeqCst);
    assert_eq!(queue.pending(), 1);
    queue.close().unwrap();
    assert_eq!(written.load(SeqCst), 1);
}

/// A key whose `Hash` panics when told to: with a second tier, that is asked for its name.
#[derive(Clone)]
struct TouchyKey(u64, Arc<AtomicBool>);

impl Hash for TouchyKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(!self.1.load(SeqCst), "expected: a hash panics");
        self.0.hash(state);
    }
}

impl PartialEq for TouchyKey {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for TouchyKey {}

#[test]
fn a_hash_that_panics_holds_up_no_writer() {
    let fuse = Arc::new(AtomicBool::new(false));
    let cache = checked(Cache::builder().max_entries(9).tier(MemoryTier::new()));
    let queue = WriteBehind::builder((*cache).clone(), {
        let fuse = fuse.clone();
        move |batch: &[Change<'_, TouchyKey, u64>]| {
            fuse.store(true, SeqCst);
            if batch[0].value() == Some(&1) { Err("refused") } else { Ok(()) }
        }
    });
    let queue = queue.attempts(1).build().unwrap();
    let key = TouchyKey(1, fuse.clone());
    queue.put(key.clone(), 1).unwrap();
    assert_eq!(queue.flush(), Err(WriteError::GaveUp { changes: 1 }));
    fuse.store(false, SeqCst);
    queue.put(key.clone(), 2).unwrap();
    assert_eq!((queue.flush(), queue.pending()), (Ok(()), 0));
    fuse.store(false, SeqCst);
    queue.close().unwrap();
}

/// The whole of it: a writer that fails at random, evictions, threads that panic, a `close` in the
/// middle. What the source holds in the end is the last change of every key that was accepted.
#[test]
fn the_source_ends_with_the_last_accepted_change_of_every_key() {
    const THREADS: u64 = 8;
    const KEYS: u64 = 40;
    const ROUNDS: u64 = if cfg!(debug_assertions) { 2_000 } else { 50_000 };
    silence_expected_panics();
    let _watchdog = Watchdog::start();
    let source = Source::default();
    let draw = Arc::new(AtomicU64::new(1));
    let cache: Cache<u64, u64> = Cache::builder().max_entries(50).build().unwrap();
    let queue = WriteBehind::builder(cache.clone(), {
        let (source, draw) = (source.clone(), draw.clone());
        move |batch: &[Change<'_, u64, u64>]| {
            let random = splitmix(draw.fetch_add(1, SeqCst));
            match random % 10 {
                0 => panic!("expected: the writer panics"),
                1 => Err("before".to_owned()),
                2 => source.write(batch).and(Err("after it was written".to_owned())),
                _ => source.write(batch),
            }
        }
    })
    .max_pending(100)
    .max_delay(ms(1))
    .batch(7)
    .writers(2)
    .retry(ms(1), ms(4))
    .build()
    .unwrap();

    // each thread has keys of its own: it alone knows what was last
    let last: Vec<_> = (0..THREADS).map(|_| Mutex::new(HashMap::new())).collect();
    let closed = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut users = Vec::new();
        for (thread, last) in last.iter().enumerate() {
            let (queue, cache, source, closed) = (queue.clone(), &cache, &source, &closed);
            users.push(scope.spawn(move || {
                let mut random = thread as u64 + 100;
                for round in 0..ROUNDS {
                    random = splitmix(random);
                    let key = thread as u64 * KEYS + random % KEYS;
                    let delete = (random >> 32) % 8 == 0;
                    // a thread that panics takes nothing along that was accepted
                    let step = || {
                        let accepted =
                            if delete { queue.delete(&key) } else { queue.put(key, round) };
                        match accepted {
                            Ok(()) => {
                                let value = (!delete).then_some(round);
                                last.lock().insert(key, value);
                                assert!((random >> 40) % 128 != 0, "expected: the user panics");
                            }
                            Err(WriteError::Closed) => assert!(closed.load(SeqCst)),
                            Err(error) => panic!("{error}"),
                        }
                    };
                    _ = catch_unwind(AssertUnwindSafe(step));
                    let mine = last.lock().clone();
                    if let Some(value) = mine.get(&key).filter(|_| !closed.load(SeqCst)) {
                        let load = || Ok::<_, ()>(source.get(key));
                        let read = cache.get_or_load_optional(&key, load).unwrap();
                        assert!(
                            read == *value || closed.load(SeqCst),
                            "read {read:?}, but {value:?} was accepted"
                        );
                    }
                }
            }));
        }
        let keys = |last: &Mutex<HashMap<_, _>>| last.lock().len();
        wait_until(|| last.iter().all(|last| keys(last) > 20));
        closed.store(true, SeqCst);
        queue.close().unwrap();
        // the thread sanitizer sees a join, and not the end of a scope
        for user in users {
            user.join().unwrap();
        }
    });
    let mut expected = HashMap::new();
    for last in last {
        let last = last.into_inner();
        expected.extend(last.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    assert_eq!(source.rows(), expected);
    cache.validate();
}

fn splitmix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[test]
fn no_refresh_brings_back_what_a_change_is_about_to_overwrite() {
    let (clock, hand) = Clock::manual();
    let settings = || Cache::builder().max_entries(10).clock(clock.clone()).time_to_live(secs(60));
    let due = RefreshAhead::At(0.5);
    let runtime = SteppingRuntime::new();

    // in the background, when it is due and when it is asked for
    let loads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&loads);
    let own =
        settings().refresh_ahead(due).runtime(runtime.clone()).build_loading_fn(move |_: &u64| {
            count.fetch_add(1, SeqCst);
            Ok::<_, String>(1)
        });
    let own = own.unwrap();
    assert_eq!(own.load(&1).unwrap(), 1);
    let builder = WriteBehind::builder((*own).clone(), Source::default());
    let queue = builder.max_delay(Duration::MAX).build().unwrap();
    queue.put(1, 2).unwrap();
    own.refresh(&1);
    hand.advance(secs(40));
    assert_eq!(own.load(&1).unwrap(), 2);
    runtime.run_until_stalled();
    assert_eq!((own.get(&1), queue.get(&1), loads.load(SeqCst)), (Some(2), Some(2), 1));
    queue.flush().unwrap();
    own.refresh(&1);
    runtime.run_until_stalled();
    assert_eq!((own.get(&1), loads.load(SeqCst)), (Some(1), 2), "what is written may be refreshed");
    queue.close().unwrap();

    // by a caller with a loader of its own
    let plain: Cache<u64, u64> = settings().refresh_ahead(due).build().unwrap();
    let builder = WriteBehind::builder(plain.clone(), Source::default());
    let queue = builder.max_delay(Duration::MAX).build().unwrap();
    queue.put(1, 2).unwrap();
    hand.advance(secs(40));
    assert_eq!(plain.get_or_load(&1, || Ok::<_, String>(1)).unwrap(), 2);
    assert_eq!(plain.get(&1), Some(2));
    queue.close().unwrap();
}

#[test]
fn what_waits_to_be_written_was_not_loaded_by_anybody() {
    let mut it = usual();
    it.queue().put(1, 10).unwrap();
    it.cache.remove(&1);
    let got = it.cache.at(&1).load(|_| common::uncalled::<u64>()).unwrap();
    assert_eq!((got.value, got.how), (10, How::Fresh));
    assert_eq!((it.cache.stats().joined, it.cache.stats().loads), (0, 0));
    assert!(it.cache.explain(&1).is_unwritten && !it.cache.explain(&2).is_unwritten);
    it.close().unwrap();
    assert!(!it.cache.explain(&1).is_unwritten);
}

#[test]
fn who_learns_from_flush_that_a_change_was_given_up_on_finds_it_gone_and_told() {
    let gate = Arc::new(Gate::new());
    let told = Arc::new(AtomicUsize::new(0));
    let cache: Cache<u64, u64> = Cache::new(10);
    let (at, count) = (Arc::clone(&gate), Arc::clone(&told));
    let refuse = |_: &[Change<'_, u64, u64>]| Err::<(), _>("refused");
    let builder = WriteBehind::builder(cache.clone(), refuse).attempts(1).on_give_up(move |_| {
        at.pass(());
        count.fetch_add(1, SeqCst);
    });
    let queue = builder.max_delay(Duration::ZERO).build().unwrap();
    queue.put(1, 10).unwrap();
    gate.wait_until_entered(1);
    let flushes = AtomicBool::new(false);
    thread::scope(|scope| {
        let flush = scope.spawn(|| {
            flushes.store(true, SeqCst);
            (queue.flush(), told.load(SeqCst), cache.get(&1))
        });
        wait_until(|| flushes.load(SeqCst));
        gate.open();
        let gave_up = Err(WriteError::GaveUp { changes: 1 });
        assert_eq!(flush.join().unwrap(), (gave_up, 1, None));
    });
    queue.close().unwrap();
}

/// One more.
#[allow(clippy::unnecessary_wraps, reason = "what a change looks like")]
fn count(n: Option<u64>) -> Option<u64> {
    Some(n.unwrap_or(0) + 1)
}

#[test]
fn what_a_change_comes_to_is_shown_at_once_and_written_later() {
    let mut it = usual();
    assert_eq!(it.queue().alter(&1, count), Ok(Some(1)));
    assert_eq!((it.cache.get(&1), it.queue().pending()), (Some(1), 1));
    assert_eq!(it.queue().alter(&1, count), Ok(Some(2)));
    it.queue().put(2, 20).unwrap();
    assert_eq!(it.queue().alter(&2, |n| n.filter(|n| *n > 20)), Ok(None));
    assert_eq!((it.cache.get(&2), it.queue().get(&2), it.queue().pending()), (None, None, 2));
    it.queue().flush().unwrap();
    assert_eq!(it.source.batches(), [[(1, Some(2)), (2, None)]]);
    // written, and cached: nothing is to be written for what is left alone
    assert_eq!(it.queue().alter(&1, Altered::Keep), Ok(Some(2)));
    assert_eq!(it.queue().alter(&1, |_| Altered::Keep(Some(77))), Ok(Some(77)), "as it says");
    assert_eq!((it.cache.get(&1), it.queue().pending()), (Some(2), 0));
    assert_eq!(it.queue().alter(&1, count), Ok(Some(3)));
    it.close().unwrap();
    assert_eq!(it.source.rows(), HashMap::from([(1, 3)]));
}

#[test]
fn a_change_is_of_what_is_to_be_written_else_of_what_is_cached_else_of_nothing() {
    for entries in [0, 1, 1_000] {
        let mut it = setting(entries, |builder| builder.max_delay(Duration::MAX));
        it.queue().put(1, 10).unwrap();
        it.cache.clear();
        assert_eq!(it.queue().alter(&1, count), Ok(Some(11)), "not in the cache any more");
        it.cache.insert(1, 70);
        assert_eq!(it.queue().alter(&1, count), Ok(Some(12)), "nor is what went by the queue");
        it.queue().delete(&1).unwrap();
        it.cache.insert(1, 70);
        assert_eq!(it.queue().alter(&1, count), Ok(Some(1)));
        it.queue().flush().unwrap();
        it.cache.clear();
        let mut seen = Vec::new();
        for altered in [Altered::Keep(None), Altered::Remove] {
            let change = |n| {
                seen.push(n);
                altered
            };
            assert_eq!(it.queue().alter(&1, change), Ok(None));
        }
        assert_eq!((seen, it.queue().pending()), (vec![None, None], 0), "the source is not asked");
        // its value is what the source has once it is loaded, though nothing can be cached
        let load = || it.cache.get_or_load(&1, || it.source.get(1).ok_or("no row")).ok();
        let change =
            |n: Option<u64>| n.or_else(load).map_or(Altered::Keep(None), |n| Altered::Put(n + 1));
        assert_eq!(it.queue().alter(&1, change), Ok(Some(2)));
        it.close().unwrap();
        assert_eq!(it.source.rows(), HashMap::from([(1, 2)]));
    }
}

#[test]
fn what_a_cache_has_past_its_life_is_nothing_to_a_change() {
    let (clock, hand) = Clock::manual();
    let settings = Cache::builder().max_entries(9).clock(clock).time_to_live(secs(1));
    let cache = checked(settings.stale_if_error(secs(9)).negative_ttl(secs(9)));
    let source = Source::default();
    let builder = WriteBehind::builder((*cache).clone(), source.clone());
    let queue = builder.max_delay(Duration::MAX).build().unwrap();
    queue.put(1, 10).unwrap();
    hand.advance(secs(1));
    queue.flush().unwrap();
    assert!(cache.peek(&1).is_some(), "stale");
    assert_eq!(queue.alter(&1, count), Ok(Some(1)));
    hand.advance(secs(1));
    assert_eq!((cache.get(&1), queue.pending()), (None, 1));
    assert_eq!(queue.alter(&1, count), Ok(Some(2)), "what is to be written has no life");
    cache.get_or_load_optional(&2, || Ok::<_, String>(None)).unwrap();
    assert_eq!(queue.alter(&2, count), Ok(Some(1)));
    queue.close().unwrap();
    assert_eq!(source.rows(), HashMap::from([(1, 2), (2, 1)]));
}

/// Changes key 1, and does something in another thread between the look and what comes of it. What the
/// change was shown, and what it came to.
fn disturbed(it: &Setting, disturb: impl Fn(&Setting) + Sync) -> (Vec<Option<u64>>, Option<u64>) {
    let mut seen = Vec::new();
    let change = |found: Option<u64>| {
        if seen.is_empty() {
            thread::scope(|scope| scope.spawn(|| disturb(it)).join().unwrap());
        }
        seen.push(found);
        found.map(|n| n + 1)
    };
    let came_to = it.queue().alter(&1, change).unwrap();
    (seen, came_to)
}

#[test]
fn a_change_looks_again_whatever_is_done_to_its_key_meanwhile() {
    type Disturb = fn(&Setting);
    type Case = (&'static str, Disturb, [Option<u64>; 2]);
    // and what is found then, of what was to be written before, and of what was only cached
    let cases: [Case; 10] = [
        ("put", |it| it.queue().put(1, 20).unwrap(), [Some(20); 2]),
        ("delete", |it| it.queue().delete(&1).unwrap(), [None; 2]),
        ("alter", |it| _ = it.queue().alter(&1, |_| Some(20)), [Some(20); 2]),
        ("insert", |it| it.cache.insert(1, 20), [Some(10), Some(20)]),
        ("Cache::alter", |it| _ = it.cache.alter(&1, |_| Some(20)), [Some(10), Some(20)]),
        ("remove", |it| _ = it.cache.remove(&1), [Some(10), None]),
        ("expire", |it| _ = it.cache.expire(&1), [Some(10), None]),
        ("clear", |it| it.cache.clear(), [Some(10), None]),
        ("remove_if", |it| _ = it.cache.remove_if(|_, _| true), [Some(10), None]),
        (
            "write_through",
            |it| it.cache.write_through(1, 20, |_, _| Ok::<_, String>(())).unwrap(),
            [Some(10), Some(20)],
        ),
    ];
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::MAX));
    for (name, disturb, then) in cases {
        for (is_written, then) in [false, true].into_iter().zip(then) {
            it.queue().put(1, 10).unwrap();
            if is_written {
                it.queue().flush().unwrap();
            }
            let came_to = then.map(|n| n + 1);
            let expected = (vec![Some(10), then], came_to);
            assert_eq!(disturbed(&it, disturb), expected, "{name}, {is_written}");
            assert_eq!(it.queue().get(&1), came_to, "{name}, {is_written}");
            it.queue().flush().unwrap();
        }
    }
    for (name, disturb) in [
        ("remove_tag", (|it| it.cache.remove_tag("t")) as Disturb),
        ("expire_tag", |it| it.cache.expire_tag("t")),
    ] {
        it.cache.at(&1).tag("t").insert(10);
        assert_eq!(disturbed(&it, disturb), (vec![Some(10), None], None), "{name}");
    }
    let forced = |it: &Setting| _ = it.cache.at(&1).force().load(|_| Ok::<_, String>(20));
    it.cache.insert(1, 10);
    assert_eq!(disturbed(&it, forced), (vec![Some(10), Some(20)], Some(21)));
    // what is to be written answers that; and what happens to another key, or another tag, is nothing to it
    assert_eq!(disturbed(&it, forced), (vec![Some(21)], Some(22)));
    it.queue().put(1, 10).unwrap();
    assert_eq!(disturbed(&it, |it| it.queue().put(2, 20).unwrap()), (vec![Some(10)], Some(11)));
    it.cache.at(&1).tag("t").insert(10);
    assert_eq!(disturbed(&it, |it| it.cache.remove_tag("u")), (vec![Some(11)], Some(12)));
    it.close().unwrap();
}

#[test]
fn a_change_is_not_done_again_because_the_one_before_was_written() {
    let mut it = usual();
    it.queue().put(1, 10).unwrap();
    assert_eq!(disturbed(&it, |it| it.queue().flush().unwrap()), (vec![Some(10)], Some(11)));
    assert_eq!((it.queue().pending(), it.queue().get(&1)), (1, Some(11)));
    it.close().unwrap();
    assert_eq!(it.source.batches(), [[(1, Some(10))], [(1, Some(11))]]);
}

#[test]
fn what_is_in_a_writers_hands_may_be_changed() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO).attempts(2));
    it.source.0.failures.store(1, SeqCst);
    let gate = it.source.shut();
    it.queue().put(1, 10).unwrap();
    gate.wait_until_entered(1);
    it.cache.clear();
    assert_eq!(it.queue().alter(&1, count), Ok(Some(11)));
    // which goes in its place when that fails
    gate.open();
    it.pass();
    assert_eq!(it.source.batches(), [[(1, Some(10))], [(1, Some(11))]]);
    it.close().unwrap();
    assert!(it.lost().is_empty());
}

#[test]
fn nothing_is_made_of_what_is_given_up_on_meanwhile() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO).attempts(1));
    it.source.0.failures.store(1, SeqCst);
    let gate = it.source.shut();
    it.queue().put(1, 10).unwrap();
    gate.wait_until_entered(1);
    let fails = |it: &Setting| {
        it.source.shut().open();
        wait_until(|| !it.lost().is_empty());
    };
    assert_eq!(disturbed(&it, fails), (vec![Some(10), None], None));
    assert_eq!((it.queue().pending(), it.queue().get(&1)), (0, None));
    assert_eq!(it.close(), Err(WriteError::GaveUp { changes: 1 }));
    assert_eq!(it.source.rows().len(), 0);
}

#[test]
fn what_a_change_does_to_its_own_key_is_a_part_of_it() {
    let mut it = setting(1_000, |builder| builder.max_delay(Duration::ZERO));
    let queue = it.queue();
    let mut calls = 0;
    let changed = queue.alter(&1, |found| {
        calls += 1;
        assert_eq!(found, None);
        queue.put(1, 10).unwrap();
        queue.flush().unwrap();
        assert_eq!(queue.alter(&1, count), Ok(Some(11)));
        it.cache.remove(&1);
        queue.delete(&1).unwrap();
        it.cache.insert(1, 70);
        Some(5)
    });
    assert_eq!((changed, calls, queue.get(&1)), (Ok(Some(5)), 1, Some(5)));
    it.close().unwrap();
    assert_eq!(it.source.rows(), HashMap::from([(1, 5)]));
}

#[test]
fn a_change_that_panics_leaves_all_as_it_was() {
    let mut it = usual();
    it.queue().put(1, 10).unwrap();
    let change = |_| -> Option<u64> { panic!("expected: the change panics") };
    assert!(catch_unwind(AssertUnwindSafe(|| it.queue().alter(&1, change))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| it.queue().alter(&2, change))).is_err());
    assert_eq!((it.queue().get(&1), it.queue().get(&2), it.queue().pending()), (Some(10), None, 1));
    assert_eq!(it.queue().alter(&1, count), Ok(Some(11)));
    it.close().unwrap();
    assert_eq!(it.source.batches(), [[(1, Some(11))]]);
}

#[test]
fn a_full_queue_takes_no_change_of_another_key() {
    let mut it = setting(1_000, |builder| builder.max_pending(1).when_full(WhenFull::Refuse));
    let gate = it.source.shut();
    it.cache.insert(2, 20);
    it.queue().put(1, 10).unwrap();
    assert_eq!(it.queue().alter(&2, count), Err(WriteError::Full));
    assert_eq!(it.cache.get(&2), Some(20), "as it was");
    assert_eq!(it.queue().alter(&2, Altered::Keep), Ok(Some(20)), "which takes no room");
    assert_eq!(it.queue().alter(&1, count), Ok(Some(11)), "nor does this");
    gate.open();
    it.pass();
    assert_eq!(it.queue().alter(&2, count), Ok(Some(21)));
    let other = it.queue().clone();
    it.close().unwrap();
    assert_eq!(it.source.rows(), HashMap::from([(1, 11), (2, 21)]));
    assert_eq!(other.alter(&2, count), Err(WriteError::Closed));
    assert_eq!((other.alter(&2, Altered::Keep), it.cache.get(&2)), (Ok(Some(21)), Some(21)));
}

#[test]
fn a_change_waits_for_room_and_holds_up_nobody() {
    let mut it = setting(1_000, |builder| builder.max_pending(1));
    let gate = it.source.shut();
    it.queue().put(1, 10).unwrap();
    gate.wait_until_entered(1);
    let calls = AtomicUsize::new(0);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            it.queue().alter(&2, |n| {
                calls.fetch_add(1, SeqCst);
                count(n)
            })
        });
        wait_until(|| calls.load(SeqCst) > 0);
        it.cache.insert(2, 20);
        gate.open();
        assert_eq!(waiting.join().unwrap(), Ok(Some(21)), "it has looked again");
    });
    it.close().unwrap();
    assert_eq!(it.source.rows(), HashMap::from([(1, 10), (2, 21)]));
}

/// Counts behind a writer that fails or panics at random, in a cache that holds a few of the keys, loaded
/// again from the source when they are neither there nor in the queue.
#[test]
fn the_source_ends_with_all_that_was_counted() {
    const THREADS: u64 = 4;
    const KEYS: u64 = 5;
    const ROUNDS: u64 = if cfg!(debug_assertions) { 2_000 } else { 50_000 };
    silence_expected_panics();
    let source = Source::default();
    let draw = Arc::new(AtomicU64::new(1));
    let cache = checked(Cache::builder().max_entries(2));
    let queue = WriteBehind::builder((*cache).clone(), {
        let source = source.clone();
        move |batch: &[Change<'_, u64, u64>]| match splitmix(draw.fetch_add(1, SeqCst)) % 10 {
            0 => panic!("expected: the writer panics"),
            1 => Err("before".to_owned()),
            2 => source.write(batch).and(Err("after it was written".to_owned())),
            _ => source.write(batch),
        }
    })
    .max_pending(3)
    .max_delay(Duration::ZERO)
    .batch(2)
    .writers(2)
    .retry(ms(1), ms(4))
    .build()
    .unwrap();
    thread::scope(|scope| {
        let mut counters = Vec::new();
        for thread in 0..THREADS {
            let (queue, cache, source) = (queue.clone(), &cache, &source);
            counters.push(scope.spawn(move || {
                for round in 0..ROUNDS {
                    let key = splitmix(round * THREADS + thread) % KEYS;
                    let load = || Ok::<_, String>(source.get(key).unwrap_or(0));
                    if thread % 2 == 0 {
                        let change = |n: Option<u64>| {
                            let n = n.or_else(|| cache.get_or_load(&key, load).ok());
                            n.map_or(Altered::Keep(None), |n| Altered::Put(n + 1))
                        };
                        assert!(queue.alter(&key, change).unwrap().is_some());
                        continue;
                    }
                    let one_more =
                        |n: Option<u64>| n.map_or(Altered::Keep(None), |n| Altered::Put(n + 1));
                    while queue.alter(&key, one_more).unwrap().is_none() {
                        cache.get_or_load(&key, load).unwrap();
                    }
                }
            }));
        }
        // the thread sanitizer sees a join, and not the end of a scope
        for counter in counters {
            counter.join().unwrap();
        }
    });
    queue.close().unwrap();
    assert_eq!(source.rows().values().sum::<u64>(), THREADS * ROUNDS);
}

/// An error whose drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "expected: the drop of an error panics");
    }
}

#[test]
fn an_error_that_panics_when_it_is_dropped_ends_no_writer() {
    let _watchdog = Watchdog::start();
    let tries = AtomicUsize::new(0);
    let writer = move |_: &[Change<'_, u64, u64>]| {
        if tries.fetch_add(1, SeqCst) == 0 { Err(Bomb) } else { Ok(()) }
    };
    let (clock, hand) = Clock::manual();
    let cache = checked(Cache::builder().max_entries(10).clock(clock));
    let queue = WriteBehind::builder((*cache).clone(), writer).build().unwrap();
    queue.put(1, 10).unwrap();
    wait_until(|| {
        hand.advance(secs(60));
        queue.pending() == 0
    });
    queue.close().unwrap();
}

/// Whether the next drop of an [`Armed`] panics; of one test alone.
static IS_ARMED: AtomicBool = AtomicBool::new(false);

/// A value whose drop panics, once it is armed. It owns nothing, and so may be forgotten.
#[derive(Clone)]
struct Armed;

impl Drop for Armed {
    fn drop(&mut self) {
        assert!(!IS_ARMED.swap(false, SeqCst), "expected: the drop of a value panics");
    }
}

#[test]
fn a_value_that_panics_when_it_is_dropped_leaves_no_other_unreported() {
    let (clock, _hand) = Clock::manual();
    let cache = checked(Cache::builder().max_entries(10).clock(clock));
    let lost = Arc::new(AtomicUsize::new(0));
    let queue = WriteBehind::builder((*cache).clone(), |_: &[Change<'_, u64, Armed>]| Err("away"))
        .on_give_up({
            let lost = lost.clone();
            move |unwritten| {
                // the queue has the last copy then
                std::mem::forget(unwritten);
                IS_ARMED.store(lost.fetch_add(1, SeqCst) == 1, SeqCst);
            }
        })
        .build()
        .unwrap();
    (0..5).for_each(|key| queue.put(key, Armed).unwrap());
    drop(queue);
    assert_eq!(lost.load(SeqCst), 5);
}

/// A value that looks into its cache when it is dropped.
#[derive(Clone)]
struct Curious(Arc<OnceLock<Cache<u64, Curious>>>);

impl Drop for Curious {
    fn drop(&mut self) {
        self.0.get().map(|cache| cache.get(&1).is_some());
    }
}

#[test]
fn a_value_that_does_not_live_is_dropped_without_a_lock() {
    let builder = Cache::<u64, Curious>::builder().max_entries(10).time_to_live(Duration::ZERO);
    let cache = checked(builder);
    let own = Arc::new(OnceLock::new());
    own.set((*cache).clone()).ok();
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let queue = WriteBehind::builder((*cache).clone(), move |batch: &[Change<'_, _, _>]| {
        count.fetch_add(batch.len() as u64, SeqCst);
        Ok::<_, String>(())
    });
    let queue = queue.build().unwrap();
    queue.put(1, Curious(own)).unwrap();
    assert!(queue.get(&1).is_some());
    queue.close().unwrap();
    assert_eq!((written.load(SeqCst), cache.len()), (1, 0));
}

#[test]
fn a_close_within_a_time_gives_up_on_the_rest_whoever_has_the_queue_too() {
    let _watchdog = Watchdog::start();
    let source = Source::default();
    let gate = source.shut().clone();
    let lost = Arc::new(AtomicUsize::new(0));
    let queue = WriteBehind::builder(Cache::new(100), source.clone())
        .max_delay(Duration::ZERO)
        .on_give_up({
            let lost = lost.clone();
            move |_| _ = lost.fetch_add(1, SeqCst)
        })
        .build()
        .unwrap();
    let other = queue.clone();
    queue.put(1, 10).unwrap();
    gate.wait_until_entered(1);
    queue.put(2, 20).unwrap();
    assert!(matches!(queue.close_within(ms(20)), Err(WriteError::GaveUp { .. })));
    assert_eq!((lost.load(SeqCst), other.pending()), (2, 0));
    assert!(matches!(other.put(3, 30), Err(WriteError::Closed)));
    gate.open();
    drop(other);

    let source = Source::default();
    let queue = WriteBehind::builder(Cache::new(100), source.clone()).build().unwrap();
    queue.put(1, 10).unwrap();
    let other = queue.clone();
    assert_eq!(queue.close_within(Duration::MAX), Ok(()));
    assert_eq!((source.get(1), other.pending()), (Some(10), 0));
}

/// Through one handle of several, and through the only one.
#[test]
fn a_close_within_a_time_does_not_wait_for_a_writer_that_hangs() {
    let _watchdog = Watchdog::start();
    let source = Source::default();
    let gate = source.shut().clone();
    let build = || {
        let builder = WriteBehind::builder(Cache::new(100), source.clone());
        builder.max_delay(Duration::ZERO).drop_timeout(Duration::MAX).build().unwrap()
    };
    let queue = build();
    queue.put(1, 10).unwrap();
    gate.wait_until_entered(1);
    assert_eq!(queue.close_within(ms(20)), Err(WriteError::GaveUp { changes: 1 }));

    let queue = build();
    queue.put(1, 10).unwrap();
    gate.wait_until_entered(2);
    let (closing, closing_late) = (queue.clone(), queue.clone());
    let closing = thread::spawn(move || closing.close());
    let closing_late = thread::spawn(move || closing_late.close_within(Duration::MAX));
    let (later, dropped) = (queue.clone(), queue.clone());
    let told = queue.close_within(ms(20));
    let told = [told, closing.join().unwrap(), closing_late.join().unwrap()];
    let gave_up = told.iter().filter(|told| **told == Err(WriteError::GaveUp { changes: 1 }));
    assert_eq!(gave_up.count(), 1, "told once: {told:?}");
    assert_eq!(later.close_within(Duration::MAX), Ok(()));
    drop(dropped);
    gate.open();
}

#[test]
fn a_close_within_a_time_does_not_wait_for_a_listener_that_hangs() {
    let _watchdog = Watchdog::start();
    let source = Source::default();
    source.0.is_away.store(true, SeqCst);
    let gate = Gate::new();
    let queue = WriteBehind::builder(Cache::new(100), source)
        .max_delay(Duration::ZERO)
        .attempts(1)
        .on_give_up({
            let gate = gate.clone();
            move |_| gate.pass(())
        })
        .build()
        .unwrap();
    queue.put(1, 10).unwrap();
    gate.wait_until_entered(1);
    assert_eq!(queue.close_within(ms(20)), Err(WriteError::GaveUp { changes: 1 }));
    gate.open();
}

#[test]
fn whoever_waits_for_a_queue_that_is_closed_by_another_hears_when_all_is_told() {
    let _watchdog = Watchdog::start();
    let source = Source::default();
    let gate = source.shut().clone();
    let (telling, told) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    // taken out in the end: a listener that has a handle to its own queue keeps that for ever
    let handle: Arc<Mutex<Option<Queue>>> = Arc::default();
    let queue = WriteBehind::builder(Cache::new(100), source.clone())
        .max_delay(Duration::ZERO)
        .on_give_up({
            let (telling, told, handle) = (telling.clone(), told.clone(), handle.clone());
            move |_| {
                let queue = handle.lock().clone().unwrap();
                assert_eq!(queue.flush(), Err(WriteError::InsideWriter), "it would wait for this");
                assert_eq!(queue.clone().close(), Err(WriteError::InsideWriter));
                let closed = queue.clone().close_within(Duration::MAX);
                assert_eq!(closed, Err(WriteError::InsideWriter));
                telling.pass(());
                told.fetch_add(1, SeqCst);
            }
        })
        .build()
        .unwrap();
    *handle.lock() = Some(queue.clone());
    queue.put(1, 10).unwrap();
    gate.wait_until_entered(1);
    queue.put(1, 11).unwrap();
    queue.put(2, 20).unwrap();
    let wait = |wait: fn(Queue) -> Result<(), WriteError>| {
        let (queue, told) = (queue.clone(), told.clone());
        thread::spawn(move || (wait(queue), told.load(SeqCst)))
    };
    let waiting = [
        wait(|queue| queue.flush()),
        wait(Queue::close),
        wait(|queue| queue.close_within(Duration::MAX)),
    ];
    let closing = wait(|queue| queue.close_within(Duration::ZERO));
    telling.wait_until_entered(1);
    assert_eq!((queue.pending(), queue.given_up()), (0, 2));
    telling.open();
    for waiting in waiting.into_iter().chain([closing]) {
        let (outcome, told) = waiting.join().unwrap();
        assert!(matches!(outcome, Ok(()) | Err(WriteError::GaveUp { changes: 2 })));
        assert_eq!(told, 2, "{outcome:?}");
    }
    gate.open();
    let own = handle.lock().take();
    drop((own, queue));
}
