//! Keys and values that count themselves, and that panic when told to; a runtime that takes nothing.

use larder::{Refused, Runtime};
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering::SeqCst};

/// How many of its [`Counted`] are alive.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Arc<AtomicI64>);

impl Ledger {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn alive(&self) -> i64 {
        self.0.load(SeqCst)
    }

    pub(crate) fn counted(&self, id: u64) -> Counted {
        self.0.fetch_add(1, SeqCst);
        Counted { id, ledger: self.clone() }
    }
}

/// A key or value that is counted from when it is made until it is dropped.
pub(crate) struct Counted {
    pub(crate) id: u64,
    ledger: Ledger,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.ledger.counted(self.id)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ledger.0.fetch_sub(1, SeqCst);
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// A piece of a user's code that may panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    Hash = 1,
    Eq,
    CloneKey,
    CloneValue,
    DropKey,
    DropValue,
    Weigh,
    Listen,
    Predicate,
    Load,
}

/// Blows once, at the n-th call of one piece of code.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Arc<(AtomicU8, AtomicI64)>);

impl Fuse {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn arm(&self, op: Op, nth: i64) {
        self.0.1.store(nth, SeqCst);
        self.0.0.store(op as u8, SeqCst);
    }

    /// Takes the fuse out; whether it has blown.
    pub(crate) fn disarm(&self) -> bool {
        self.0.0.store(0, SeqCst);
        self.0.1.load(SeqCst) <= 0
    }

    pub(crate) fn burn(&self, op: Op) {
        let blows = self.0.0.load(SeqCst) == op as u8 && self.0.1.fetch_sub(1, SeqCst) == 1;
        assert!(!blows, "expected: the fuse of {op:?}");
    }
}

/// A key that panics in `Hash`, `Eq`, `Clone` or `Drop`, as its fuse says.
pub(crate) struct TouchyKey {
    pub(crate) counted: Counted,
    fuse: Fuse,
}

impl TouchyKey {
    pub(crate) fn new(id: u64, ledger: &Ledger, fuse: &Fuse) -> Self {
        Self { counted: ledger.counted(id), fuse: fuse.clone() }
    }
}

impl Clone for TouchyKey {
    fn clone(&self) -> Self {
        self.fuse.burn(Op::CloneKey);
        Self { counted: self.counted.clone(), fuse: self.fuse.clone() }
    }
}

impl Drop for TouchyKey {
    fn drop(&mut self) {
        self.fuse.burn(Op::DropKey);
    }
}

impl PartialEq for TouchyKey {
    fn eq(&self, other: &Self) -> bool {
        self.fuse.burn(Op::Eq);
        self.counted == other.counted
    }
}

impl Eq for TouchyKey {}

impl Hash for TouchyKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fuse.burn(Op::Hash);
        self.counted.hash(state);
    }
}

/// A value that panics in `Clone` or `Drop`, as its fuse says.
pub(crate) struct TouchyValue {
    pub(crate) counted: Counted,
    fuse: Fuse,
}

impl TouchyValue {
    pub(crate) fn new(id: u64, ledger: &Ledger, fuse: &Fuse) -> Self {
        Self { counted: ledger.counted(id), fuse: fuse.clone() }
    }
}

impl Clone for TouchyValue {
    fn clone(&self) -> Self {
        self.fuse.burn(Op::CloneValue);
        Self { counted: self.counted.clone(), fuse: self.fuse.clone() }
    }
}

impl Drop for TouchyValue {
    fn drop(&mut self) {
        self.fuse.burn(Op::DropValue);
    }
}

/// Takes nothing, in one of the ways in which runtimes do.
pub(crate) enum Unwilling {
    Refusing,
    /// As tokio's does when it is shut down: it takes the work and drops it.
    Dropping,
}

impl Runtime for Unwilling {
    fn spawn_blocking(&self, _: Box<dyn FnOnce() + Send>) -> Result<(), Refused> {
        match self {
            Self::Refusing => Err(Refused),
            Self::Dropping => Ok(()),
        }
    }

    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) -> Result<(), Refused> {
        Err(Refused)
    }
}
