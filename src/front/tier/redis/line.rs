//! A caller's end of the connection: requests go to the tier's thread, and what waits for the reply needs
//! no runtime.

use super::hub::Hub;
use super::scripts;
use super::trouble;
use crate::rules::tier::TierError;
use redis::{Pipeline, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

pub(super) type Replies = Result<Vec<Value>, TierError>;

/// What the thread is asked to do.
pub(super) enum Request {
    Send {
        pipe: Arc<Pipeline>,
        reply: oneshot::Sender<Replies>,
    },
    /// To say when a time has passed.
    Wait(Duration, oneshot::Sender<()>),
    /// To replace the connection: this one is of no use.
    Renew,
}

/// The thread ends when this is dropped.
pub(super) struct RedisLine {
    requests: mpsc::UnboundedSender<Request>,
    pub(super) hub: Arc<Hub>,
}

impl RedisLine {
    pub(super) fn new(requests: mpsc::UnboundedSender<Request>, hub: Arc<Hub>) -> Self {
        Self { requests, hub }
    }

    /// Sends commands, and returns a reply for each: one round trip.
    pub(super) async fn call(&self, pipe: Pipeline) -> Replies {
        let pipe = Arc::new(pipe);
        let mut replies = self.once(Arc::clone(&pipe)).await?;
        if replies.iter().any(|reply| trouble::code(reply) == Some("NOSCRIPT")) {
            // The server was told to forget them. All is sent again, as what comes later must not
            // be done before what comes first; doing any of it twice changes nothing.
            let mut load = Pipeline::new();
            for cmd in scripts::load() {
                load.add_command(cmd);
            }
            self.once(Arc::new(load)).await?;
            replies = self.once(pipe).await?;
        }
        if replies.iter().any(|reply| trouble::code(reply).is_some()) {
            self.hub.counters.errors.add(1);
        }
        if replies.iter().any(|reply| trouble::code(reply) == Some("READONLY")) {
            // a server that is no longer the one to write to; its name may lead to another by now
            self.send(Request::Renew);
        }
        Ok(replies)
    }

    async fn once(&self, pipe: Arc<Pipeline>) -> Replies {
        let counters = &self.hub.counters;
        let replies = match self.hub.admit() {
            Ok(()) => {
                counters.calls.add(1);
                let (reply, replies) = oneshot::channel();
                self.send(Request::Send { pipe, reply });
                replies.await.unwrap_or_else(|_| Err(ended()))
            }
            Err(error) => Err(error),
        };
        if replies.is_err() {
            counters.errors.add(1);
        }
        replies
    }

    /// Sends commands whose replies nobody waits for.
    pub(super) fn tell(&self, pipe: Pipeline) {
        if self.hub.admit().is_ok() {
            self.hub.counters.calls.add(1);
            let (reply, _) = oneshot::channel();
            self.send(Request::Send { pipe: Arc::new(pipe), reply });
        }
    }

    /// Waits.
    pub(super) async fn wait(&self, time: Duration) -> Result<(), TierError> {
        self.hub.admit()?;
        let (done, is_done) = oneshot::channel();
        self.send(Request::Wait(time, done));
        is_done.await.map_err(|_| ended())
    }

    fn send(&self, request: Request) {
        // without the thread the reply's other end is dropped, and says so
        _ = self.requests.send(request);
    }
}

fn ended() -> TierError {
    TierError::Unreachable("its thread has ended".into())
}
