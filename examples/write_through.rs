//! Write-through: a write goes to the database and then to the cache, in one call. Readers then never wait
//! for a query, and never see a value that the database refused.
//!
//! Run it with `cargo run --example write_through`.

use larder::Cache;
use rusqlite::Connection;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE stock (sku TEXT PRIMARY KEY, pieces INTEGER CHECK (pieces >= 0))",
    )?;
    let stock: Cache<String, i64> = Cache::new(10_000);
    let write = |sku: &String, pieces: &i64| {
        db.execute("REPLACE INTO stock VALUES (?, ?)", (sku, pieces)).map(drop)
    };
    let read = |sku: &str| {
        stock.get_or_load(sku, || {
            println!("  (a query for {sku})");
            db.query_row("SELECT pieces FROM stock WHERE sku = ?", [sku], |row| row.get(0))
        })
    };

    stock.write_through("lamp".to_owned(), 7, write)?;
    println!("written, and read without a query: {}", read("lamp")?);

    let refused = stock.write_through("lamp".to_owned(), -1, write).unwrap_err();
    println!("refused: {refused}");
    println!("a write that failed leaves nothing cached: {:?}", stock.get("lamp"));
    println!("so the database is asked: {}", read("lamp")?);

    // a reader that loads the old value while a write is under way
    stock.remove("lamp");
    stock.write_through("lamp".to_owned(), 3, |sku, pieces| {
        println!("a reader during the write: {}", read(sku).expect("a row"));
        write(sku, pieces)
    })?;
    println!("what it read is not what is cached: {:?}", stock.get("lamp"));
    Ok(())
}
