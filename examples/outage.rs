//! A source goes down and comes back: what happens to it and to its callers with a time to live alone, with
//! windows in which stale values are served too, and with back-off and a circuit breaker as well.
//!
//! Time is simulated, by a clock that is moved by hand, so that a minute and a half takes seconds and each
//! run prints the same: `cargo run --release --example outage`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use larder::{Cache, CacheBuilder, Clock, ConfigError, How};

const KEYS: u64 = 200; // one at random is asked for each millisecond
const TTL: Duration = Duration::from_secs(10);
const LINE: u64 = 5_000; // milliseconds in a line of the table
const LINES: u64 = 18;
const DOWN: Range<u64> = 20_000..60_000; // when the source is down
const QUERY: u64 = 20; // how long it takes to answer
const HANG: u64 = 1_000; // and to fail, when it is down

type Settings = fn(CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64>;

const SERVICES: [(&str, Settings); 3] = [
    ("a time to live alone", |builder| builder),
    ("with stale windows", windows),
    ("and back-off, breaker", |builder| {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        windows(builder).error_backoff(second, minute).circuit_breaker(5, 5 * second)
    }),
];

fn windows(builder: CacheBuilder<u64, u64>) -> CacheBuilder<u64, u64> {
    builder.stale_while_revalidate(TTL).stale_if_error(Duration::from_secs(3_600))
}

/// What happened in the time of one line.
#[derive(Clone, Copy, Default)]
struct Line {
    queries: u64,
    answers: u64,
    errors: u64,
    stale: u64,
    oldest: u64,
    slowest: u64,
}

/// The source, the time, and the table's numbers.
#[derive(Default)]
struct World {
    now: Cell<u64>,
    lines: RefCell<[Line; LINES as usize]>,
    replies: RefCell<BTreeMap<u64, Vec<Waker>>>,
}

impl World {
    fn note(&self, note: impl FnOnce(&mut Line)) {
        let n = (self.now.get() / LINE).min(LINES - 1);
        note(&mut self.lines.borrow_mut()[n as usize]);
    }

    /// A query: its result is the time at which it was read.
    async fn query(&self) -> Result<u64, &'static str> {
        self.note(|line| line.queries += 1);
        let is_down = DOWN.contains(&self.now.get());
        let reply = self.now.get() + if is_down { HANG } else { QUERY };
        poll_fn(|task| {
            if self.now.get() >= reply {
                return Poll::Ready(());
            }
            self.replies.borrow_mut().entry(reply).or_default().push(task.waker().clone());
            Poll::Pending
        })
        .await;
        if is_down { Err("connection timed out") } else { Ok(self.now.get()) }
    }

    /// One caller.
    async fn ask(&self, cache: &Cache<u64, u64>, key: u64) {
        let asked = self.now.get();
        let answer = cache.at(&key).load_async(|_| self.query()).await;
        let now = self.now.get();
        self.note(|line| {
            line.slowest = line.slowest.max(now - asked);
            match answer {
                Ok(got) => {
                    line.answers += 1;
                    line.stale += u64::from(matches!(got.how, How::Stale(_)));
                    line.oldest = line.oldest.max(now - got.value);
                }
                Err(_) => line.errors += 1,
            }
        });
    }
}

/// A caller on its way.
type Task<'w> = (Pin<Box<dyn Future<Output = ()> + 'w>>, Waker);

/// Notes that the task of this number is to be polled.
struct Woken(u64, Arc<Mutex<Vec<u64>>>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

/// What became of one service.
struct Outcome {
    title: &'static str,
    lines: [Line; LINES as usize],
    /// What the cache says of a key at the end of the outage.
    explained: String,
}

fn simulate(title: &'static str, settings: Settings) -> Result<Outcome, ConfigError> {
    let (clock, hand) = Clock::manual();
    let builder = Cache::builder().max_entries(1_000).time_to_live(TTL).jitter(0.2);
    let cache = settings(builder.clock(clock).shards(1).seed(1)).build()?;
    let (world, ready) = (World::default(), Arc::new(Mutex::new(Vec::new())));
    let mut tasks: HashMap<u64, Task<'_>> = HashMap::new();
    let mut random = 88_172_645_463_325_252_u64;
    let mut explained = String::new();
    for now in 0..LINES * LINE {
        if now == DOWN.end {
            explained = cache.explain(&1).to_string();
        }
        world.now.set(now);
        hand.advance(Duration::from_millis(1));
        if now % LINE == 0 {
            eprint!("\r{title}: {} s", now / 1_000);
        }
        random ^= random << 13; // xorshift
        random ^= random >> 7;
        random ^= random << 17;
        let waker = Waker::from(Arc::new(Woken(now, Arc::clone(&ready))));
        tasks.insert(now, (Box::pin(world.ask(&cache, random % KEYS)), waker));
        ready.lock().unwrap().push(now);
        let replies = world.replies.borrow_mut().remove(&now);
        replies.into_iter().flatten().for_each(Waker::wake);
        loop {
            let woken = std::mem::take(&mut *ready.lock().unwrap());
            if woken.is_empty() {
                break;
            }
            for number in woken {
                let Some((task, waker)) = tasks.get_mut(&number) else { continue };
                if task.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
                    tasks.remove(&number);
                }
            }
        }
    }
    eprintln!();
    drop(tasks);
    Ok(Outcome { title, lines: world.lines.into_inner(), explained })
}

fn main() -> Result<(), ConfigError> {
    let mut services = Vec::new();
    for (title, settings) in SERVICES {
        services.push(simulate(title, settings)?);
    }
    println!(
        "1,000 requests a second for {KEYS} keys, which live for {TTL:?} at most; in {} s each:",
        LINE / 1_000
    );
    print!("\n{:11}", "");
    for Outcome { title, .. } in &services {
        print!(" | {title:^37}");
    }
    print!("\n{:11}", "time source");
    for _ in &services {
        print!(" |{:>8}{:>8}{:>7}{:>7}{:>8}", "queries", "errors", "stale", "oldest", "slowest");
    }
    println!();
    for n in 0..LINES {
        let state = if DOWN.contains(&(n * LINE)) { "DOWN" } else { "up" };
        print!("{:>3} s {state:<5}", n * LINE / 1_000);
        for Outcome { lines, .. } in &services {
            let Line { queries, errors, stale, oldest, slowest, .. } = lines[n as usize];
            let oldest = format!("{} s", oldest.div_ceil(1_000));
            print!(" |{queries:>8}{errors:>8}{stale:>7}{oldest:>7}{:>8}", format!("{slowest} ms"));
        }
        println!();
    }
    println!("\nWhile the source was down:");
    for Outcome { title, lines, .. } in &services {
        let down = || lines[(DOWN.start / LINE) as usize..(DOWN.end / LINE) as usize].iter();
        let queries: u64 = down().map(|line| line.queries).sum();
        let [answers, errors]: [u64; 2] =
            [down().map(|line| line.answers).sum(), down().map(|line| line.errors).sum()];
        println!(
            "  {title:<22} {queries:>6} queries to it, {answers:>6} answers, {errors:>6} errors"
        );
    }
    for Outcome { title, explained, .. } in &services {
        println!("\nAt its end, {title}, of key 1:\n{explained}");
    }
    Ok(())
}
