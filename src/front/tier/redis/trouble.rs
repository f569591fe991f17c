//! Error messages that reveal no secrets.
//!
//! A server's error messages may quote passwords and values, so only their codes are used.

use crate::rules::tier::TierError;
use redis::{ErrorKind, RedisError, Value};
use std::sync::Arc;

/// The text for an error of the client library.
pub(super) fn text(error: &RedisError) -> Arc<str> {
    if error.is_io_error() {
        // the system's own words, or those of TLS
        return error.to_string().into();
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => "the server refused the credentials".into(),
        ErrorKind::InvalidClientConfig => "the client refused the address or the TLS set-up".into(),
        // it says so itself, and means the first command
        ErrorKind::RESP3NotSupported => OLD.into(),
        _ => match error.code() {
            Some("ERR" | "NOPROTO") => OLD.into(),
            Some(code) => format!("the server said {code}").into(),
            None => error.category().into(),
        },
    }
}

/// The same as a [`TierError`]: `Refused` if the server is there but does not let us in.
pub(super) fn error(error: &RedisError) -> TierError {
    let is_refused =
        error.kind() == ErrorKind::AuthenticationFailed || error.code().is_some_and(refuses_entry);
    if is_refused { TierError::Refused(text(error)) } else { TierError::Unreachable(text(error)) }
}

pub(super) fn refuses_entry(code: &str) -> bool {
    matches!(code, "NOAUTH" | "NOPERM" | "WRONGPASS")
}

const OLD: &str = "the server refused the connection's first commands; it has to speak RESP3, as Redis \
                   does from version 6 on";

/// The code of an error in a reply, nested ones included.
pub(super) fn code(reply: &Value) -> Option<&str> {
    match reply {
        Value::ServerError(error) => Some(error.code()),
        Value::Array(parts) => parts.iter().find_map(code),
        _ => None,
    }
}

pub(super) fn refused(code: &str) -> TierError {
    TierError::Refused(code.into())
}

pub(super) fn senseless() -> TierError {
    TierError::Refused("its reply makes no sense".into())
}
