//! Which errors of loaders count as failures of the source.

use crate::words::contain::contain;
use std::any::Any;
use std::fmt;

type Predicate = Box<dyn Fn(&dyn Any) -> Option<bool> + Send + Sync>;

/// The user's predicates, by error type. Errors without a predicate count.
#[derive(Default)]
pub(crate) struct CountedErrors(Vec<Predicate>);

impl CountedErrors {
    /// Errors of type `E` count if `counts` returns `true`.
    pub(crate) fn ask<E: 'static>(&mut self, counts: impl Fn(&E) -> bool + Send + Sync + 'static) {
        self.0.push(Box::new(move |error| error.downcast_ref().map(&counts)));
    }

    /// Whether this error counts. If the predicate panics, it does.
    pub(crate) fn counts(&self, error: &dyn Any) -> bool {
        let mut counts = None;
        contain(|| counts = self.0.iter().rev().find_map(|ask| ask(error)));
        counts.unwrap_or(true)
    }
}

impl fmt::Debug for CountedErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedErrors").field("types", &self.0.len()).finish()
    }
}
