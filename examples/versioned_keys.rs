//! Versioned keys: the version of a value is part of its key, so a value never has to be invalidated. A
//! reader who asks for a newer version does not find the old one; nobody asks for that any more, and it is
//! evicted. Only the version has to be current, and it is small.
//!
//! Run it with `cargo run --example versioned_keys`.

use std::cell::Cell;
use std::sync::Arc;

use larder::{Cache, LoadError, Loaded};
use rusqlite::Connection;

type Failed = LoadError<rusqlite::Error>;

struct Pages {
    db: Connection,
    rendered: Cell<u32>,
    versions: Cache<i64, i64>,
    /// By id and version: an entry is right for ever, on every machine that has it.
    texts: Cache<(i64, i64), Arc<str>>,
}

impl Pages {
    fn page(&self, id: i64) -> Result<Arc<str>, Failed> {
        let version = self.versions.get_or_load(&id, || {
            let select = "SELECT version FROM page WHERE id = ?";
            self.db.query_row(select, [id], |row| row.get(0))
        })?;
        let got = self.texts.at(&(id, version)).load(|_| {
            self.rendered.set(self.rendered.get() + 1);
            let select = "SELECT text, version FROM page WHERE id = ?";
            let (text, now): (String, i64) =
                self.db.query_row(select, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let page = Loaded::new(Arc::from(format!("<p>{text}</p> (version {now})")));
            // a newer version was written meanwhile: right for this reader, but not for this key
            Ok(if now == version { page } else { page.no_store() })
        })?;
        Ok(got.value)
    }

    /// The one small thing that is invalidated. The fence keeps a reader who asked before the write from
    /// storing the old version after it.
    fn edit(&self, id: i64, text: &str) -> rusqlite::Result<()> {
        let _fence = self.versions.writing(&id);
        let update = "UPDATE page SET text = ?, version = version + 1 WHERE id = ?";
        self.db.execute(update, (text, id)).map(drop)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE page (id INTEGER PRIMARY KEY, version INTEGER, text TEXT);
         INSERT INTO page VALUES (1, 1, 'a draft')",
    )?;
    let (versions, texts) = (Cache::new(100_000), Cache::new(1_000));
    let pages = Pages { db, rendered: Cell::new(0), versions, texts };
    for text in ["a better one", "the last one"] {
        println!("{}, rendered so far: {}", pages.page(1)?, pages.rendered.get());
        println!("{}, rendered so far: {}", pages.page(1)?, pages.rendered.get());
        pages.edit(1, text)?;
    }
    println!("{}, rendered so far: {}", pages.page(1)?, pages.rendered.get());
    println!("pages kept, the old ones until eviction takes them: {}", pages.texts.len());
    Ok(())
}
