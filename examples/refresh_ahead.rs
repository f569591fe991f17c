//! Refresh-ahead: a value in use is loaded again shortly before it expires, so that nobody waits. Four
//! callers ask for a page that takes 50 ms to query and lives for half a second: first without
//! `refresh_ahead`, then with it.
//!
//! Run it with `cargo run --release --example refresh_ahead`; it takes about 10 seconds.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, LoadCx, Loaded, Loader, RefreshAhead};
use rusqlite::Connection;

const TTL: Duration = Duration::from_millis(500);
const QUERY: Duration = Duration::from_millis(50);
const RUN: Duration = Duration::from_secs(5);

/// The read side of an application: the cache asks this, and nobody else does.
struct Bestsellers(Mutex<Connection>);

impl Loader<String, String> for Bestsellers {
    type Error = rusqlite::Error;

    fn load(&self, genre: &String, _: &LoadCx<String>) -> Result<Loaded<String>, Self::Error> {
        thread::sleep(QUERY); // a database that is farther away than SQLite
        let sql = "SELECT group_concat(title, ', ') FROM
                   (SELECT title FROM book WHERE genre = ? ORDER BY sold DESC LIMIT 2)";
        self.0.lock().unwrap().query_row(sql, [genre], |row| row.get(0)).map(Loaded::new)
    }
}

fn library() -> rusqlite::Result<Bestsellers> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE book (title TEXT, genre TEXT, sold INTEGER);
         INSERT INTO book VALUES ('Dune', 'sf', 20), ('Solaris', 'sf', 9), ('Emma', 'novel', 12),
                                 ('Ubik', 'sf', 11);",
    )?;
    Ok(Bestsellers(Mutex::new(db)))
}

fn run(when: RefreshAhead) -> Result<(), Box<dyn std::error::Error>> {
    let pages = Cache::builder()
        .max_entries(1_000)
        .time_to_live(TTL)
        .refresh_ahead(when)
        .build_loading(library()?)?;
    assert_eq!(pages.load("sf")?, "Dune, Ubik"); // the first query, which cannot be avoided
    let started = Instant::now();
    let slow = thread::scope(|scope| {
        let caller = || {
            let mut slow = 0;
            while started.elapsed() < RUN {
                let asked = Instant::now();
                pages.load("sf").expect("the database is there");
                slow += u32::from(asked.elapsed() > QUERY / 5);
                thread::sleep(Duration::from_millis(1));
            }
            slow
        };
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).sum::<u32>()
    });
    let stats = pages.stats();
    println!("{when:?}: {} queries, {slow} of {} requests waited", stats.loads, stats.hits);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(RefreshAhead::Never)?;
    run(RefreshAhead::CostAware { beta: 1.0 })
}
