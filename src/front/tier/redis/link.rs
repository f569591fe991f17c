//! The tier's thread: one connection, made again when it is lost, over which come the replies and the
//! server's news, in its order.
//!
//! News are told by the task that reads the connection, before it reads on: who waits for a later reply
//! is woken after that.

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

/// How long nothing may come back until the server is asked whether it is there.
const IDLE: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What the thread has.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) hub: Arc<Hub>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    /// Who waits for the first connection; without one the thread tries on and on.
    pub(super) first: Option<oneshot::Sender<Result<(), TierError>>>,
}

/// The last handle is gone.
struct Over;

impl Link {
    /// The thread's life.
    pub(super) fn run(self) {
        let hub = Arc::clone(&self.hub);
        hub.set_thread();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let why: Arc<str> = match runtime {
            Ok(runtime) => {
                runtime.block_on(self.live());
                // a name that is being resolved may take its time
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
            // before anything else is answered
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
            // one that is lost at once, again and again, must not be made again at once
            if since.elapsed() > LONGEST_WAIT {
                wait = Duration::ZERO;
            }
        }
    }

    /// Twice as long, but never the same for all who lost a server at once.
    fn longer(&self, wait: Duration) -> Duration {
        let next = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        let share = self.hub.chance.number() % 512;
        next.mul_f64(0.75 + share as f64 / 1024.0).min(LONGEST_WAIT)
    }

    /// Waits, while whoever asks is refused.
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

    /// Connects, while whoever asks is refused.
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

    /// The last handle is gone, and the others may wait for what it has told: a turn that it gave back,
    /// say.
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
        // what was only told; who waits for a reply keeps the tier
        let mut told = VecDeque::new();
        loop {
            let request = tokio::select! {
                biased;
                _ = lost.wait_for(|lost| *lost) => return Ok(()),
                // before the requests: else those could keep it from being looked at
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
        // no reply for each command: which of them is whose cannot be known any more
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

/// Finds out whether the server is there when nothing comes back; ends when it is not.
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
            // what it answers does not matter
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
