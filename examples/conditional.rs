//! Conditional requests: an expired value is asked for with its `ETag`, and "304 Not Modified" renews it
//! without sending it again.
//!
//! Run it with `cargo run --example conditional`.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, routing::get};
use larder::{Cache, Clock, LoadCx, Loaded};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Raised whenever the page is edited.
static VERSION: AtomicU32 = AtomicU32::new(1);

/// The source: a page of 100 KB that has an `ETag`.
async fn page(asked: HeaderMap) -> impl IntoResponse {
    let etag = format!("\"v{}\"", VERSION.load(Relaxed));
    let is_known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| *known == etag);
    let (status, body) = if is_known {
        (StatusCode::NOT_MODIFIED, String::new())
    } else {
        (StatusCode::OK, "x".repeat(100_000))
    };
    (status, [(header::ETAG, etag)], body)
}

/// One request to it, as any HTTP client makes it.
fn fetch(source: &str, cx: &LoadCx<Arc<str>>) -> std::io::Result<Loaded<Arc<str>>> {
    // a value that is still cached, but has expired, has a validator to ask with
    let condition =
        cx.validator().map_or(String::new(), |etag| format!("If-None-Match: {etag}\r\n"));
    let request = format!("GET / HTTP/1.0\r\n{condition}\r\n");
    let mut connection = TcpStream::connect(source)?;
    connection.write_all(request.as_bytes())?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply)?;
    println!("  {:<16} {} bytes", reply.lines().next().unwrap_or_default(), reply.len());
    if reply.starts_with("HTTP/1.0 304") {
        return Ok(Loaded::unchanged());
    }
    let (head, body) =
        reply.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no body"))?;
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default();
    Ok(Loaded::new(Arc::from(body)).validator(etag))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let source = listener.local_addr()?.to_string();
    let server = Router::new().route("/", get(page));
    runtime.spawn(async { axum::serve(listener, server).await });

    let (clock, hand) = Clock::manual(); // so that nobody has to wait for a minute here
    let pages: Cache<String, Arc<str>> = Cache::builder()
        .max_entries(1_000)
        .time_to_live(Duration::from_secs(60))
        .stale_if_error(Duration::from_secs(3600)) // keeps expired values, to be renewed
        .clock(clock)
        .build()?;
    for what in ["first", "again", "a minute later", "edited meanwhile"] {
        match what {
            "a minute later" => hand.advance(Duration::from_secs(60)),
            "edited meanwhile" => {
                VERSION.fetch_add(1, Relaxed);
                hand.advance(Duration::from_secs(60));
            }
            _ => {}
        }
        println!("{what}:");
        let got = pages.at("/").load(|cx| fetch(&source, cx))?;
        let etag = got.validator.as_deref().unwrap_or("none");
        println!("  {:?}, {} bytes, version {etag}", got.how, got.value.len());
    }
    let stats = pages.stats();
    println!("{} requests, {} of them answered \"unchanged\"", stats.loads, stats.unchanged);
    assert_eq!((stats.loads, stats.unchanged), (3, 1));
    Ok(())
}
