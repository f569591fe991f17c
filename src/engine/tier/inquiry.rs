//! One question for many keys.

use super::Questions;
use super::news::must_not_wait;
use crate::engine::lead::Lead;
use crate::engine::store::Store;
use crate::engine::unreported::Later;
use crate::parts::stack;
use crate::rules::event::Event;
use crate::rules::got::Got;
use crate::rules::tier::{TierError, TierFound};
use crate::words::error::LoadError;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// One question for the keys of several leads.
pub(crate) struct Inquiry<K, V> {
    /// The indices of the leads that it is about.
    about: Vec<usize>,
    asked: Questions<K, V>,
    running: Vec<usize>,
}

impl<K, V> Inquiry<K, V> {
    /// `None` if there is nothing to ask.
    pub(crate) fn new<S>(store: &Store<K, V, S>, leads: &[Lead<K, V, S>]) -> Option<Self> {
        let tier = store.tier.as_ref().filter(|_| !must_not_wait())?;
        let names = leads.iter().map(|lead| (tier.name)(lead.key())).enumerate();
        let (about, names): (Vec<_>, Vec<_>) =
            names.filter(|(at, name)| tier.may_ask(&leads[*at].flight, name)).unzip();
        if about.is_empty() {
            return None;
        }
        let asked = Arc::clone(&tier.tier).get_many(names);
        Some(Self { about, asked, running: leads.iter().map(Lead::id).collect() })
    }

    /// Polls for the answer, which is for [`settle`]. The poll runs as a part of the loads.
    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<Answers<K, V>> {
        let _running = stack::enter_all(self.running.iter().copied());
        let found = ready!(self.asked.as_mut().poll(task));
        Poll::Ready(Answers { about: std::mem::take(&mut self.about), found })
    }

    /// The tier took too long.
    pub(crate) fn give_up(self) -> Answers<K, V> {
        Answers { about: self.about, found: Err(TierError::TimedOut) }
    }
}

/// The outcome of an [`Inquiry`].
pub(crate) struct Answers<K, V> {
    about: Vec<usize>,
    found: Result<Vec<TierFound<K, V>>, TierError>,
}

/// What the tier had, with the indices of the leads that need not load any more.
pub(crate) type Settled<V, E> = Vec<(usize, Result<Got<V>, LoadError<E>>)>;

/// Lands what the tier has for these leads, and keeps in `leads` those that have to load. What had to leave
/// the cache for it is in `later`.
pub(crate) fn settle<K, V, S, E>(
    leads: &mut Vec<Lead<K, V, S>>,
    answers: Answers<K, V>,
    accepts: impl Fn(u64) -> bool,
    later: &mut Later<K, V, S>,
) -> Settled<V, E>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let Answers { about, found } = answers;
    let mut of_each: Vec<Option<Result<_, _>>> = leads.iter().map(|_| None).collect();
    match found {
        Ok(found) => {
            about.iter().zip(found).for_each(|(&at, found)| of_each[at] = Some(Ok(found)));
        }
        Err(error) => {
            // one event, however many keys the tier was asked for
            if let Some(lead) = leads.first() {
                lead.store.emit(Event::TierFailed { error: &error });
            }
            for &at in &about {
                of_each[at] = Some(Err(error.clone()));
            }
        }
    }
    let mut settled = Vec::new();
    let open = std::mem::take(leads).into_iter().zip(of_each).enumerate();
    for (at, (mut lead, found)) in open {
        let out = &mut later.out;
        match found.and_then(|found| lead.answer_quietly(found, &accepts, false, out)) {
            Some(entry) => {
                settled.push((at, lead.land_kept_quietly(entry, None, &mut later.out)));
            }
            None => leads.push(lead),
        }
    }
    settled
}
