//! Between a tier and the server.

use super::ms;
use super::server::Server;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Passes on, stalls, or hangs up in the middle of a reply.
pub(super) struct Proxy {
    port: u16,
    /// So many of the first connections are stalled: nothing is passed on.
    pub(super) stalled: Arc<AtomicUsize>,
    /// So many bytes of replies are still passed on; then all connections are cut.
    pub(super) allowance: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub(super) fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self {
            port,
            stalled: Arc::default(),
            allowance: Arc::new(AtomicUsize::new(usize::MAX)),
            streams: Arc::default(),
        };
        let (stalled, allowance) = (Arc::clone(&proxy.stalled), Arc::clone(&proxy.allowance));
        let (streams, socket) = (Arc::clone(&proxy.streams), server.socket());
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                streams.lock().unwrap().push(client.try_clone().unwrap());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let count = Arc::clone(&stalled);
                let all = Arc::new(AtomicUsize::new(usize::MAX));
                thread::spawn(move || pass(from, to, &|| is_stalled(&count, number), &all));
                let (count, allowance) = (Arc::clone(&stalled), Arc::clone(&allowance));
                thread::spawn(move || {
                    let to = client.try_clone().unwrap();
                    pass(server, to, &|| is_stalled(&count, number), &allowance);
                    _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        proxy
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

fn is_stalled(count: &AtomicUsize, number: usize) -> bool {
    number < count.load(Ordering::Relaxed)
}

fn pass(
    mut from: impl Read,
    mut to: impl Write,
    is_stalled: &dyn Fn() -> bool,
    left: &AtomicUsize,
) {
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        while is_stalled() {
            thread::sleep(ms(1));
        }
        let allowed = left.load(Ordering::Relaxed);
        if to.write_all(&bytes[..len.min(allowed)]).is_err() || len > allowed {
            return;
        }
        if allowed != usize::MAX {
            left.fetch_sub(len, Ordering::Relaxed);
        }
    }
}
