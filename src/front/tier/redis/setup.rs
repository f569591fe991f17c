//! Making a connection, with tracking enabled and the scripts loaded.

use super::hub::Hub;
use super::names::Names;
use super::scripts::{self, SCRIPTS};
use super::trouble;
use crate::rules::tier::TierError;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Pipeline, PushInfo, PushKind, Value};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::timeout;

/// A connection that is set up.
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) lost: watch::Sender<bool>,
    pub(super) session: Session,
}

/// The server's ids of a connection and of its own run.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Session {
    id: Option<i64>,
    run: Option<Box<str>>,
}

/// Connects, within `connect_timeout`. `last` identifies the previous connection.
pub(super) async fn connect(
    client: &Client,
    hub: &Arc<Hub>,
    last: Option<&Session>,
) -> Result<Live, TierError> {
    let patience = hub.settings.connect_timeout;
    timeout(patience, set_up(client, hub, last)).await.unwrap_or_else(|_| {
        Err(TierError::Unreachable(format!("no connection within {patience:?}").into()))
    })
}

async fn set_up(
    client: &Client,
    hub: &Arc<Hub>,
    last: Option<&Session>,
) -> Result<Live, TierError> {
    let unreachable = |error| trouble::error(&error);
    let (lost, _) = watch::channel(false);
    let (listener, loss) = (Arc::clone(hub), lost.clone());
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(hub.settings.connect_timeout)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true))
        .set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                loss.send_replace(true);
            } else {
                listener.push(&push);
            }
            Ok::<_, Infallible>(())
        });
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connected.map_err(unreachable)?;
    let mut hello = Pipeline::new();
    hello.cmd("CLIENT").arg("ID").cmd("INFO").arg("server");
    let replies = connection.send_packed_commands(&hello, 0, 2).await.map_err(unreachable)?;
    let session = Session::read(&replies);
    if let Some(left) = last.and_then(|last| session.left_behind(last)) {
        // Commands of the last connection may still arrive after those of this one, and an old value would
        // replace a newer one. So the server is asked to close that connection first, if it allows that.
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(left);
        connection.send_packed_command(&kill).await.map_err(unreachable)?;
    }
    let pipe = greeting(&hub.settings.names);
    let replies = connection.send_packed_commands(&pipe, 0, pipe.len()).await;
    for reply in replies.map_err(unreachable)? {
        if let Some(code) = trouble::code(&reply) {
            let why = format!("the server does not do what the tier needs: {code}");
            let why = why.into();
            // something else is stored under the tier's own keys
            let is_foreign = code == "WRONGTYPE";
            return Err(if is_foreign || trouble::refuses_entry(code) {
                TierError::Refused(why)
            } else {
                TierError::Unreachable(why)
            });
        }
    }
    Ok(Live { connection, lost, session })
}

/// The first commands on a connection.
fn greeting(names: &Names) -> Pipeline {
    let mut pipe = Pipeline::new();
    for cmd in scripts::load() {
        pipe.add_command(cmd);
    }
    pipe.cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST");
    pipe.arg("PREFIX").arg(&*names.entries).arg("PREFIX").arg(&*names.news).arg("NOLOOP");
    let mut begin = scripts::call(&SCRIPTS.begin, 1);
    begin.arg(&*names.meta);
    pipe.add_command(begin);
    pipe
}

impl Session {
    fn read(replies: &[Value]) -> Self {
        let id = match replies.first() {
            Some(Value::Int(id)) => Some(*id),
            _ => None,
        };
        let info = match replies.get(1) {
            Some(Value::VerbatimString { text, .. }) => Some(text.as_str()),
            Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        let run = info.and_then(|info| {
            info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|run| run.trim().into())
        });
        Self { id, run }
    }

    /// The id of the last connection, if the server was not restarted since: it would have begun to count anew.
    fn left_behind(&self, last: &Self) -> Option<i64> {
        if self.run.is_some() && self.run == last.run && self.id != last.id {
            last.id
        } else {
            None
        }
    }
}
