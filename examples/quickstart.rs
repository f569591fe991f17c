//! A product page from a database under load: without a cache, with the cache everybody writes
//! first (a map, a lock, a time), and with larder; and what happens when a hot key expires.
//!
//! Run it with `cargo run --release --example quickstart`; it takes about 15 seconds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use larder::Cache;
use rusqlite::{Connection, OpenFlags};

const PRODUCTS: u32 = 100_000;
const BESTSELLER: u32 = 1; // the hot key: about every twelfth request
const CALLERS: u64 = 64;
const CONNECTIONS: usize = 8;
const TTL: Duration = Duration::from_secs(1);
const RUN: Duration = Duration::from_millis(4_200);
const PAUSE: Duration = Duration::from_millis(1); // what a caller does between two requests

/// What a request wants: a product with its reviews summed up.
struct Page {
    name: String,
    reviews: u32,
    stars: f64,
}

type Fetch<'a> = dyn Fn(&Db, u32) -> Result<Arc<Page>> + Sync + 'a;

fn main() -> Result<()> {
    let file = std::env::temp_dir().join(format!("larder-{}.db", std::process::id()));
    let compared = create(&file).and_then(|()| compare(&file));
    std::fs::remove_file(&file).ok();
    report(&compared?);
    Ok(())
}

fn compare(file: &Path) -> Result<[Outcome; 3]> {
    let bare = run("no cache", file, &Db::page)?;

    let map = Mutex::new(HashMap::new());
    let naive = run("map + lock", file, &|db, id| {
        if let Some((stored, page)) = map.lock().unwrap().get(&id) {
            if Instant::elapsed(stored) < TTL {
                return Ok(Arc::clone(page));
            }
        }
        let page = db.page(id)?;
        map.lock().unwrap().insert(id, (Instant::now(), page.clone()));
        Ok(page)
    })?;

    let cache = Cache::builder().max_entries(PRODUCTS.into()).time_to_live(TTL).build()?;
    let larder = run("larder", file, &|db, id| Ok(cache.get_or_load(&id, || db.page(id))?))?;
    Ok([bare, naive, larder])
}

/// The database: a file behind a pool of connections, as a backend has it.
struct Db {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
    queries: AtomicU64,
    hot_queries: Mutex<Vec<Instant>>,
}

impl Db {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let open = |_| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        Ok(Self {
            idle: Mutex::new((0..CONNECTIONS).map(open).collect::<Result<_, _>>()?),
            returned: Condvar::new(),
            queries: AtomicU64::new(0),
            hot_queries: Mutex::default(),
        })
    }

    fn page(&self, id: u32) -> Result<Arc<Page>> {
        self.queries.fetch_add(1, Relaxed);
        if id == BESTSELLER {
            self.hot_queries.lock().unwrap().push(Instant::now());
        }
        let none_idle = |idle: &mut Vec<_>| idle.is_empty();
        let mut idle = self.returned.wait_while(self.idle.lock().unwrap(), none_idle).unwrap();
        let connection = idle.pop().expect("one is idle");
        drop(idle);
        let page = select(&connection, id);
        self.idle.lock().unwrap().push(connection);
        self.returned.notify_one();
        Ok(Arc::new(page?))
    }
}

fn select(db: &Connection, id: u32) -> rusqlite::Result<Page> {
    let sql = "SELECT name, count(*), avg(stars)
               FROM product JOIN review ON product = product.id WHERE product.id = ?1";
    db.prepare_cached(sql)?.query_row([id], |row| {
        Ok(Page { name: row.get(0)?, reviews: row.get(1)?, stars: row.get(2)? })
    })
}

/// Writes 100,000 products; product n gets 100,000 / n reviews, 1.2 million in all.
fn create(path: &Path) -> Result<()> {
    eprintln!("creating {PRODUCTS} products and their reviews");
    Ok(Connection::open(path)?.execute_batch(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;
         CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
         WITH RECURSIVE upto(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM upto WHERE n < {PRODUCTS})
            INSERT INTO product SELECT n, 'Product ' || n FROM upto;
         CREATE TABLE review (product INTEGER NOT NULL, stars INTEGER NOT NULL, words TEXT);
         INSERT INTO review SELECT id, 1 + (id + n) % 5, 'as described, arrived on time'
            FROM product CROSS JOIN (SELECT id AS n FROM product) ON n <= {PRODUCTS} / id;
         CREATE INDEX review_of ON review (product);
         COMMIT;"
    ))?)
}

/// One request of one caller.
#[derive(Clone)]
struct Request {
    hot: bool,
    started: Instant,
    took: Duration,
}

/// What one run did, its requests sorted by how long they took.
struct Outcome {
    title: &'static str,
    per_second: u64,
    requests: Vec<Request>,
    queries: u64,
    hot_queries: Vec<Instant>,
}

/// All callers at once; each asks for the same sequence of products in every run, as far as it gets.
fn run(title: &'static str, file: &Path, fetch: &Fetch) -> Result<Outcome> {
    let (db, popularity) = (Db::open(file)?, zipf());
    let served = AtomicU64::new(0);
    let started = Instant::now();
    let caller = |mut random: u64| {
        let mut requests = Vec::new();
        while started.elapsed() < RUN {
            let id = pick(&popularity, &mut random);
            let started = Instant::now();
            let page = fetch(&db, id)?;
            let took = started.elapsed();
            ensure!(page.reviews > 0 && page.stars > 0.0, "no reviews: {}", page.name);
            requests.push(Request { hot: id == BESTSELLER, started, took });
            served.fetch_add(1, Relaxed);
            thread::sleep(PAUSE);
        }
        Ok(requests)
    };
    let mut requests = thread::scope(|s| {
        let caller = &caller;
        let callers: Vec<_> = (1..=CALLERS).map(|n| s.spawn(move || caller(n << 32))).collect();
        while let Some(left) = RUN.checked_sub(started.elapsed()) {
            thread::sleep(left.min(Duration::from_secs(1)));
            let [served, queries] = [&served, &db.queries].map(|n| grouped(n.load(Relaxed)));
            eprint!("\r{title}: {served} requests, {queries} queries");
        }
        callers.into_iter().map(|c| c.join().expect("no panic")).collect::<Result<Vec<_>>>()
    })?
    .concat();
    eprintln!();
    requests.sort_by_key(|request| request.took);
    let hot_queries = db.hot_queries.into_inner().unwrap();
    let per_second = requests.len() as u64 * 1000 / started.elapsed().as_millis() as u64;
    Ok(Outcome { title, per_second, requests, queries: db.queries.into_inner(), hot_queries })
}

impl Outcome {
    fn percentile(&self, percent: usize) -> String {
        time(self.requests[(self.requests.len() - 1) * percent / 100].took)
    }

    /// How often the hot key expired, the most queries for it in the 50 ms after that, and the longest that a
    /// caller waited in that time. The first query is the cold start, not an expiry.
    fn expiries(&self) -> (usize, usize, String) {
        let mut expired = self.hot_queries.clone();
        expired.dedup_by(|later, first| *later < *first + TTL / 2);
        let (mut most, mut longest) = (0, Duration::ZERO);
        for &at in expired.iter().skip(1) {
            let end = at + Duration::from_millis(50);
            most = most.max(self.hot_queries.iter().filter(|&&q| q >= at && q < end).count());
            let there = |r: &&Request| r.hot && r.started < end && r.started + r.took >= at;
            let slowest = self.requests.iter().rfind(there);
            longest = longest.max(slowest.map_or(Duration::ZERO, |request| request.took));
        }
        (expired.len().saturating_sub(1), most, time(longest))
    }
}

fn report([bare, naive, larder]: &[Outcome; 3]) {
    let row = |what, first: &str, cell: &dyn Fn(&Outcome) -> String| {
        println!("{what:<34}{first:>14}{:>14}{:>14}", cell(naive), cell(larder));
    };
    let all = |what, cell: &dyn Fn(&Outcome) -> String| row(what, &cell(bare), cell);
    println!("{CALLERS} callers, {CONNECTIONS} connections; a cached value lives for {TTL:?}");
    all("", &|o| o.title.to_owned());
    all("requests", &|o| grouped(o.requests.len() as u64));
    all("queries to the database", &|o| grouped(o.queries));
    all("requests/s", &|o| grouped(o.per_second));
    all("latency, p50", &|o| o.percentile(50));
    all("latency, p99", &|o| o.percentile(99));
    all("latency, max", &|o| o.percentile(100));
    all("queries for the hot key", &|o| grouped(o.hot_queries.len() as u64));
    row("times the hot key expired", "-", &|o| o.expiries().0.to_string());
    row("  most queries for it in 50 ms", "-", &|o| o.expiries().1.to_string());
    row("  slowest caller in that time", "-", &|o| o.expiries().2);

    let share = 100.0 * larder.queries as f64 / larder.requests.len() as f64;
    let times = larder.per_second as f64 / bare.per_second as f64;
    let ((_, many, long), (_, few, short)) = (naive.expiries(), larder.expiries());
    println!(
        "\nWith larder {share:.1} % of the requests became a query, and callers got {times:.1} \
         times the requests/s that they got without a cache.\nWhen the hot key expired, the map \
         sent the database up to {many} queries for it in 50 ms and its slowest caller waited \
         {long}; larder sent up to {few}, and its slowest caller waited {short}."
    );
}

/// How requests are spread: product n is asked for 1/n as often as the first. Running sums.
fn zipf() -> Vec<f64> {
    let mut sums = vec![0.0; PRODUCTS as usize + 1];
    (1..sums.len()).for_each(|n| sums[n] = sums[n - 1] + 1.0 / n as f64);
    sums
}

fn pick(sums: &[f64], random: &mut u64) -> u32 {
    *random ^= *random << 13; // xorshift
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let point = *random as f64 / u64::MAX as f64 * sums[sums.len() - 1];
    sums.partition_point(|&sum| sum < point).max(1) as u32
}

fn time(d: Duration) -> String {
    let micros = d.as_secs_f64() * 1e6;
    if micros < 1e3 { format!("{micros:.1} µs") } else { format!("{:.1} ms", micros / 1e3) }
}

/// 1234567 as 1,234,567.
fn grouped(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", grouped(n / 1000), n % 1000) }
}
