//! Changing a key's value depending on its current value, optimistically: look, ask the user's closure for
//! the change, and carry it out if nothing has happened to the key meanwhile; else start again. No lock is
//! held while the closure runs.

use super::put::{By, Stored};
use super::store::Store;
use crate::parts::backlog::Item;
use crate::parts::group::Hash;
use crate::parts::reservation::Basis;
use crate::parts::tags::{TagFate, Tagged};
use crate::rules::altered::Altered;
use crate::rules::expiry::{Stamp, duration};
use crate::rules::tag::Tag;
use crate::rules::tier::TierChange;
use crate::shard::entry::{LifeBegan, Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::sync::Arc;

/// The caller's settings for the value that is to be stored.
pub(crate) struct AlterOptions<T> {
    /// Its time to live in ticks, if it is not the cache's.
    pub(crate) ttl: Option<u64>,
    /// It keeps the life of the value before it, if there is one.
    pub(crate) keeps_life: bool,
    /// Its tags; if there are none, it has those of the value before it.
    pub(crate) tags: T,
}

impl AlterOptions<std::iter::Empty<&'static str>> {
    /// The cache's own settings.
    pub(crate) fn none() -> Self {
        Self { ttl: None, keeps_life: false, tags: std::iter::empty() }
    }
}

/// Where the value that the closure was shown came from.
#[derive(Clone, Copy)]
pub(super) enum Current {
    Nothing,
    Unwritten,
    Cached(Stamp),
}

impl Current {
    fn of<K, V>(item: &Item<K, V>) -> Self {
        if item.value.is_some() { Self::Unwritten } else { Self::Nothing }
    }

    fn stamp(self) -> Option<Stamp> {
        match self {
            Self::Cached(stamp) => Some(stamp),
            Self::Nothing | Self::Unwritten => None,
        }
    }
}

/// Somebody else has removed or expired a tag of the changed value meanwhile: the closure is called again.
pub(super) struct TagEnded;

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Replaces the key's fresh value, or its absence, by what `change` makes of it, and returns that.
    pub(crate) fn alter<'t, Q>(
        &self,
        hash: u64,
        key: &Q,
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
        change: impl FnMut(Option<V>) -> Altered<V>,
    ) -> Option<V>
    where
        Q: ?Sized + Equivalent<K> + std::hash::Hash + ToKey<K>,
    {
        self.alter_by(
            hash,
            key,
            || None,
            change,
            |changed, current, basis| match (changed, current) {
                (Altered::Put(value), current) => {
                    let entry = (key.to_key(), value.clone());
                    self.store_changed(hash, entry, options, (current.stamp(), basis))
                        .then_some(Some(value))
                }
                (Altered::Remove, Current::Nothing) => Some(None),
                (Altered::Remove, _) => self.remove_unchanged(hash, key, basis).then_some(None),
                (Altered::Keep(value), _) => Some(value),
            },
        )
    }

    /// Shows `change` the key's current value, and has `carry_out` do what it returns; again, until
    /// `carry_out` succeeds. `unwritten` is the change that waits to be written to the source, which comes
    /// before the cached value.
    pub(super) fn alter_by<Q, R>(
        &self,
        hash: u64,
        key: &Q,
        unwritten: impl Fn() -> Option<Arc<Item<K, V>>>,
        mut change: impl FnMut(Option<V>) -> Altered<V>,
        mut carry_out: impl FnMut(Altered<V>, Current, &Basis<'_>) -> Option<R>,
    ) -> R
    where
        Q: ?Sized + Equivalent<K>,
    {
        let reservation = self.ledger.reserve(hash);
        loop {
            reservation.renew();
            let since = self.tags.version();
            let (value, current, tags) = match unwritten() {
                Some(item) => (item.value.clone(), Current::of(&item), None),
                None => match self.fresh(hash, key) {
                    Some((value, stamp, tags)) => (Some(value), Current::Cached(stamp), tags),
                    None => (None, Current::Nothing, None),
                },
            };
            let settled = tags.as_ref().map_or(since, |_| self.tags.settled());
            if tags.as_ref().is_some_and(|tags| tags.fate() != TagFate::Untouched) {
                continue;
            }
            let basis = Basis { reserved: &reservation, tags, since, settled };
            let changed = {
                let _changing = reservation.enter();
                change(value)
            };
            if let Some(done) = carry_out(changed, current, &basis) {
                return done;
            }
        }
    }

    /// A look-up that counts nothing and leaves no mark.
    fn fresh<Q>(&self, hash: u64, key: &Q) -> Option<(V, Stamp, Option<Tagged>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let shard = self.cell(hash).shard.read();
        let terms = self.terms();
        let (id, entry) = shard.peek(Hash::new(hash), key, &terms)?;
        if !shard.is_fresh(id, entry, &terms) {
            return None;
        }
        Some((entry.value.clone(), entry.stamp, shard.tags(id)))
    }

    /// Stores, if nothing has happened to the key since it was looked at.
    fn store_changed<'t>(
        &self,
        hash: u64,
        (key, value): (K, V),
        options: &AlterOptions<impl Iterator<Item = &'t str> + Clone>,
        (stamp, basis): (Option<Stamp>, &Basis<'_>),
    ) -> bool {
        let before = stamp.filter(|_| options.keeps_life);
        let now = self.clock.now();
        let ttl = before.map(|stamp| stamp.fresh_for(now)).or(options.ttl);
        if before.is_some() && ttl == Some(0) {
            return false; // it ended meanwhile
        }
        let tags = match self.tags.find(options.tags.clone()) {
            Some(names) => Some(names.since(basis.since)),
            None => basis.tags.clone(),
        };
        let Ok(tags) = self.tags_after(basis, tags) else { return false };
        let life = ttl.unwrap_or(self.lives.ttl);
        if before.is_none() && tags.is_none() && self.stores_only(life) {
            let shard = self.cell(hash).shard.write();
            let by = By::Change(basis);
            return basis.holds(&self.tags)
                && self.insert_bare(hash, (key, value), life, by, shard) != Stored::Fenced;
        }
        let names = tags.iter().flat_map(Tagged::iter).map(Tag::from).collect();
        let mut change = self.written(hash, &key, &value, ttl, names);
        if let (Some(stamp), Some(TierChange::Write(_, entry))) = (before, &mut change) {
            // in the tier it is no new life either: no jitter is drawn off it
            entry.age = duration(stamp.age(now));
            (entry.fresh_for, entry.time_to_live) = (duration(life), duration(life));
        }
        let mut notes = Notes::of(None, tags);
        if let Some(stamp) = before {
            notes.get_or_insert_default().begun = Some(LifeBegan::Before(stamp));
        }
        let units = self.units(&key, Some(&value));
        let mut put = Some(Put { notes, ..Put::of(hash, key, value, units, life) });
        let mut out = Outbox::new();
        let told;
        let shard = self.cell(hash).shard.write();
        // checked before a second tier is told anything
        let is_over = before.is_some_and(|stamp| !stamp.is_fresh(self.clock.now()));
        if is_over || !basis.holds(&self.tags) {
            return false;
        }
        let is_outdated = || put.as_ref().is_some_and(Put::is_outdated) || !basis.holds(&self.tags);
        told = self.tell_of_write(change, is_outdated);
        let stored = self.put_locked(hash, &mut put, By::Change(basis), &mut out, shard);
        self.deliver(out);
        self.let_go_of_write(told);
        stored != Stored::Fenced
    }

    /// The tags that the changed value is stored with. What the closure itself has done to them does not count, as
    /// what it has done to the key does not.
    pub(super) fn tags_after(
        &self,
        basis: &Basis<'_>,
        tags: Option<Tagged>,
    ) -> Result<Option<Tagged>, TagEnded> {
        let Some(tags) = tags else { return Ok(None) };
        // read first: what happens from here on is newer than the value, whoever does it
        let now = self.tags.version();
        if tags.fate() == TagFate::Untouched {
            return Ok(Some(tags));
        }
        if basis.is_ended(&tags, &self.tags) {
            return Err(TagEnded);
        }
        Ok(Some(tags.into_names().since(now)))
    }

    /// Removes, if nothing has happened to the key since it was looked at.
    fn remove_unchanged<Q>(&self, hash: u64, key: &Q, basis: &Basis<'_>) -> bool
    where
        Q: ?Sized + Equivalent<K> + std::hash::Hash,
    {
        let mut out = Outbox::new();
        let name = self.named(key);
        let taken = self.take(hash, key, name.as_ref(), || basis.holds(&self.tags), &mut out);
        let Some((_, noted)) = taken else { return false };
        self.deliver(out);
        self.let_go(noted);
        true
    }
}
