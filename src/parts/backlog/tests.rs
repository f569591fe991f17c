use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn terms() -> BacklogTerms {
    BacklogTerms {
        max_pending: 10,
        max_delay: 50,
        batch: 4,
        attempts: u32::MAX,
        back_off: (100, 300),
    }
}

fn item(key: u64, value: u64) -> Arc<Item<u64, u64>> {
    Arc::new(Item { hash: key % 3, key, value: Some(value) })
}

fn put(backlog: &mut Backlog<u64, u64>, key: u64, value: u64, now: Tick) {
    let accepted = backlog.accept(&item(key, value), now);
    assert!(matches!(accepted, Accepted::Yes { .. }));
}

fn batch(backlog: &mut Backlog<u64, u64>, now: Tick) -> Vec<Taken<u64, u64>> {
    match backlog.next(now) {
        WriterStep::Write(batch) => batch,
        WriterStep::Wait(_) | WriterStep::End => panic!("nothing is due at {now}"),
    }
}

fn fail(
    backlog: &mut Backlog<u64, u64>,
    batch: &[Taken<u64, u64>],
    now: Tick,
) -> Vec<Abandoned<u64, u64>> {
    batch.iter().filter_map(|taken| backlog.failed(taken, batch.len(), now)).collect()
}

fn keys(batch: &[Taken<u64, u64>]) -> Vec<u64> {
    batch.iter().map(|taken| taken.item.key).collect()
}

fn waits(backlog: &mut Backlog<u64, u64>, now: Tick) -> Option<Tick> {
    match backlog.next(now) {
        WriterStep::Wait(at) => at,
        _ => panic!("something is due at {now}"),
    }
}

#[test]
fn a_batch_that_fails_is_tried_again_in_halves() {
    let mut backlog = Backlog::new(terms());
    (0..4).for_each(|key| put(&mut backlog, key, key, 0));
    let four = batch(&mut backlog, 0);
    assert_eq!(keys(&four), [0, 1, 2, 3]);
    assert!(fail(&mut backlog, &four, 10).is_empty());
    assert_eq!(waits(&mut backlog, 109), Some(110));
    let (two, others) = (batch(&mut backlog, 110), batch(&mut backlog, 110));
    assert_eq!((keys(&two), keys(&others)), (vec![0, 1], vec![2, 3]));
    fail(&mut backlog, &two, 110);
    backlog.written(&others);
    assert_eq!(waits(&mut backlog, 110), Some(310));
    assert_eq!(keys(&batch(&mut backlog, 310)), [0]);
    assert_eq!(keys(&batch(&mut backlog, 310)), [1]);
}

#[test]
fn what_goes_on_failing_slowly_leaves_the_others_their_turn() {
    let mut backlog = Backlog::new(BacklogTerms { max_delay: 0, batch: 1, ..terms() });
    (1..=2).for_each(|key| put(&mut backlog, key, key, 0));
    for _ in 0..2 {
        let refused = batch(&mut backlog, 0);
        fail(&mut backlog, &refused, 0);
    }
    (3..=6).for_each(|key| put(&mut backlog, key, key, 0));
    // the source takes longer to refuse a change than that is left alone
    let mut now = 0;
    let mut tried = Vec::new();
    for _ in 0..6 {
        now += 1_000;
        let one = batch(&mut backlog, now);
        tried.extend(keys(&one));
        if keys(&one)[0] < 3 {
            fail(&mut backlog, &one, now);
        } else {
            backlog.written(&one);
        }
    }
    assert_eq!(tried, [1, 3, 2, 4, 1, 5]);
}

#[test]
fn a_key_in_a_writers_hands_is_not_handed_out_again() {
    let mut backlog = Backlog::new(BacklogTerms { max_delay: 0, ..terms() });
    put(&mut backlog, 1, 10, 0);
    let first = batch(&mut backlog, 0);
    put(&mut backlog, 1, 11, 0);
    assert_eq!((waits(&mut backlog, 1_000), backlog.len()), (None, 1));
    assert_eq!(backlog.latest(1, &1).unwrap().value, Some(11));
    backlog.written(&first);
    let second = batch(&mut backlog, 0);
    assert_eq!(second[0].item.value, Some(11));
    backlog.written(&second);
    assert_eq!((backlog.len(), backlog.latest(1, &1).is_none()), (0, true));
}

#[test]
fn a_flush_is_past_once_what_was_there_is_written() {
    let mut backlog = Backlog::new(terms());
    put(&mut backlog, 1, 10, 0);
    let flush = backlog.hurry();
    assert!(!backlog.is_past(flush));
    let first = batch(&mut backlog, 0);
    put(&mut backlog, 1, 11, 0); // later than the flush
    put(&mut backlog, 2, 20, 0);
    backlog.written(&first);
    assert!(backlog.is_past(flush));
    assert_eq!(waits(&mut backlog, 0), Some(50), "and does not hurry what came after it");
}

#[test]
fn what_comes_back_after_the_end_changes_nothing() {
    let mut backlog = Backlog::new(terms());
    (0..6).for_each(|key| put(&mut backlog, key, key, 0));
    let (four, two) = (batch(&mut backlog, 0), batch(&mut backlog, 50));
    put(&mut backlog, 5, 55, 60);
    backlog.close();
    let given_up = backlog.abandon();
    let values: Vec<_> = given_up.iter().map(|it| (it.item.value, it.tries)).collect();
    assert_eq!(values.len(), 6);
    assert!(values.contains(&(Some(55), 0)) && values.contains(&(Some(0), 1)));
    backlog.written(&four);
    assert!(fail(&mut backlog, &two, 60).is_empty());
    assert_eq!((backlog.len(), backlog.flying(), backlog.given_up()), (0, 0, 6));
    assert!(matches!(backlog.next(60), WriterStep::End));
    assert!(matches!(backlog.accept(&item(1, 1), 60), Accepted::Closed));
}

#[derive(Clone, Debug)]
enum Op {
    Put(u64),
    Next,
    Written(usize),
    Failed(usize),
    Advance(u64),
    Hurry,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..16_u64).prop_map(Op::Put),
        3 => Just(Op::Next),
        2 => (0..4_usize).prop_map(Op::Written),
        2 => (0..4_usize).prop_map(Op::Failed),
        1 => (0..200_u64).prop_map(Op::Advance),
        1 => Just(Op::Hurry),
    ]
}

proptest! {
    /// Against the naive model: a map from keys to their last accepted change, and what the
    /// source was told.
    #[test]
    fn nothing_is_lost_and_the_last_change_wins(
        ops in proptest::collection::vec(op(), 1..200),
        attempts in prop_oneof![Just(u32::MAX), 1..4_u32],
    ) {
        let terms = BacklogTerms { attempts, ..terms() };
        let mut backlog = Backlog::new(terms);
        let (mut accepted, mut source) = (HashMap::new(), HashMap::new());
        let mut given_up = Vec::new();
        let mut out: Vec<Vec<Taken<u64, u64>>> = Vec::new();
        let (mut now, mut value) = (1_000, 0);
        let land = |backlog: &mut Backlog<_, _>, batch: Vec<Taken<u64, u64>>, source: &mut HashMap<u64, u64>| {
            for taken in &batch {
                let newer = taken.item.value.unwrap();
                let older = source.insert(taken.item.key, newer);
                assert!(older.is_none_or(|older| older <= newer), "written out of order");
            }
            backlog.written(&batch);
        };
        for op in ops {
            match op {
                Op::Put(key) => {
                    value += 1;
                    let is_new = backlog.latest(key % 3, &key).is_none();
                    let was_full = backlog.is_full();
                    match backlog.accept(&item(key, value), now) {
                        Accepted::Yes { .. } => _ = accepted.insert(key, value),
                        Accepted::Full => prop_assert!(is_new && was_full),
                        Accepted::Closed => unreachable!(),
                    }
                }
                Op::Next => {
                    if let WriterStep::Write(batch) = backlog.next(now) {
                        prop_assert!(!batch.is_empty() && batch.len() <= terms.batch);
                        out.push(batch);
                    }
                }
                Op::Written(n) if n < out.len() => land(&mut backlog, out.remove(n), &mut source),
                Op::Failed(n) if n < out.len() => {
                    given_up.extend(fail(&mut backlog, &out.remove(n), now));
                }
                Op::Advance(by) => now += by,
                Op::Hurry => _ = backlog.hurry(),
                Op::Written(_) | Op::Failed(_) => {}
            }
            let mut keys: Vec<_> = out.iter().flatten().map(|taken| taken.item.key).collect();
            prop_assert_eq!(backlog.flying(), keys.len());
            keys.sort_unstable();
            keys.dedup();
            prop_assert_eq!(backlog.flying(), keys.len(), "a key is with two writers");
            prop_assert!(backlog.len() <= terms.max_pending);
            for (key, value) in &accepted {
                let pending = backlog.latest(key % 3, key).map(|item| item.value.unwrap());
                let gone = given_up.iter().any(|it| it.item.value == Some(*value));
                prop_assert!(
                    pending == Some(*value) || pending.is_none() && (gone || source.get(key) == Some(value))
                );
            }
        }
        backlog.close();
        loop {
            match backlog.next(now) {
                WriterStep::Write(batch) => land(&mut backlog, batch, &mut source),
                WriterStep::Wait(Some(at)) => now = at,
                WriterStep::Wait(None) => {
                    prop_assert!(!out.is_empty(), "it waits for nothing");
                    land(&mut backlog, out.remove(0), &mut source);
                }
                WriterStep::End => break,
            }
        }
        for (key, value) in accepted {
            let gone = given_up.iter().any(|it| it.item.value == Some(value));
            prop_assert!(gone || source.get(&key) == Some(&value));
        }
        prop_assert_eq!(backlog.given_up(), given_up.len() as u64);
    }
}
