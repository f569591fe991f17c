//! What the source calls a version, from the loader to whoever gets the value.

mod common;

use common::gate::Gate;
use common::{Fixture, ms, with_cache};
use larder::{Got, How, Loaded};
use std::thread;

fn load(it: &Fixture, key: u64, value: u64, etag: &str) -> Got<u64> {
    let loaded = || Loaded::new(value).validator(etag);
    it.at(&key).load(|_| Ok::<_, String>(loaded())).unwrap()
}

fn validator(it: &Fixture, key: u64) -> Option<String> {
    it.peek(&key)?.validator.map(|validator| validator.to_string())
}

#[test]
fn a_validator_comes_with_the_value() {
    with_cache(
        |builder| builder.time_to_live(ms(300)),
        |it| {
            let got = load(it, 1, 10, "\"a\"");
            assert_eq!((got.how, got.validator.as_deref()), (How::Loaded, Some("\"a\"")));
            let got = it.at(&1).load(|_| common::uncalled::<u64>()).unwrap();
            assert_eq!((got.how, got.validator.as_deref()), (How::Fresh, Some("\"a\"")));
            assert_eq!(validator(it, 1).as_deref(), Some("\"a\""));
            let walked: Vec<_> = it.entries().map(|(_, got)| got.validator).collect();
            assert_eq!(walked, [got.validator]);
            it.insert(2, 20);
            assert_eq!(validator(it, 2), None);
        },
    );
}

#[test]
fn those_who_wait_get_it_too() {
    with_cache(
        |builder| builder,
        |it| {
            let gate = Gate::new();
            thread::scope(|scope| {
                let load = || {
                    it.at(&1).load(|_| Ok::<_, String>(gate.pass(Loaded::new(10).validator("a"))))
                };
                let leader = scope.spawn(load);
                gate.wait_until_entered(1);
                let joined = it.stats().joined;
                let follower = scope.spawn(load);
                it.wait_until_joined(joined + 1);
                gate.open();
                let (led, got) =
                    (leader.join().unwrap().unwrap(), follower.join().unwrap().unwrap());
                assert_eq!((led.how, got.how), (How::Loaded, How::Joined));
                assert_eq!((led.validator.as_deref(), &led.validator), (Some("a"), &got.validator));
            });
        },
    );
}

#[test]
fn a_validator_goes_with_its_value() {
    with_cache(
        |builder| builder.time_to_live(ms(300)).negative_ttl(ms(300)),
        |it| {
            let replaced = |what: &dyn Fn(), left: Option<&str>| {
                it.clear();
                load(it, 1, 10, "a");
                what();
                assert_eq!(validator(it, 1).as_deref(), left);
                it.insert(1, 12);
                assert_eq!(validator(it, 1), None, "it was the other value's");
            };
            replaced(&|| it.insert(1, 11), None);
            replaced(&|| assert_eq!(it.remove(&1), Some(10)), None);
            replaced(&|| it.clear(), None);
            replaced(&|| it.advance(ms(300)), None);
            replaced(
                &|| {
                    it.advance(ms(300));
                    load(it, 1, 11, "b");
                },
                Some("b"),
            );
            replaced(
                &|| {
                    it.advance(ms(300));
                    it.at(&1)
                        .load(|_| Ok::<_, String>(Loaded::missing().validator("b")))
                        .unwrap_err();
                },
                None,
            );
            replaced(
                &|| {
                    it.advance(ms(300));
                    let got = it
                        .at(&1)
                        .load(|_| Ok::<_, String>(Loaded::new(1).validator("b").no_store()))
                        .unwrap();
                    assert_eq!(got.validator.as_deref(), Some("b"));
                },
                None,
            );
        },
    );
}

#[test]
fn validators_stay_with_their_values_when_the_table_grows_and_evicts() {
    with_cache(
        |builder| builder,
        |it| {
            for key in 0..3_000 {
                if key % 3 == 0 {
                    load(it, key, key, &key.to_string());
                } else {
                    it.insert(key, key);
                }
            }
            it.validate();
            let mut seen = 0;
            for (key, got) in it.entries() {
                let expected = (key % 3 == 0).then(|| key.to_string());
                assert_eq!(got.validator.as_deref(), expected.as_deref());
                seen += 1;
            }
            assert_eq!(seen, it.len());
        },
    );
}
