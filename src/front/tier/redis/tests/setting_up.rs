//! How a tier is set up, and what it needs.

use super::server::{Reply, Server, eventually};
use super::{
    Change, Recorder, answers, apply, get, key, load, patient, put, tag, tagged, tier, value,
};
use crate::RedisTier;
use crate::rules::tier::TierError;
use std::time::Duration;

#[test]
fn settings_that_are_not_accepted_are_refused() {
    let bad = [
        RedisTier::connect("redis://localhost"),
        RedisTier::connect("redis://localhost").prefix("a::b"),
        RedisTier::connect("http://user:secret@localhost").prefix("a"),
        RedisTier::connect("secret").prefix("a"),
        RedisTier::connect("redis://localhost").prefix("a").timeout(Duration::ZERO),
        RedisTier::connect("redis://localhost").prefix("a").lease(Duration::ZERO),
        RedisTier::connect("redis://localhost").prefix("a").time_to_live(Duration::MAX),
        RedisTier::connect("redis://localhost").prefix("a").tombstone(Duration::ZERO),
        RedisTier::connect("redis://localhost").prefix("a").max_value_size(0),
        RedisTier::connect("rediss://localhost/#insecure").prefix("a"),
    ];
    for builder in bad {
        assert!(!format!("{builder:?}").contains("secret"));
        let error = builder.lazy().open().unwrap_err();
        assert!(matches!(error, TierError::Invalid(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}

#[test]
fn credentials_are_never_shown() {
    let Some(server) = Server::start_tcp() else { return };
    let with = |login: &str| server.url().replace("redis://", &format!("redis://{login}@"));
    let wrong = RedisTier::connect(&with("me:hunter2")).prefix("test:v1");
    let shown = format!("{wrong:?}");
    assert!(shown.contains("127.0.0.1") && shown.contains("test:v1"), "{shown}");
    let error = wrong.open().unwrap_err();
    let shown = format!("{shown} {error} {error:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("me:"), "{shown}");
    server.client().say("ACL SETUSER me on >hunter2 ~* &* +@all");
    let right = patient(RedisTier::connect(&with("me:hunter2")).prefix("test:v1"));
    let tier = right.open().unwrap();
    let shown = format!("{tier:?}");
    assert!(shown.contains("is_connected: true") && !shown.contains("hunter2"), "{shown}");
    assert!(get(&tier, "ada").entry.is_none());
}

#[test]
#[cfg(not(feature = "redis-tls"))]
fn tls_needs_its_feature() {
    let error = RedisTier::connect("rediss://localhost").prefix("a").open().unwrap_err();
    assert!(error.to_string().contains("redis-tls"), "{error}");
}

#[test]
#[cfg(feature = "redis-tls")]
fn there_is_no_falling_back_from_tls() {
    let Some(server) = Server::start_tcp() else { return };
    let url = server.url().replace("redis://", "rediss://");
    let error = RedisTier::connect(&url).prefix("a").open().unwrap_err();
    assert!(matches!(error, TierError::Unreachable(_)), "{error}");
}

#[test]
fn a_user_with_few_rights_will_do() {
    let Some(mut server) = Server::start_tcp() else { return };
    let rights = "~test:v1::* ~test:v1#* resetchannels +hello +auth +ping +client|id +client|tracking \
                  +script|load +evalsha +multi +exec +time +get +mget +set +getrange +del +rename \
                  +pttl +pexpire +hmget +hset";
    let admit = |server: &Server| {
        let said = server.client().say(&format!("ACL SETUSER me on >pw {rights}"));
        assert_eq!(said, Reply::Bytes(b"OK".to_vec()));
    };
    admit(&server);
    let url = server.url().replace("redis://", "redis://me:pw@");
    let few = patient(RedisTier::connect(&url).prefix("test:v1"));
    let few = few.lease(Duration::from_secs(5)).open().unwrap();
    let other = tier(&server);
    let recorder = Recorder::on(&few);
    for round in ["one", "two"] {
        let found = get(&few, "ada");
        load(&few, tagged("ada", round, &["t"]), &found.ticket);
        assert_eq!(value(&few, "ada").as_deref(), Some(round));
        put(&few, "bob", round);
        apply(&few, [Change::Expire(key("ada")), Change::RemoveTag(tag("t"))]);
        apply(&few, [Change::Clear, Change::Remove(key("bob"))]);
        put(&other, "eve", round);
        recorder.hears("changed eve");
        if round == "one" {
            server.kill();
            server.restart();
            admit(&server);
            eventually(|| answers(&few) && answers(&other));
        }
    }
}
