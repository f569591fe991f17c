//! A redis server of a test's own: a child process, on a unix socket in a directory of its own.

// every test binary compiles all of this and uses its own part
#![allow(dead_code)]

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// What a call of a tier, a connection and whatever else a test waits for may take. Far more than it takes on
/// a quiet machine: a slow one must not look like a slow server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The environment variable that names the server's program.
const PROGRAM: &str = "LARDER_REDIS";

/// Ends with the test.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
    port: Option<u16>,
}

impl Server {
    /// The program that `LARDER_REDIS` names (a Valkey, or a Redis of another version), else `redis-server`.
    /// `None` where there is no `redis-server` and none was named: then the test says so, and is none.
    pub(crate) fn start() -> Option<Self> {
        let mut server = Self::spawn(None)?;
        assert!(server.is_up(), "the server ended");
        Some(server)
    }

    /// One that answers on TCP as well.
    pub(crate) fn start_tcp() -> Option<Self> {
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let port = free.local_addr().expect("it is bound").port();
            drop(free);
            let mut server = Self::spawn(Some(port))?;
            // it ends at once if somebody else has got the port meanwhile
            if server.is_up() {
                return Some(server);
            }
        }
        panic!("the server ended each time that it was started");
    }

    fn spawn(port: Option<u16>) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = format!("larder-redis-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        std::fs::create_dir_all(&dir).expect("there is a place for temporary files");
        match spawn(&dir, port) {
            Ok(child) => Some(Self { child, dir, port }),
            Err(error) => {
                let is_needed = std::env::var_os(PROGRAM).is_some();
                assert!(!is_needed, "{PROGRAM} does not start: {error}");
                let test = thread::current().name().unwrap_or("a test").to_owned();
                eprintln!("{test}: left out, there is no redis-server: {error}");
                None
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        match self.port {
            Some(port) => format!("redis://127.0.0.1:{port}"),
            None => format!("unix://{}", self.socket().display()),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Kills it, as a crash does. It forgets all.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is there");
        self.child.wait().expect("it was killed");
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.dir, self.port).expect("it was there before");
        assert!(self.is_up(), "the server ended");
    }

    /// Waits until it answers, or has ended.
    fn is_up(&mut self) -> bool {
        let mut is_over = false;
        eventually(|| {
            is_over = self.child.try_wait().expect("it is ours").is_some();
            is_over || UnixStream::connect(self.socket()).is_ok()
        });
        !is_over
    }

    /// From now on it answers nobody, until it [goes on](Self::go_on): unlike a pause that it is told to make,
    /// this does not end while the test is held up.
    pub(crate) fn stop(&self) {
        self.signal("STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    pub(crate) fn client(&self) -> Client {
        let stream = UnixStream::connect(self.socket()).expect("it is up");
        Client(BufReader::new(stream))
    }
}

fn spawn(dir: &std::path::Path, port: Option<u16>) -> std::io::Result<Child> {
    Command::new(std::env::var_os(PROGRAM).unwrap_or("redis-server".into()))
        .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
        .args(["--hz", "100", "--bind", "127.0.0.1"])
        .args(["--port", &port.unwrap_or(0).to_string()])
        .arg("--unixsocket")
        .arg(dir.join("socket"))
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Another program at the same server.
pub(crate) struct Client(BufReader<UnixStream>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Bytes(Vec<u8>),
    Error(String),
    List(Vec<Reply>),
}

impl Client {
    pub(crate) fn call(&mut self, parts: &[&[u8]]) -> Reply {
        let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            bytes.extend(format!("${}\r\n", part.len()).bytes());
            bytes.extend(*part);
            bytes.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes).expect("the server is up");
        self.read()
    }

    /// A command in words.
    pub(crate) fn say(&mut self, words: &str) -> Reply {
        let words: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    pub(crate) fn int(&mut self, words: &str) -> i64 {
        match self.say(words) {
            Reply::Int(int) => int,
            other => panic!("{words}: {other:?}"),
        }
    }

    pub(crate) fn bytes(&mut self, words: &str) -> Vec<u8> {
        match self.say(words) {
            Reply::Bytes(bytes) => bytes,
            other => panic!("{words}: {other:?}"),
        }
    }

    fn read(&mut self) -> Reply {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server is up");
        let line = line.trim_end();
        let (kind, rest) = line.split_at(1);
        let int = || rest.parse::<i64>().expect("a number");
        match kind {
            "+" => Reply::Bytes(rest.as_bytes().to_vec()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(int()),
            "$" | "*" if int() < 0 => Reply::Nil,
            "$" => {
                let len = usize::try_from(int()).expect("it is not negative");
                let mut bytes = vec![0; len + 2];
                self.0.read_exact(&mut bytes).expect("the server is up");
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(bytes)
            }
            "*" => Reply::List((0..int()).map(|_| self.read()).collect()),
            _ => panic!("{line}"),
        }
    }
}

/// Waits for what nothing wakes us for.
pub(crate) fn eventually(holds: impl FnMut() -> bool) {
    assert!(within(PATIENCE, holds), "it did not come true in {PATIENCE:?}");
}

pub(crate) fn within(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Polls a future on this thread, without any runtime.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    struct CountingUnpark(Thread, AtomicU64);
    impl Wake for CountingUnpark {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(CountingUnpark(thread::current(), AtomicU64::new(0))));
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        thread::park();
    }
}
