//! Types that the default codec of a `RedisTier` cannot keep: none of them comes back as another value, the
//! cache's handler of events is told, and `Json` keeps them. Against a real server.
// the server listens on a socket
#![cfg(all(unix, feature = "redis"))]

#[path = "../src/front/tier/redis/tests/server.rs"]
mod server;

use larder::{Cache, Codec, How, Json, Postcard, RedisTier};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use server::{PATIENCE, Server, eventually};
use std::fmt::Debug;
use std::sync::Arc;

/// A cache, its tier, and what its handler was told.
struct Process<V, C = Postcard> {
    cache: Cache<u64, V>,
    tier: RedisTier<C>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl<V, C> Process<V, C>
where
    V: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
    C: Codec,
{
    fn start(server: &Server, codec: C) -> Self {
        let tier = RedisTier::connect(&server.url())
            .prefix("types:v1")
            .timeout(PATIENCE)
            .connect_timeout(PATIENCE)
            .codec(codec)
            .open()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        let cache = Cache::builder()
            .max_entries(1_000)
            .tier(tier.clone())
            .on_event(move |event| log.lock().push(event.to_string()))
            .build()
            .unwrap();
        Self { cache, tier, lines }
    }

    fn load(&self, key: u64, value: &V) -> How {
        let load = |_: &_| Ok::<_, String>(value.clone());
        let got = self.cache.at(&key).load(load).unwrap();
        assert_eq!(&got.value, value);
        eventually(|| self.cache.tier_pending() == 0);
        got.how
    }

    fn told(&self) -> Vec<String> {
        self.lines.lock().clone()
    }
}

/// Whether what one process loads is there for another.
fn is_shared<V, C>(server: &Server, codec: C, value: &V) -> bool
where
    V: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static,
    C: Codec,
{
    server.client().say("FLUSHALL");
    let (one, other) = (Process::start(server, codec.clone()), Process::start(server, codec));
    assert_eq!(one.load(1, value), How::Loaded);
    // the value is the right one in any case
    let how = other.load(1, value);
    let is_left_out = one.tier.stats().unencodable == 1;
    assert_eq!(is_left_out, how == How::Loaded, "{how:?}");
    // whatever is written could be read
    assert_eq!((one.tier.stats().invalid_frames, other.tier.stats().invalid_frames), (0, 0));
    assert_eq!(one.told().len(), usize::from(is_left_out));
    how == How::Tier
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Price {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nick: Option<String>,
    flags: u8,
    cents: u32,
}

fn price(nick: Option<&str>) -> Price {
    Price { nick: nick.map(str::to_owned), flags: 0, cents: 300 }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Hidden {
    #[serde(default, skip_serializing)]
    level: u8,
    at: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Struct { at: u8 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Skipping {
    #[serde(skip)]
    _Never,
    One,
    Two,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    price: Price,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cached {
    id: u8,
    #[serde(skip)]
    memo: Option<u64>,
    tags: std::collections::HashMap<String, Vec<u32>>,
}

#[test]
fn a_value_comes_back_as_it_was_or_not_at_all() {
    let Some(server) = Server::start() else { return };
    let server = &server;
    assert!(!is_shared(server, Postcard, &price(None)));
    assert!(is_shared(server, Postcard, &price(Some("a"))));
    assert!(!is_shared(server, Postcard, &Hidden { level: 0, at: 300 }));
    assert!(!is_shared(server, Postcard, &Either::Text("a".to_owned())));
    assert!(!is_shared(server, Postcard, &Tagged::Struct { at: 1 }));
    assert!(!is_shared(server, Postcard, &Skipping::One));
    assert!(!is_shared(server, Postcard, &Flat { id: 1, price: price(Some("a")) }));
    assert!(!is_shared(server, Postcard, &serde_json::json!({ "at": [1, 2] })));
    let tags = (0..20).map(|n| (n.to_string(), vec![n; 3])).collect();
    assert!(is_shared(server, Postcard, &Cached { id: 1, memo: None, tags }));

    assert!(is_shared(server, Json, &price(None)));
    assert!(is_shared(server, Json, &Hidden { level: 0, at: 300 }));
    assert!(is_shared(server, Json, &Either::Text("a".to_owned())));
    assert!(is_shared(server, Json, &Tagged::Struct { at: 1 }));
    assert!(is_shared(server, Json, &Skipping::Two));
    assert!(is_shared(server, Json, &Flat { id: 1, price: price(None) }));
    assert!(is_shared(server, Json, &serde_json::json!({ "at": [1, 2] })));
}

#[test]
fn the_handler_is_told_which_field_it_is_and_what_to_do() {
    let Some(server) = Server::start() else { return };
    let process = Process::start(&server, Postcard);
    process.load(1, &price(None));
    assert_eq!(
        process.told(),
        ["the second tier cannot store an entry: the field `nick` of `Price` is left out \
          (`skip_serializing_if`), and without field names the bytes would be read as another value: always \
          write it, or use `.codec(Json)` (1 so far)"]
    );
    let process = Process::start(&server, Postcard);
    process.load(2, &Either::Number(1));
    assert_eq!(
        process.told(),
        [
            "the second tier cannot store an entry: what Postcard wrote is not read back as the same value, as \
          with `serde_json::Value` and with serde's `untagged`, `tag` and `skip_serializing`; use \
          `.codec(Json)` for such types (1 so far)"
        ]
    );
    let counts: Vec<_> = process.tier.stats().counts().collect();
    assert_eq!(counts[0], ("connects", 1));
    assert_eq!(counts.last(), Some(&("unencodable", 1)));
    assert_eq!(process.cache.stats().tier_skipped, 1);
}

#[test]
fn a_write_that_cannot_be_stored_leaves_nothing_older() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (Process::start(&server, Postcard), Process::start(&server, Postcard));
    one.load(1, &price(Some("a")));
    assert_eq!(other.load(1, &price(Some("a"))), How::Tier);
    one.cache.insert(1, price(None));
    one.cache.tier_flush().unwrap();
    eventually(|| other.cache.peek(&1).is_none());
    assert_eq!(other.load(1, &price(None)), How::Loaded);
}

#[test]
fn a_type_that_did_not_come_back_once_is_tried_each_time() {
    let Some(server) = Server::start() else { return };
    let process = Process::start(&server, Postcard);
    // before any of the others: an empty list says nothing of what it is a list of
    for key in 0..10 {
        process.load(key, &Vec::new());
    }
    let hidden = |at| vec![Hidden { level: 0, at }];
    for key in 10..100 {
        process.load(key, &hidden(300));
    }
    assert_eq!(process.tier.stats().unencodable, 90);
    assert_eq!(process.told().len(), 7, "1, 2, 4 .. 64 of them");
    assert_eq!(process.cache.stats().tier_skipped, 90);
    // values that do come back are kept all the same
    process.load(200, &Vec::new());
    let other = Process::start(&server, Postcard);
    assert_eq!(other.load(200, &Vec::new()), How::Tier);
    assert_eq!(other.load(5, &Vec::new()), How::Tier);
    assert_eq!(other.load(50, &hidden(7)), How::Loaded);
}

#[test]
fn what_cannot_be_read_is_told_too() {
    let Some(server) = Server::start() else { return };
    let one = Process::start(&server, Postcard);
    for key in 0..3 {
        one.load(key, &price(Some("a")));
    }
    // the codec was changed, and the prefix was not
    let other = Process::start(&server, Json);
    for key in 0..3 {
        assert_eq!(other.load(key, &price(None)), How::Loaded);
    }
    let told = other.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        "the second tier cannot read an entry: data under one of its keys is damaged, foreign, or of another \
         codec or type; raise the version in `prefix` whenever types or codec change (1 so far)"
    );
    assert_eq!((other.tier.stats().invalid_frames, other.cache.stats().tier_skipped), (3, 3));
    assert_eq!(other.cache.stats().tier_errors, 0);
}
