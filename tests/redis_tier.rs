//! `RedisTier` from outside, against a real server.
// the server listens on a socket
#![cfg(all(unix, feature = "redis"))]

#[path = "../src/front/tier/redis/tests/server.rs"]
mod server;

use larder::{Json, RedisTier, Tier, TierChange, TierEntry, TierError, TierFound, TierKey};
use serde::{Deserialize, Serialize};
use server::{PATIENCE, Server, eventually, wait};
use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    name: String,
    tags: HashMap<String, Vec<u32>>,
}

fn user() -> User {
    User { name: "Ada".to_owned(), tags: HashMap::from([("a".to_owned(), vec![1, 2])]) }
}

fn write(id: u64) -> TierChange<u64, User> {
    TierChange::Write(TierKey::of(&id), TierEntry::new(id, Some(user())))
}

fn connect(server: &Server) -> larder::RedisTierBuilder {
    let tier = RedisTier::connect(&server.url()).prefix("users:v1");
    tier.timeout(PATIENCE).connect_timeout(PATIENCE)
}

#[test]
fn a_thread_may_wait_for_it() {
    let Some(server) = Server::start_tcp() else { return };
    let tier = connect(&server).open().unwrap();
    wait(tier.apply(&[write(7)])).unwrap();
    let found: TierFound<u64, User> = wait(tier.get(&TierKey::of(&7_u64))).unwrap();
    let entry = found.entry.unwrap();
    assert_eq!((entry.key, entry.value), (7, Some(user())));
    assert_eq!(server.client().int("EXISTS users:v1::#7"), 1);
}

#[tokio::test]
async fn so_may_a_task() {
    let Some(server) = Server::start() else { return };
    let tier = connect(&server).codec(Json).lease(Duration::from_secs(5)).await.unwrap();
    tier.apply(&[write(7)]).await.unwrap();
    let keys = [TierKey::of(&7_u64), TierKey::of(&8_u64)];
    let found: Vec<TierFound<u64, User>> = tier.get_many(&keys).await.unwrap();
    assert_eq!(found[0].entry.as_ref().unwrap().value, Some(user()));
    assert!(found[1].entry.is_none());
    // other types under the same name are nothing
    let other: TierFound<u64, Vec<u64>> = tier.get(&keys[0]).await.unwrap();
    assert!(other.entry.is_none());
    assert!(tier.stats().invalid_frames > 0);
}

#[test]
fn a_thread_that_waits_may_be_within_a_runtime() {
    let Some(server) = Server::start() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tier = connect(&server).open().unwrap();
        wait(tier.apply(&[write(7)])).unwrap();
    });
}

#[test]
fn connecting_may_be_given_up() {
    let Some(server) = Server::start() else { return };
    for _ in 0..20 {
        let connecting = connect(&server).into_future();
        drop(connecting);
        let mut connecting = std::pin::pin!(connect(&server).into_future());
        let waker = std::task::Waker::noop();
        let _ = connecting.as_mut().poll(&mut std::task::Context::from_waker(waker));
    }
    let mut client = server.client();
    eventually(|| String::from_utf8(client.bytes("CLIENT LIST")).unwrap().lines().count() == 1);
}

#[test]
fn without_a_server_it_says_so() {
    // nobody listens there
    let error = RedisTier::connect("redis://user:hunter2@127.0.0.1:1").prefix("a").open();
    let error = error.unwrap_err();
    assert!(matches!(error, TierError::Unreachable(_)));
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}
