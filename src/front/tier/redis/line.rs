//! The callers' end of the connection: requests are sent to the tier's thread, and waiting for the reply needs
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

/// A request to the tier's thread.
pub(super) enum Request {
    Send {
        pipe: Arc<Pipeline>,
        reply: oneshot::Sender<Replies>,
    },
    /// Reply after this time.
    Wait(Duration, oneshot::Sender<()>),
    /// Replace the connection.
    Renew,
}

/// A sender of requests. When the last one is dropped, the thread ends.
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
            // The server has lost the scripts. The whole pipeline is sent again, since its commands must run in
            // order; running any of them twice does no harm.
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
            // the server has become a replica; its name may resolve to the new primary by now
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

    /// Sends commands without waiting for the replies.
    pub(super) fn tell(&self, pipe: Pipeline) {
        if self.hub.admit().is_ok() {
            self.hub.counters.calls.add(1);
            let (reply, _) = oneshot::channel();
            self.send(Request::Send { pipe: Arc::new(pipe), reply });
        }
    }

    /// Waits for this time, by the thread's timer.
    pub(super) async fn wait(&self, time: Duration) -> Result<(), TierError> {
        self.hub.admit()?;
        let (done, is_done) = oneshot::channel();
        self.send(Request::Wait(time, done));
        is_done.await.map_err(|_| ended())
    }

    fn send(&self, request: Request) {
        // if the thread has ended, the request is dropped with the sender of its reply, which its caller notices
        _ = self.requests.send(request);
    }
}

fn ended() -> TierError {
    TierError::Unreachable("its thread has ended".into())
}
