//! Reading entries from the server.

use super::RedisTier;
use super::chance::Id;
use super::codec::Codec;
use super::frame::{Frame, FrameLife, Seen, digits};
use super::scripts::{self, SCRIPTS};
use super::ticket::Ticket;
use super::trouble;
use crate::rules::tier::{TierError, TierFound, TierTicket};
use crate::words::tier_key::TierKey;
use redis::{Pipeline, Value};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many keys are read in one pipeline. The server holds the whole reply in memory until it is sent.
const AT_ONCE: usize = 128;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The contents of the meta key: the number of the last `clear`, and of the last change of a tag or of
/// everything.
#[derive(Clone, Copy)]
struct Meta {
    born: u64,
    seq: u64,
}

/// The numbers of a tag's last removal and last expiry.
#[derive(Clone, Copy)]
struct Marker {
    removed: u64,
    expired: u64,
}

/// What is stored under one key, and the frame in it, if it is usable.
struct Stands<'a> {
    bytes: &'a [u8],
    frame: Option<(Frame<'a>, FrameLife)>,
}

/// A lease: the right of one process to load a key, for a limited time.
struct LoadLease {
    name: String,
    token: Id,
    time: Duration,
}

/// Guard of a lease that this call may hold: the call may fail or be dropped after the server has granted it.
/// Its drop releases the lease.
struct Turn<'a, C: Codec> {
    tier: &'a RedisTier<C>,
    lease: LoadLease,
    may_be_ours: bool,
}

impl<C: Codec> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        if self.may_be_ours {
            self.tier.let_go(&self.lease.name, &self.lease.token);
        }
    }
}

fn nothing<K, V>(ticket: TierTicket) -> TierFound<K, V> {
    TierFound::new(None, ticket)
}

fn is_fresh<K, V>(found: &TierFound<K, V>) -> bool {
    found.entry.as_ref().is_some_and(|entry| !entry.fresh_for.is_zero())
}

impl<C: Codec> RedisTier<C> {
    pub(super) async fn find<K, V>(&self, key: &TierKey) -> Result<TierFound<K, V>, TierError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        let Some(name) = self.names().entry(key) else { return Ok(nothing(TierTicket::default())) };
        let names = [name];
        let found = self.one(&names, None).await?;
        match self.settings().lease {
            Some(time) if !is_fresh(&found.0) => self.take_turns(key, &names, time).await,
            _ => Ok(found.0),
        }
    }

    pub(super) async fn find_many<K, V>(
        &self,
        keys: &[TierKey],
    ) -> Result<Vec<TierFound<K, V>>, TierError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_ONCE) {
            let names: Vec<_> = keys.iter().map(|key| self.names().entry(key)).collect();
            let kept: Vec<_> = names.iter().flatten().cloned().collect();
            let mut read = self.read(&kept, None).await?.0.into_iter();
            found.extend(names.into_iter().map(|name| {
                let read = name.and_then(|_| read.next());
                read.unwrap_or_else(|| nothing(TierTicket::default()))
            }));
        }
        Ok(found)
    }

    /// No fresh entry is there: takes the lease, or waits for the result of its holder, for `time` at most.
    async fn take_turns<K, V>(
        &self,
        key: &TierKey,
        names: &[String; 1],
        time: Duration,
    ) -> Result<TierFound<K, V>, TierError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        let lease =
            LoadLease { name: self.names().lease(key), token: self.hub().chance.id(), time };
        let mut turn = Turn { tier: self, lease, may_be_ours: false };
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            turn.may_be_ours = true;
            let (found, is_ours) = self.one(names, Some(&turn.lease)).await?;
            turn.may_be_ours = is_ours;
            if is_fresh(&found) {
                // if the lease is ours, the value arrived just before it was granted
                return Ok(found);
            }
            let left = time.saturating_sub(begun.elapsed());
            if is_ours || left.is_zero() {
                // from here on the ticket holds the lease
                turn.may_be_ours = false;
                return Ok(found);
            }
            self.line.wait(pause.min(left)).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Releases a lease.
    pub(super) fn let_go(&self, lease: &str, token: &[u8]) {
        let mut cmd = scripts::call(&SCRIPTS.release, 1);
        cmd.arg(lease).arg(token);
        let mut pipe = Pipeline::new();
        pipe.add_command(cmd);
        self.line.tell(pipe);
    }

    async fn one<K, V>(
        &self,
        names: &[String; 1],
        lease: Option<&LoadLease>,
    ) -> Result<(TierFound<K, V>, bool), TierError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        let (found, is_ours) = self.read(names, lease).await?;
        let found = found.into_iter().next();
        Ok((found.unwrap_or_else(|| nothing(TierTicket::default())), is_ours))
    }

    /// Reads some keys, after trying to take the `lease`, if there is one. One round trip, or two if an entry
    /// has tags. Returns whether the lease is ours.
    async fn read<K, V>(
        &self,
        names: &[String],
        lease: Option<&LoadLease>,
    ) -> Result<(Vec<TierFound<K, V>>, bool), TierError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        if names.is_empty() {
            return Ok((Vec::new(), false));
        }
        let mut is_ours = false;
        // repeated once if the server has lost the meta key
        for _ in 0..2 {
            let asked = Instant::now();
            let replies = self.line.call(self.questions(names, lease)).await?;
            // the server may have read them at any time since then
            let waited = super::frame::millis(asked.elapsed());
            let mut replies = replies.iter();
            if lease.is_some() {
                // if our token is there already, the first round has set it
                is_ours |= matches!(good(replies.next())?, Value::Okay);
            }
            let Some(meta) = Meta::read(good(replies.next())?) else {
                let mut begin = scripts::call(&SCRIPTS.begin, 1);
                begin.arg(&*self.names().meta);
                let mut pipe = Pipeline::new();
                pipe.add_command(begin);
                good(self.line.call(pipe).await?.first())?;
                continue;
            };
            let mut there = Vec::with_capacity(names.len());
            while let Some(bytes) = replies.next() {
                there.push(self.stands(meta, bytes, good(replies.next())?, waited)?);
            }
            self.check_tags(&mut there).await?;
            let token = lease.filter(|_| is_ours).map(|lease| &lease.token);
            let found = there.into_iter().map(|stands| self.found(stands, meta, token)).collect();
            return Ok((found, is_ours));
        }
        Ok((names.iter().map(|_| nothing(TierTicket::default())).collect(), is_ours))
    }

    fn questions(&self, names: &[String], lease: Option<&LoadLease>) -> Pipeline {
        let mut pipe = Pipeline::with_capacity(2 * names.len() + 2);
        if let Some(lease) = lease {
            pipe.cmd("SET").arg(&lease.name).arg(&lease.token[..]).arg("NX");
            pipe.arg("PX").arg(super::frame::millis(lease.time).max(1));
        }
        pipe.cmd("HMGET").arg(&*self.names().meta).arg("born").arg("seq");
        for name in names {
            // no more bytes than an entry may have, whatever is stored there
            pipe.cmd("GETRANGE").arg(name).arg(0).arg(self.settings().max_value_size);
            pipe.cmd("PTTL").arg(name);
        }
        pipe
    }

    fn stands<'a>(
        &self,
        meta: Meta,
        bytes: &'a Value,
        left: &Value,
        waited: u64,
    ) -> Result<Stands<'a>, TierError> {
        let bytes = match bytes {
            Value::BulkString(bytes) => &bytes[..],
            Value::Nil => &[],
            // the key holds a list, a set or the like
            other if trouble::code(other) == Some("WRONGTYPE") => {
                self.hub().is_unreadable();
                &[]
            }
            other => {
                good(Some(other))?;
                return Err(trouble::senseless());
            }
        };
        if bytes.len() > self.settings().max_value_size {
            self.hub().counters.oversized.add(1);
            return Ok(Stands { bytes, frame: None });
        }
        let frame = match (Frame::read(bytes), left) {
            // without an expiry its age is unknown: somebody has removed that by hand
            (Seen::Frame(frame), &Value::Int(left)) if left > 0 && frame.since >= meta.born => {
                let life = frame.life(left.unsigned_abs().saturating_sub(waited));
                frame.is_useful(life).then_some((frame, life))
            }
            (Seen::Invalid, _) => {
                self.hub().is_unreadable();
                None
            }
            _ => None,
        };
        Ok(Stands { bytes, frame })
    }

    /// Drops entries of which a tag was removed, and expires those of which a tag was expired.
    async fn check_tags(&self, there: &mut [Stands<'_>]) -> Result<(), TierError> {
        let mut markers = BTreeMap::new();
        for (frame, _) in there.iter().filter_map(|stands| stands.frame.as_ref()) {
            markers.extend(frame.tags.iter().map(|tag| (*tag, None)));
        }
        if markers.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        pipe.cmd("TIME").cmd("MGET");
        for tag in markers.keys() {
            pipe.arg(self.names().marker(tag));
        }
        let replies = self.line.call(pipe).await?;
        let now = clock(good(replies.first())?).ok_or_else(trouble::senseless)?;
        let Value::Array(read) = good(replies.get(1))? else { return Err(trouble::senseless()) };
        for (marker, read) in markers.values_mut().zip(read) {
            *marker = Marker::read(read);
        }
        for stands in there {
            let Some((frame, life)) = &mut stands.frame else { continue };
            let mut holds = true;
            for tag in &frame.tags {
                match markers.get(tag).copied().flatten() {
                    Some(marker) if marker.removed <= frame.since => {
                        if marker.expired > frame.since {
                            life.end(now.saturating_sub(marker.expired) / 1000);
                        }
                    }
                    // a tag that the server has lost may have been removed
                    _ => holds = false,
                }
            }
            if !holds || !frame.is_useful(*life) {
                stands.frame = None;
            }
        }
        Ok(())
    }

    fn found<K, V>(&self, stands: Stands<'_>, meta: Meta, token: Option<&Id>) -> TierFound<K, V>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        let seen = stands.bytes.get(4..).unwrap_or_default();
        let ticket = Ticket::write(meta.seq, seen, token);
        let entry = stands.frame.and_then(|(frame, life)| {
            self.hub().saw_stale_for(frame.stale_for());
            let entry = frame.entry(&self.codec, life);
            if entry.is_none() {
                self.hub().is_unreadable();
            }
            entry
        });
        TierFound::new(entry, ticket)
    }
}

/// The reply, if it is not an error.
fn good(reply: Option<&Value>) -> Result<&Value, TierError> {
    let reply = reply.ok_or_else(trouble::senseless)?;
    match trouble::code(reply) {
        Some(code) => Err(trouble::refused(code)),
        None => Ok(reply),
    }
}

impl Meta {
    fn read(reply: &Value) -> Option<Self> {
        let Value::Array(fields) = reply else { return None };
        match &fields[..] {
            [Value::BulkString(born), Value::BulkString(seq)] => {
                Some(Self { born: digits(born)?, seq: digits(seq)? })
            }
            _ => None,
        }
    }
}

impl Marker {
    fn read(reply: &Value) -> Option<Self> {
        let Value::BulkString(bytes) = reply else { return None };
        let (removed, expired) = bytes.split_at_checked(16)?;
        Some(Self { removed: digits(removed)?, expired: digits(expired)? })
    }
}

/// The server's clock, in microseconds.
fn clock(reply: &Value) -> Option<u64> {
    let Value::Array(parts) = reply else { return None };
    match &parts[..] {
        [Value::BulkString(seconds), Value::BulkString(micros)] => {
            Some(digits(seconds)?.saturating_mul(1_000_000).saturating_add(digits(micros)?))
        }
        _ => None,
    }
}
