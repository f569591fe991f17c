//! The tier against a real server, without a cache.

mod entries;
mod frames;
mod leases;
mod news;
mod outages;
mod proxy;
mod races;
mod server;
mod setting_up;

use super::RedisTier;
use super::builder::RedisTierBuilder;
use super::codec::Codec;
use crate::rules::tag::Tag;
use crate::rules::tier::{
    News, Tier, TierChange, TierEntry, TierError, TierFound, TierTicket, TierWatcher, Watch,
};
use crate::words::tier_key::TierKey;
use server::{PATIENCE, eventually, wait};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Found = TierFound<String, String>;
type Change = TierChange<String, String>;
type Entry = TierEntry<String, String>;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What most tests begin with.
fn builder(server: &server::Server) -> RedisTierBuilder {
    patient(RedisTier::connect(&server.url()).prefix("test:v1"))
}

fn patient(builder: RedisTierBuilder) -> RedisTierBuilder {
    builder.timeout(PATIENCE).connect_timeout(PATIENCE)
}

fn tier(server: &server::Server) -> RedisTier {
    builder(server).open().expect("the server is up")
}

fn key(name: &str) -> TierKey {
    TierKey::of(name)
}

fn tag(name: &str) -> Tag {
    Tag::from(name)
}

fn entry(name: &str, value: &str) -> Entry {
    TierEntry::new(name.to_owned(), Some(value.to_owned()))
}

fn tagged(name: &str, value: &str, tags: &[&str]) -> Entry {
    let mut entry = entry(name, value);
    entry.tags = tags.iter().map(|name| tag(name)).collect();
    entry
}

fn get<C: Codec>(tier: &RedisTier<C>, name: &str) -> Found {
    wait(tier.get(&key(name))).expect("the server answers")
}

fn ticket(tier: &RedisTier, name: &str) -> TierTicket {
    get(tier, name).ticket
}

/// The value, if something fresh is there.
fn value<C: Codec>(tier: &RedisTier<C>, name: &str) -> Option<String> {
    let entry = get(tier, name).entry?;
    if entry.fresh_for.is_zero() { None } else { entry.value }
}

fn apply<C: Codec>(tier: &RedisTier<C>, changes: impl IntoIterator<Item = Change>) {
    let changes: Vec<_> = changes.into_iter().collect();
    wait(tier.apply(&changes)).expect("the server answers");
}

fn write(tier: &RedisTier, entry: Entry) {
    apply(tier, [Change::Write(key(&entry.key), entry)]);
}

fn load(tier: &RedisTier, entry: Entry, ticket: &TierTicket) {
    apply(tier, [Change::Load(key(&entry.key), entry, ticket.clone())]);
}

fn put(tier: &RedisTier, name: &str, text: &str) {
    write(tier, entry(name, text));
}

/// The same, where the server may not answer.
fn ask(tier: &RedisTier) -> Result<Option<String>, TierError> {
    let found = wait(Tier::<String, String>::get(tier, &key("ada")))?;
    Ok(found.entry.and_then(|entry| entry.value))
}

fn answers(tier: &RedisTier) -> bool {
    ask(tier).is_ok()
}

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn on<C: Codec>(tier: &RedisTier<C>) -> Self {
        let recorder = Self::default();
        let watcher = TierWatcher::new(Arc::new(recorder.clone()));
        Tier::<String, String>::watch(tier, watcher).unwrap();
        recorder
    }

    fn told(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, news: &str) -> usize {
        self.told().iter().filter(|told| *told == news).count()
    }

    /// Waits for news, and forgets all.
    fn hears(&self, news: &str) {
        eventually(|| self.count(news) > 0);
        self.0.lock().unwrap().clear();
    }
}

impl Watch for Recorder {
    fn is_alive(&self) -> bool {
        false // so that more of them may watch
    }

    fn told(&self, news: News<'_>) -> bool {
        let text = match news {
            News::Changed(key) => format!("changed {key}"),
            News::Expired(key) => format!("expired {key}"),
            News::TagRemoved(tag) => format!("removed #{tag}"),
            News::TagExpired(tag) => format!("expired #{tag}"),
            News::Cleared => "cleared".to_owned(),
            News::Missed => "missed".to_owned(),
            News::Skipped(error) => format!("skipped: {error}"),
        };
        self.0.lock().unwrap().push(text);
        true
    }
}

macro_rules! need_server {
    () => {
        match super::server::Server::start() {
            Some(server) => server,
            None => return,
        }
    };
}
use need_server;
