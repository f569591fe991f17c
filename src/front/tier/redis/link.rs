//! The tier's thread. It keeps one connection, over which replies and news arrive in the server's order, and
//! reconnects when it is lost.
//!
//! The task that reads the connection delivers news before it reads on, so a caller never gets a reply before
//! the news that the server sent ahead of it.

use super::hub::Hub;
use super::line::{Replies, Request};
use super::setup::{Live, Session, connect};
use super::trouble;
use crate::rules::tier::{TierError, TierWatcher};
use redis::aio::MultiplexedConnection;
use redis::{Client, Pipeline};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// After how long without any message the server is pinged.
const IDLE: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The state of the thread.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) hub: Arc<Hub>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    /// The caller that waits for the first connection, and gets its error. Without one the thread retries.
    pub(super) first: Option<oneshot::Sender<Result<(), TierError>>>,
}

/// The last handle is gone.
struct Over;

impl Link {
    /// The thread's main function.
    pub(super) fn run(self) {
        let hub = Arc::clone(&self.hub);
        hub.set_thread();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let why: Arc<str> = match runtime {
            Ok(runtime) => {
                runtime.block_on(self.live());
                // does not wait for name resolution, which may take long
                runtime.shutdown_background();
                "its thread has ended".into()
            }
            Err(error) => format!("no runtime for its thread: {error}").into(),
        };
        hub.close(&why);
    }

    async fn live(mut self) {
        let mut wait = Duration::ZERO;
        let mut last = None;
        loop {
            if self.refuse_for(wait).await.is_err() {
                return;
            }
            wait = self.longer(wait);
            let live = match self.connected(last.as_ref()).await {
                Ok(Ok(live)) => live,
                Ok(Err(error)) => {
                    if let Some(first) = self.first.take() {
                        _ = first.send(Err(error));
                        return;
                    }
                    if let TierError::Unreachable(why) | TierError::Refused(why) = error {
                        self.hub.close(&why);
                    }
                    continue;
                }
                Err(Over) => return,
            };
            last = Some(live.session.clone());
            self.hub.counters.connects.add(1);
            // before any request is answered
            self.hub.tell(TierWatcher::missed);
            self.hub.open();
            if let Some(first) = self.first.take() {
                _ = first.send(Ok(()));
            }
            let since = Instant::now();
            let served = self.serve(&live).await;
            self.hub.close(&"the connection was lost".into());
            live.lost.send_replace(true);
            if served.is_err() {
                return;
            }
            self.hub.counters.disconnects.add(1);
            // the pause is reset only after a connection that lasted: otherwise one that is lost at once would
            // be made again at once
            if since.elapsed() > LONGEST_WAIT {
                wait = Duration::ZERO;
            }
        }
    }

    /// The next pause: twice as long, with jitter, since many processes may have lost the server at once.
    fn longer(&self, wait: Duration) -> Duration {
        let next = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        let share = self.hub.chance.number() % 512;
        next.mul_f64(0.75 + share as f64 / 1024.0).min(LONGEST_WAIT)
    }

    /// Pauses, and refuses requests meanwhile.
    async fn refuse_for(&mut self, wait: Duration) -> Result<(), Over> {
        let waited = sleep(wait);
        tokio::pin!(waited);
        loop {
            tokio::select! {
                () = &mut waited => return Ok(()),
                request = self.requests.recv() => refuse(&self.hub, request.ok_or(Over)?),
            }
        }
    }

    /// Connects, and refuses requests meanwhile.
    async fn connected(&mut self, last: Option<&Session>) -> Result<Result<Live, TierError>, Over> {
        let (hub, client) = (Arc::clone(&self.hub), self.client.clone());
        let connecting = connect(&client, &hub, last);
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                live = &mut connecting => return Ok(live),
                request = self.requests.recv() => refuse(&self.hub, request.ok_or(Over)?),
            }
        }
    }

    /// The last handle was dropped: waits until its last messages are sent. Other processes may wait for them (a
    /// lease that is released, say).
    async fn finish(&self, told: VecDeque<JoinHandle<()>>) {
        let all = async {
            for task in told {
                _ = task.await;
            }
        };
        _ = timeout(self.hub.settings.timeout, all).await;
    }

    /// Serves until the connection is lost.
    async fn serve(&mut self, live: &Live) -> Result<(), Over> {
        let mut lost = live.lost.subscribe();
        let ping = look_after(live.connection.clone(), Arc::clone(&self.hub));
        tokio::pin!(ping);
        // requests without a waiting caller; a caller that waits for a reply keeps the tier alive
        let mut told = VecDeque::new();
        loop {
            let request = tokio::select! {
                biased;
                _ = lost.wait_for(|lost| *lost) => return Ok(()),
                // polled before the requests, which could otherwise starve it
                () = &mut ping => return Ok(()),
                request = self.requests.recv() => request,
            };
            let Some(request) = request else {
                self.finish(told).await;
                return Err(Over);
            };
            match request {
                Request::Send { pipe, reply } => {
                    let connection = live.connection.clone();
                    let (hub, lost) = (Arc::clone(&self.hub), live.lost.clone());
                    let is_told = reply.is_closed();
                    let task = tokio::spawn(async move {
                        let replies = exchange(connection, &pipe, &hub, &lost).await;
                        _ = reply.send(replies);
                    });
                    if is_told {
                        while told.front().is_some_and(JoinHandle::is_finished) {
                            told.pop_front();
                        }
                        told.push_back(task);
                    }
                }
                Request::Wait(time, done) => {
                    let mut lost = live.lost.subscribe();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = sleep(time) => {}
                            _ = lost.wait_for(|lost| *lost) => {}
                        }
                        _ = done.send(());
                    });
                }
                Request::Renew => return Ok(()),
            }
        }
    }
}

fn refuse(hub: &Hub, request: Request) {
    let error = match hub.admit_from_thread() {
        Err(error) => error,
        Ok(()) => TierError::Unreachable("the connection was lost".into()),
    };
    match request {
        Request::Send { reply, .. } => _ = reply.send(Err(error)),
        Request::Wait(_, done) => _ = done.send(()),
        Request::Renew => {}
    }
}

/// One request and its replies.
async fn exchange(
    mut connection: MultiplexedConnection,
    pipe: &Pipeline,
    hub: &Hub,
    lost: &watch::Sender<bool>,
) -> Replies {
    let mut is_lost = lost.subscribe();
    let sent = timeout(hub.settings.timeout, connection.send_packed_commands(pipe, 0, pipe.len()));
    let replies = tokio::select! {
        biased;
        replies = sent => replies,
        _ = is_lost.wait_for(|lost| *lost) => {
            return Err(TierError::Unreachable("the connection was lost".into()));
        }
    };
    match replies {
        Ok(Ok(replies)) if replies.len() == pipe.len() => {
            hub.answered();
            Ok(replies)
        }
        // the number of replies is wrong: they can no longer be matched to commands
        Ok(Ok(_)) => {
            lost.send_replace(true);
            Err(trouble::senseless())
        }
        Ok(Err(error)) => {
            lost.send_replace(true);
            Err(TierError::Unreachable(trouble::text(&error)))
        }
        Err(_) => {
            hub.ran_late();
            Err(TierError::TimedOut)
        }
    }
}

/// Pings the server when it is silent or slow; ends when it does not answer.
async fn look_after(mut connection: MultiplexedConnection, hub: Arc<Hub>) {
    let patience = hub.settings.connect_timeout;
    let ping = redis::cmd("PING");
    loop {
        tokio::select! {
            () = sleep(IDLE) => {
                if hub.was_heard() && !hub.is_slow() {
                    continue;
                }
            }
            () = hub.doubt.notified() => {}
        }
        let mut wait = FIRST_WAIT;
        loop {
            let asked = Instant::now();
            // any answer will do, even an error
            let Ok(Ok(_)) = timeout(patience, connection.send_packed_command(&ping)).await else {
                return;
            };
            if !hub.is_slow() {
                break;
            }
            if asked.elapsed() <= hub.settings.timeout {
                hub.open();
                break;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}
