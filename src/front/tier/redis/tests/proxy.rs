//! Between a tier and the server.

use super::server::Server;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Passes on, stalls, or hangs up in the middle of a reply.
pub(super) struct Proxy {
    port: u16,
    pub(super) stalled: Stall,
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
            stalled: Stall::default(),
            allowance: Arc::new(AtomicUsize::new(usize::MAX)),
            streams: Arc::default(),
        };
        let (stalled, allowance) = (proxy.stalled.clone(), Arc::clone(&proxy.allowance));
        let (streams, socket) = (Arc::clone(&proxy.streams), server.socket());
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let Ok(server) = UnixStream::connect(&socket) else { continue };
                streams.lock().unwrap().push(client.try_clone().unwrap());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let stall = stalled.clone();
                let all = Arc::new(AtomicUsize::new(usize::MAX));
                thread::spawn(move || pass(from, to, &|| stall.wait(number), &all));
                let (stall, allowance) = (stalled.clone(), Arc::clone(&allowance));
                thread::spawn(move || {
                    let to = client.try_clone().unwrap();
                    pass(server, to, &|| stall.wait(number), &allowance);
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

/// So many of the first connections are stalled: nothing is passed on.
#[derive(Clone, Default)]
pub(super) struct Stall(Arc<(Mutex<usize>, Condvar)>);

impl Stall {
    pub(super) fn set(&self, first: usize) {
        *self.0.0.lock().unwrap() = first;
        self.0.1.notify_all();
    }

    fn wait(&self, number: usize) {
        let first = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(first, |first| number < *first).unwrap());
    }
}

fn pass(mut from: impl Read, mut to: impl Write, wait: &dyn Fn(), left: &AtomicUsize) {
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        wait();
        let allowed = left.load(Ordering::Relaxed);
        if to.write_all(&bytes[..len.min(allowed)]).is_err() || len > allowed {
            return;
        }
        if allowed != usize::MAX {
            left.fetch_sub(len, Ordering::Relaxed);
        }
    }
}
