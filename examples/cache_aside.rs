//! Cache-aside: the application asks the cache, loads what is not there, and removes what it changes. The
//! database and the cache know nothing of each other.
//!
//! Run it with `cargo run --example cache_aside`.

use std::cell::Cell;
use std::time::Duration;

use larder::{Cache, LoadError};
use rusqlite::{Connection, OptionalExtension};

struct Users {
    db: Connection,
    queries: Cell<u32>,
    cache: Cache<i64, String>,
}

impl Users {
    /// Reads: one query for any number of callers. That there is no such user is cached as well.
    fn name(&self, id: i64) -> Result<Option<String>, LoadError<rusqlite::Error>> {
        self.cache.get_or_load_optional(&id, || {
            self.queries.set(self.queries.get() + 1);
            let select = "SELECT name FROM user WHERE id = ?";
            self.db.query_row(select, [id], |row| row.get(0)).optional()
        })
    }

    /// Writes: the fence is held around the statement, so that no reader who asked the database before it
    /// stores the old name after it. The cached name is removed when the fence is dropped, whether or not the
    /// write succeeded.
    fn rename(&self, id: i64, name: &str) -> rusqlite::Result<()> {
        let _fence = self.cache.writing(&id);
        self.db.execute("REPLACE INTO user VALUES (?, ?)", (id, name)).map(drop)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO user VALUES (1, 'Ada')",
    )?;
    let cache = Cache::builder()
        .max_entries(10_000)
        .time_to_live(Duration::from_secs(300)) // for changes that nobody tells us of
        .negative_ttl(Duration::from_secs(5))
        .build()?;
    let users = Users { db, queries: Cell::new(0), cache };
    let show = |what: &str, id| {
        let name = users.name(id)?;
        println!("{what:<28} {name:?}, {} queries so far", users.queries.get());
        Ok::<_, LoadError<rusqlite::Error>>(())
    };
    show("user 1, first time:", 1)?;
    show("user 1, again:", 1)?;
    show("user 2, who is not there:", 2)?;
    show("user 2, again:", 2)?;
    users.rename(1, "Ada Lovelace")?;
    users.rename(2, "Grace")?;
    show("user 1, after a write:", 1)?;
    show("user 2, after a write:", 2)?;
    Ok(())
}
