//! Read-through: the cache owns the loader. Callers ask the cache and nothing else; where a value comes from,
//! how it is put together and when it is refreshed is defined in one place.
//!
//! Run it with `cargo run --example read_through`.

use std::sync::Mutex;
use std::time::Duration;

use larder::{Cache, LoadCx, Loaded, Loader};
use rusqlite::{Connection, OptionalExtension, params_from_iter};

/// What is behind the cache.
struct Users {
    db: Mutex<Connection>,
}

impl Users {
    fn db(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Loader<i64, String> for Users {
    type Error = rusqlite::Error;

    fn load(&self, id: &i64, cx: &LoadCx<String>) -> rusqlite::Result<Loaded<String>> {
        println!("  (a query for user {id}: {:?})", cx.reason());
        let select = "SELECT name FROM user WHERE id = ?";
        let name: Option<String> =
            self.db().query_row(select, [id], |row| row.get(0)).optional()?;
        Ok(name.into()) // `None` is cached too, for `negative_ttl`
    }

    /// Many keys, one query. A key that is not in the result counts as missing.
    fn load_many(&self, ids: &[i64]) -> rusqlite::Result<Vec<(i64, Loaded<String>)>> {
        println!("  (one query for users {ids:?})");
        let places = vec!["?"; ids.len()].join(",");
        let select = format!("SELECT id, name FROM user WHERE id IN ({places})");
        let db = self.db();
        let mut select = db.prepare(&select)?;
        let rows = select
            .query_map(params_from_iter(ids), |row| Ok((row.get(0)?, Loaded::new(row.get(1)?))))?;
        rows.collect()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO user VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Barbara')",
    )?;
    let users = Cache::builder()
        .max_entries(10_000)
        .time_to_live(Duration::from_secs(300))
        .negative_ttl(Duration::from_secs(5))
        .build_loading(Users { db: Mutex::new(db) })?;

    println!("user 1: {}", users.load(&1)?);
    println!("user 1: {}", users.load(&1)?);
    let (found, missing) = users.load_many(&[1, 2, 3, 4]).into_result()?;
    let names: Vec<_> = found.iter().map(|(id, got)| format!("{id} {}", got.value)).collect();
    println!("users 1 to 4: {}; missing: {missing:?}", names.join(", "));
    println!("user 4: {}", users.load(&4).unwrap_err());
    users.remove(&2); // it can do all that a `Cache` can
    println!("user 2: {}", users.load(&2)?);
    Ok(())
}
