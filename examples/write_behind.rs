//! Write-behind: all threads change counters, a hundred thousand times a second, and the database gets only a
//! small part of these writes, in batches, although three batches in ten fail.
//!
//! Run it with `cargo run --example write_behind`.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Altered, Cache, Change, WriteBehind};
use rusqlite::{Connection, OptionalExtension, Row};

const THREADS: i64 = 8;
const VIEWS: i64 = 20_000;
const PAGES: i64 = 100;

fn main() -> anyhow::Result<()> {
    let db = Connection::open_in_memory()?;
    db.execute_batch("CREATE TABLE page (id INTEGER PRIMARY KEY, views INTEGER NOT NULL)")?;
    let db = Arc::new(Mutex::new(db));
    let (transactions, rows) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));

    // far too small for all pages: what is evicted is in the queue until it is written, and loaded after that
    let views: Cache<i64, i64> = Cache::new(20);
    let writer = {
        let (db, transactions, rows) = (db.clone(), transactions.clone(), rows.clone());
        move |batch: &[Change<'_, i64, i64>]| -> anyhow::Result<()> {
            let attempt = transactions.fetch_add(1, Relaxed);
            anyhow::ensure!(attempt % 10 >= 3, "the database is locked");
            let mut db = db.lock().expect("nobody panics with it");
            let transaction = db.transaction()?; // all of the batch, or nothing
            for change in batch {
                match *change {
                    Change::Put(id, views) => {
                        transaction.execute("REPLACE INTO page VALUES (?, ?)", [id, views])?
                    }
                    Change::Delete(id) => {
                        transaction.execute("DELETE FROM page WHERE id = ?", [id])?
                    }
                };
                rows.fetch_add(1, Relaxed);
            }
            Ok(transaction.commit()?)
        }
    };
    let queue = WriteBehind::builder(views.clone(), writer)
        .max_delay(Duration::from_millis(20)) // what a crash loses, and how fresh the database is
        .retry(Duration::from_millis(5), Duration::from_millis(100))
        .on_give_up(|lost| eprintln!("not written: page {}, {:?}", lost.key, lost.value))
        .build()?;

    let started = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (queue, views, db) = (queue.clone(), &views, &db);
            scope.spawn(move || {
                for view in 0..VIEWS {
                    let id = (thread + view) % PAGES;
                    // what is neither in the queue nor in the cache is in the database
                    let stored = || views.get_or_load(&id, || select(db, id)).ok();
                    let count = queue.alter(&id, |n| match n.or_else(stored) {
                        Some(n) => Altered::Put(n + 1),
                        None => Altered::Keep(None), // the count could not be read
                    });
                    assert!(count.expect("it is open").is_some(), "it reads");
                }
            });
        }
    });
    println!("{} changes accepted in {:.1?}", THREADS * VIEWS, started.elapsed());
    println!("keys still to be written: {}", queue.pending());
    queue.close()?;
    println!("and written, failures and all, after {:.1?}", started.elapsed());

    let sum = "SELECT COUNT(*), SUM(views) FROM page";
    let numbers = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let db = db.lock().expect("nobody panics with it");
    let (pages, counted): (i64, i64) = db.query_row(sum, [], numbers)?;
    println!("the database has {pages} pages with {counted} views");
    println!("it took {transactions:?} transactions and {rows:?} rows");
    assert_eq!((pages, counted), (PAGES, THREADS * VIEWS));
    Ok(())
}

fn select(db: &Mutex<Connection>, id: i64) -> rusqlite::Result<i64> {
    let db = db.lock().expect("nobody panics with it");
    let mut statement = db.prepare_cached("SELECT views FROM page WHERE id = ?")?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?.unwrap_or(0))
}
