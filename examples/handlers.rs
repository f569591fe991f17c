//! A web server whose handlers read through the cache: one query for any number of requests, a
//! cached 404, errors with the right status, and an update that takes effect at once.
//!
//! `cargo run --example handlers` starts it, sends itself some requests, and ends;
//! `cargo run --example handlers -- --serve 127.0.0.1:8080` keeps serving.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use larder::{Cache, LoadError};
use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the handlers share. Cloning it is cheap: all three are handles.
#[derive(Clone)]
struct App {
    db: Arc<Mutex<Connection>>,
    queries: Arc<AtomicU32>,
    products: Cache<u32, Value>,
}

type Reply = Result<Json<Value>, Failure>;

/// Any reply but a product.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, text) = self;
        let later = (status == StatusCode::SERVICE_UNAVAILABLE).then_some([(RETRY_AFTER, "1")]);
        (status, later, text).into_response()
    }
}

async fn show(State(app): State<App>, Path(id): Path<u32>) -> Reply {
    let load = || app.query(move |db| select(db, id));
    match app.products.get_or_load_optional_async(&id, load).await {
        Ok(Some(product)) => Ok(Json(product)),
        Ok(None) => Err(Failure(StatusCode::NOT_FOUND, format!("no product {id}"))),
        Err(error) => Err(Failure(status_of(&error), error.to_string())),
    }
}

async fn update(State(app): State<App>, Path(id): Path<u32>, Json(new): Json<Value>) -> Reply {
    let (Some(name), Some(cents)) = (new["name"].as_str(), new["cents"].as_i64()) else {
        return Err(Failure(StatusCode::BAD_REQUEST, "a name and cents, please".to_owned()));
    };
    let (row, products) = ((id, name.to_owned(), cents), app.products.clone());
    let written = app.query(move |db| {
        let written = db.execute("REPLACE INTO product VALUES (?, ?, ?)", row);
        // After the write, whether or not it succeeded, and here, where no client that hangs up can stop it:
        // this removes the old value or 404, and no load in flight stores what it may have read before.
        products.remove(&id);
        written
    });
    written.await.map_err(|error| Failure(StatusCode::BAD_GATEWAY, error.to_string()))?;
    Ok(Json(new))
}

/// 502 if the source failed, 503 if it may do better in a moment, 500 for a bug of ours.
fn status_of<E>(error: &LoadError<E>) -> StatusCode {
    match error {
        LoadError::NotFound => StatusCode::NOT_FOUND,
        LoadError::Loader(_) => StatusCode::BAD_GATEWAY,
        LoadError::TimedOut | LoadError::Overloaded | LoadError::CircuitOpen => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl App {
    /// Runs `job` with the connection, on a thread that may block.
    async fn query<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let (db, queries) = (self.db.clone(), self.queries.clone());
        let run = move || {
            queries.fetch_add(1, Relaxed);
            job(&db.lock().unwrap_or_else(PoisonError::into_inner))
        };
        tokio::task::spawn_blocking(run).await.expect("the query does not panic")
    }
}

fn select(db: &Connection, id: u32) -> rusqlite::Result<Option<Value>> {
    let mut statement = db.prepare_cached("SELECT name, cents FROM product WHERE id = ?1")?;
    let product = statement.query_row([id], |row| {
        let (name, cents): (String, u32) = (row.get(0)?, row.get(1)?);
        Ok(json!({ "id": id, "name": name, "cents": cents }))
    });
    product.optional()
}

/// Sends one request and reads the whole answer.
fn send(to: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n")?;
    write!(stream, "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")?;
    std::io::read_to_string(stream)
}

fn demonstrate(to: SocketAddr, queries: &AtomicU32) -> std::io::Result<()> {
    let lamp = r#"{"cents":4900,"name":"lamp"}"#;
    for (method, path, body, note) in [
        ("GET", "/products/1", "", "cold"),
        ("GET", "/products/1", "", "cached"),
        ("GET", "/products/7", "", "not in the database"),
        ("GET", "/products/7", "", "and that is cached too"),
        ("GET", "/products/2", "", "its price is not a number"),
        ("PUT", "/products/7", lamp, "replaces the cached 404"),
        ("GET", "/products/7", "", "the new row"),
    ] {
        let before = queries.load(Relaxed);
        let answer = send(to, method, path, body)?;
        let asked = queries.load(Relaxed) - before;
        let (status, body) = (answer.lines().next(), answer.lines().last());
        println!("{method} {path}, {note}; queries: {asked}");
        println!("    {} {}", status.unwrap_or("no answer"), body.unwrap_or_default());
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, cents);
         INSERT INTO product VALUES (1, 'chair', 12900), (2, 'table', 'ask us');",
    )?;
    let products = Cache::builder()
        .max_entries(10_000)
        .time_to_live(Duration::from_secs(60))
        .negative_ttl(Duration::from_secs(10))
        .load_timeout(Duration::from_secs(5))
        .max_concurrent_loads(16)
        .circuit_breaker(10, Duration::from_secs(2))
        .build()?;
    let (db, queries) = (Arc::new(Mutex::new(db)), Arc::new(AtomicU32::new(0)));
    let app = App { db, queries: queries.clone(), products };
    let router = Router::new().route("/products/{id}", get(show).put(update)).with_state(app);

    let mut args = std::env::args().skip(1);
    let serve = args.next().is_some_and(|arg| arg == "--serve");
    let listener = TcpListener::bind(args.next().as_deref().unwrap_or("127.0.0.1:0")).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    let server = axum::serve(listener, router).into_future();
    if serve {
        return Ok(server.await?);
    }
    tokio::spawn(server);
    Ok(tokio::task::spawn_blocking(move || demonstrate(address, &queries)).await??)
}
