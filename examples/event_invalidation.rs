//! Event-based invalidation: the database says what changed, and the cache forgets just that, by key and by
//! tag. Writers need not know of the cache.
//!
//! Here the events come from `SQLite`'s update hook; a change feed (logical replication, a stream of outbox
//! rows) or a message bus is used in the same way.
//!
//! Run it with `cargo run --example event_invalidation`.

use std::cell::Cell;

use larder::{Cache, LoadError, Loaded};
use rusqlite::Connection;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE product (id INTEGER PRIMARY KEY, category TEXT, name TEXT);
         INSERT INTO product VALUES (1, 'lamps', 'desk lamp'), (2, 'lamps', 'floor lamp'),
                                    (3, 'chairs', 'stool')",
    )?;
    let cache: Cache<String, String> = Cache::new(10_000);

    // The hook lives as long as the connection, and does not keep the cache alive. It is called before the
    // commit. Readers here use this connection, so none can come in between. If they have their own, collect
    // the changes in the hook, and tell the cache about them after the commit.
    let news = cache.invalidator();
    db.update_hook(Some(move |_, _: &str, table: &str, id: i64| {
        news.remove(format!("{table}/{id}").as_str()); // the row
        news.remove_tag(table); // everything made of several rows
    }))?;

    let queries = Cell::new(0);
    let query = |sql, of: &dyn rusqlite::ToSql| {
        queries.set(queries.get() + 1);
        db.query_row(sql, [of], |row| row.get::<_, String>(0))
    };
    let product = |id: i64| {
        let load = || query("SELECT name FROM product WHERE id = ?", &id);
        cache.get_or_load(format!("product/{id}").as_str(), load)
    };
    let list = |category: &str| {
        let sql = "SELECT group_concat(name, ', ') FROM product WHERE category = ?";
        let load = |_: &_| Ok(Loaded::new(query(sql, &category)?).tag("product"));
        cache.at(format!("list/{category}").as_str()).load(load).map(|got| got.value)
    };
    let show = |when: &str| {
        let before = queries.get();
        println!("{when}: {} | {} | {}", product(1)?, product(2)?, list("lamps")?);
        println!("  {} queries", queries.get() - before);
        Ok::<_, LoadError<rusqlite::Error>>(())
    };
    show("at first")?;
    show("again")?;
    db.execute("UPDATE product SET name = 'reading lamp' WHERE id = 2", [])?;
    show("after an update of product 2")?;
    db.execute("INSERT INTO product VALUES (4, 'lamps', 'torch')", [])?;
    show("after an insert")?;

    Ok(())
}
