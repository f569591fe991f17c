//! A second tier: two processes, one Redis. What one has loaded, the other need not load; what one removes,
//! the other drops too.
//!
//! ```sh
//! cargo run --release --features redis --example two_tiers
//! ```
//!
//! It starts a `redis-server` of its own, without data on disk, and ends it again, unless `REDIS_URL=..` says
//! which one to use. The two processes are two caches with a connection each.

use larder::{Cache, How, RedisTier};
use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The source: slow, and asked as rarely as can be.
#[allow(clippy::unnecessary_wraps, reason = "a real one may fail")]
fn select_name(id: u64) -> Result<String, std::io::Error> {
    std::thread::sleep(Duration::from_millis(50));
    Ok(format!("user {id}"))
}

fn process(url: &str) -> Result<Cache<u64, String>, Box<dyn Error>> {
    let tier = RedisTier::connect(url)
        .prefix("example:names:v1")
        .time_to_live(Duration::from_secs(3_600))
        .open()?;
    Ok(Cache::builder()
        .max_entries(10_000)
        .time_to_live(Duration::from_secs(60))
        .jitter(0.1)
        .tier(tier)
        .build()?)
}

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = f();
    println!("{what:<58} {:>9.1?}", begun.elapsed());
    result
}

fn main() -> Result<(), Box<dyn Error>> {
    let (url, server) = match std::env::var("REDIS_URL") {
        Ok(url) => (url, None),
        Err(_) => match Server::start() {
            Ok(server) => (server.url.clone(), Some(server)),
            Err(error) => {
                println!(
                    "no redis-server ({error}): apt-get install redis-server, or REDIS_URL=.."
                );
                return Ok(());
            }
        },
    };
    let (one, other) = (process(&url)?, process(&url)?);
    one.remove_everywhere(&42)?; // what an earlier run has left

    let load = |cache: &Cache<u64, String>| cache.at(&42).load(|_| select_name(42));
    let got = timed("one process loads it from the source", || load(&one))?;
    assert_eq!(got.how, How::Loaded);
    while one.tier_pending() > 0 {
        std::thread::yield_now(); // it reaches the tier in the background
    }
    let got = timed("the other has it from the tier", || load(&other))?;
    assert_eq!(got.how, How::Tier);
    let got = timed("and from then on in its own memory", || load(&other))?;
    assert_eq!(got.how, How::Fresh);

    timed("one removes it everywhere, and waits for that", || one.remove_everywhere(&42))?;
    timed("until the other's copy is gone", || {
        while other.contains(&42) {
            std::thread::yield_now();
        }
    });
    let got = timed("the other loads it from the source", || load(&other))?;
    assert_eq!(got.how, How::Loaded);

    drop(server); // Redis is down
    let got = timed("without a server a hit is a hit", || load(&other))?;
    assert_eq!(got.how, How::Fresh);
    let got = timed("and a miss goes to the source", || one.at(&7).load(|_| select_name(7)))?;
    assert_eq!(got.how, How::Loaded);
    println!("the other process: {:?}", other.stats());
    Ok(())
}

/// A server of this program's own.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Result<Self, Box<dyn Error>> {
        // a port that was free a moment ago
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { child, url: format!("redis://127.0.0.1:{port}") };
        let until = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err("it does not answer".into());
            }
            std::thread::yield_now();
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
