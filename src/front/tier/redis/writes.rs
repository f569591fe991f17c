//! Making changes on the server.

use super::RedisTier;
use super::codec::Codec;
use super::frame::{self, Draft, Unfit};
use super::names::{Names, Word};
use super::scripts::{self, SCRIPTS};
use super::ticket::Ticket;
use super::trouble;
use crate::rules::tier::{TierChange, TierEntry, TierError, TierTicket};
use crate::words::tier_key::TierKey;
use redis::{Pipeline, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How many changes, and about how many bytes, are sent in one pipeline.
const AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 1 << 20;

/// By how many milliseconds a tag's marker outlives the entries that it is about.
const SLACK: u64 = 60_000;

/// The longest stale window that is stored, a year.
pub(super) const LONGEST_STALE: u64 = 365 * 86_400_000;

/// A pipeline of changes.
#[derive(Default)]
struct WriteBatch {
    pipe: Pipeline,
    bytes: usize,
    changes: usize,
    /// The indices of the transactions' replies, and whether each stores a loaded value.
    transactions: Vec<(usize, bool)>,
    /// The keys whose old entries must go in any case.
    gone: Vec<String>,
}

impl WriteBatch {
    fn is_full(&self) -> bool {
        self.changes >= AT_ONCE || self.bytes >= BYTES_AT_ONCE
    }

    /// Adds a transaction of a script and the plain commands after it.
    fn transact(&mut self, script: redis::Cmd, then: impl FnOnce(&mut Pipeline), is_load: bool) {
        self.pipe.cmd("MULTI");
        self.pipe.add_command(script);
        then(&mut self.pipe);
        self.transactions.push((self.pipe.len(), is_load));
        self.pipe.cmd("EXEC");
    }

    fn bury(&mut self, name: String, tombstone: &[u8], life: u64) {
        self.pipe.cmd("SET").arg(&name).arg(tombstone).arg("PX").arg(life);
        self.gone.push(name);
    }
}

impl<C: Codec> RedisTier<C> {
    pub(super) async fn make<K, V>(&self, changes: &[TierChange<K, V>]) -> Result<(), TierError>
    where
        K: Serialize + DeserializeOwned + Sync,
        V: Serialize + DeserializeOwned + Sync,
    {
        let mut changes = changes.iter();
        loop {
            let mut batch = WriteBatch::default();
            for change in changes.by_ref() {
                self.add(&mut batch, change);
                batch.changes += 1;
                if batch.is_full() {
                    break;
                }
            }
            if batch.changes == 0 {
                return Ok(());
            }
            self.run(batch).await?;
        }
    }

    async fn run(&self, batch: WriteBatch) -> Result<(), TierError> {
        if batch.pipe.is_empty() {
            return Ok(());
        }
        let replies = self.line.call(batch.pipe).await?;
        match self.judge(&replies, &batch.transactions) {
            Err(code) if code == "OOM" => {
                // The server is full: not even tombstones can be written, but the old entries can be deleted.
                let mut pipe = Pipeline::new();
                for name in batch.gone {
                    pipe.cmd("DEL").arg(name);
                }
                if !pipe.is_empty() {
                    self.line.call(pipe).await?;
                }
                Err(trouble::refused(code))
            }
            judged => judged.map_err(trouble::refused),
        }
    }

    /// Whether all changes were made; else the code of the first error.
    fn judge<'a>(
        &self,
        replies: &'a [Value],
        transactions: &[(usize, bool)],
    ) -> Result<(), &'a str> {
        let mut transactions = transactions.iter().peekable();
        for (at, reply) in replies.iter().enumerate() {
            let Some((_, is_load)) = transactions.next_if(|(place, _)| *place == at) else {
                trouble::code(reply).map_or(Ok(()), Err)?;
                continue;
            };
            match reply {
                // the script stored nothing, so `RENAME` failed, as intended
                Value::Array(parts) if matches!(parts.first(), Some(Value::Int(0))) => {
                    if *is_load {
                        self.hub().counters.refused_stores.add(1);
                    }
                }
                reply => trouble::code(reply).map_or(Ok(()), Err)?,
            }
        }
        Ok(())
    }

    fn add<K, V>(&self, batch: &mut WriteBatch, change: &TierChange<K, V>)
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        match change {
            TierChange::Write(key, entry) => {
                if self.store(batch, key, entry, None).is_none() {
                    // the entry there is older
                    self.remove(batch, key);
                }
            }
            TierChange::Load(key, entry, ticket) => {
                let Some(ticket) = Ticket::read(ticket) else { return };
                if self.store(batch, key, entry, Some(ticket)).is_none() {
                    self.release_turn(key, ticket);
                }
            }
            TierChange::Remove(key) => self.remove(batch, key),
            TierChange::Expire(key) => self.expire(batch, key),
            TierChange::RemoveTag(tag) => self.change_tag(batch, tag.as_str(), true),
            TierChange::ExpireTag(tag) => self.change_tag(batch, tag.as_str(), false),
            TierChange::Clear => {
                let mut script = scripts::call(&SCRIPTS.clear, 1);
                script.arg(&*self.names().meta);
                let word = self.hub().word(Word::Cleared);
                batch.transact(script, |pipe| say(pipe, &word), false);
            }
        }
    }

    /// Adds the storing of an entry; `None` if the entry cannot be stored.
    fn store<K, V>(
        &self,
        batch: &mut WriteBatch,
        key: &TierKey,
        entry: &TierEntry<K, V>,
        ticket: Option<Ticket<'_>>,
    ) -> Option<()>
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        let settings = self.settings();
        let counters = &self.hub().counters;
        let in_cache = match entry.time_to_live {
            Duration::MAX => u64::MAX,
            time => frame::millis(time),
        };
        let life =
            frame::millis(entry.fresh_for).min(self.hub().life(in_cache, frame::millis(entry.age)));
        if life == 0 {
            return None;
        }
        let name = self.names().entry(key);
        let (true, Some(name)) =
            (entry.tags.iter().all(|tag| Names::keeps_tag(tag.as_str())), name)
        else {
            counters.oversized.add(1);
            return None;
        };
        let stale_for = frame::millis(entry.stale_for).min(LONGEST_STALE);
        let id = self.hub().chance.id();
        let (most, is_tried) = (settings.max_value_size, self.hub().trials.is_due());
        let draft = match Draft::of(&self.codec, &id, entry, stale_for, most, is_tried) {
            Ok(draft) => draft,
            Err(unfit) => {
                self.leave_out(unfit);
                return None;
            }
        };
        self.hub().saw_stale_for(stale_for);
        // It stays for at least as long as a load that began before it may take: otherwise that load would find
        // the key as empty as it was when it began, and store an older value.
        let tail = stale_for.max(settings.tombstone);
        let span = life + tail;
        let mut script = scripts::call(&SCRIPTS.store, 4 + entry.tags.len());
        script.arg(&*self.names().meta).arg(&name).arg(&*self.names().tray);
        script.arg(self.names().lease(key));
        for tag in &entry.tags {
            script.arg(self.names().marker(tag.as_str()));
        }
        script.arg(&draft.begin).arg(span).arg(tail).arg(&draft.body).arg(span + SLACK);
        match ticket {
            Some(Ticket { since, seen, token }) => script.arg(seen).arg(since).arg(token),
            None => script.arg("").arg("").arg(""),
        };
        batch.bytes += draft.body.len();
        batch.transact(script, |pipe| self.serve(pipe, &name), ticket.is_some());
        if ticket.is_none() {
            batch.gone.push(name);
        }
        Some(())
    }

    /// Counts an entry that is not stored, and reports it unless it is only too large.
    fn leave_out(&self, unfit: Unfit) {
        let hub = self.hub();
        let why = match unfit {
            Unfit::TooLarge => return hub.counters.oversized.add(1),
            Unfit::Unencodable(why) => why,
            Unfit::Lost(why) => {
                hub.trials.failed();
                why
            }
        };
        hub.counters.unencodable.add(1);
        hub.skip(&TierError::Unencodable(why));
    }

    /// Moves the entry that a script has prepared to its key.
    fn serve(&self, pipe: &mut Pipeline, name: &str) {
        pipe.cmd("RENAME").arg(&*self.names().tray).arg(name);
    }

    fn remove(&self, batch: &mut WriteBatch, key: &TierKey) {
        let Some(name) = self.names().entry(key) else { return self.say_changed(batch, key) };
        let tombstone = frame::tombstone(&self.hub().chance.id());
        batch.bury(name, &tombstone, self.settings().tombstone);
    }

    /// The key is never stored here, but other processes have copies.
    fn say_changed(&self, batch: &mut WriteBatch, key: &TierKey) {
        say(&mut batch.pipe, &self.hub().word(Word::Changed(key.as_str())));
    }

    fn expire(&self, batch: &mut WriteBatch, key: &TierKey) {
        let Some(name) = self.names().entry(key) else { return self.say_changed(batch, key) };
        let id = self.hub().chance.id();
        let mut script = scripts::call(&SCRIPTS.expire, 2);
        script.arg(&name).arg(&*self.names().tray);
        script.arg(&id[..]).arg(frame::tombstone(&id)).arg(self.settings().tombstone);
        batch.transact(script, |pipe| self.serve(pipe, &name), false);
        batch.gone.push(name);
    }

    fn change_tag(&self, batch: &mut WriteBatch, tag: &str, is_removal: bool) {
        if !Names::keeps_tag(tag) {
            // entries with this tag are never stored here
            let word = self.word_of(tag, is_removal);
            say(&mut batch.pipe, &word);
            return;
        }
        let mut script = scripts::call(&SCRIPTS.tag, 2);
        script.arg(&*self.names().meta).arg(self.names().marker(tag));
        script.arg(if is_removal { "removed" } else { "expired" });
        script.arg(self.settings().tombstone + SLACK);
        let word = self.word_of(tag, is_removal);
        batch.transact(script, |pipe| say(pipe, &word), false);
    }

    fn word_of(&self, tag: &str, is_removal: bool) -> String {
        let word = if is_removal { Word::TagRemoved(tag) } else { Word::TagExpired(tag) };
        self.hub().word(word)
    }

    fn release_turn(&self, key: &TierKey, ticket: Ticket<'_>) {
        if !ticket.token.is_empty() {
            self.let_go(&self.names().lease(key), ticket.token);
        }
    }

    pub(super) fn release_ticket(&self, key: &TierKey, ticket: &TierTicket) {
        if let Some(ticket) = Ticket::read(ticket) {
            self.release_turn(key, ticket);
        }
    }
}

/// Sends a message to other processes: the server reports the name of a key that changes, so this key is set and
/// deleted.
fn say(pipe: &mut Pipeline, word: &str) {
    pipe.cmd("SET").arg(word).arg("").arg("PX").arg(SLACK);
    pipe.cmd("DEL").arg(word);
}
