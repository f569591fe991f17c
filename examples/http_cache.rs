//! A cache that speaks HTTP on both sides, in front of a slow upstream: the upstream's `Cache-Control` and
//! `ETag` say how long a page is kept and how to ask for it again, and clients that have a page already get a
//! `304`.
//!
//! `cargo run --example http_cache --features http` starts it, sends itself some requests, and ends;
//! with `-- --serve 127.0.0.1:8080` it keeps serving, for `curl -i -H 'If-None-Match: "v1"' ...`.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use larder::{Cache, Downstream, Upstream};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Site {
    pages: Cache<String, String>,
    upstream: Upstream,
    downstream: Downstream,
}

/// Stands for a request to another server: a page that is fresh for a second, or a 304 if it is still the
/// same.
async fn fetch(
    path: &str,
    if_none_match: Option<&str>,
) -> Result<(u16, HeaderMap, String), String> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    if path == "broken" {
        return Err("the upstream is away".to_owned());
    }
    let mut headers = HeaderMap::new();
    headers.insert("cache-control", "public, max-age=1".parse().expect("legal"));
    headers.insert("etag", "\"v1\"".parse().expect("legal"));
    let status = if if_none_match == Some("\"v1\"") { 304 } else { 200 };
    println!("    upstream: {status}, asked with {if_none_match:?}");
    Ok((status, headers, format!("<h1>{path}</h1>")))
}

async fn show(State(site): State<Site>, Path(path): Path<String>, request: HeaderMap) -> Response {
    let load = |cx: larder::LoadCx<String>| {
        let (path, upstream) = (path.clone(), site.upstream.clone());
        async move {
            let version = upstream.if_none_match(&cx);
            let version = version.as_ref().and_then(|version| version.to_str().ok());
            let (status, headers, body) = fetch(&path, version).await?;
            Ok::<_, String>(match status {
                304 => upstream.unchanged(&headers),
                _ => upstream.loaded(body, &headers),
            })
        }
    };
    match site.pages.at(path.as_str()).load_async(load).await {
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        Ok(got) => {
            let headers = site.downstream.headers(&got);
            if site.downstream.is_not_modified(&request, &got) {
                return (StatusCode::NOT_MODIFIED, headers).into_response();
            }
            (headers, got.value).into_response()
        }
    }
}

/// Sends a request and prints the answer, without what the server adds to it.
fn send(to: SocketAddr, path: &str, version: &str) -> std::io::Result<()> {
    println!("GET {path} {version}");
    let mut stream = TcpStream::connect(to)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{version}\r\n")?;
    let answer = std::io::read_to_string(stream)?;
    let dull = |line: &&str| ["content-", "connection", "date"].iter().any(|d| line.starts_with(d));
    answer.lines().filter(|line| !dull(line)).for_each(|line| println!("    {line}"));
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pages = Cache::builder()
        .max_entries(10_000)
        .time_to_live(Duration::from_secs(60)) // where the upstream says nothing
        .stale_if_error(Duration::from_secs(600))
        .build()?;
    let upstream = Upstream::of(&pages).shared();
    let site = Site { pages, upstream, downstream: Downstream::new("larder") };
    let router = Router::new().route("/{path}", get(show)).with_state(site);
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
    let demonstration = move || {
        send(address, "/lamp", "")?;
        send(address, "/lamp", "")?;
        send(address, "/lamp", "if-none-match: \"v1\"\r\n")?;
        std::thread::sleep(Duration::from_millis(1_100)); // expired: confirmed, not sent again
        send(address, "/lamp", "")?;
        send(address, "/broken", "")
    };
    Ok(tokio::task::spawn_blocking(demonstration).await??)
}
