//! Cached values and HTTP: what an answer says of them, and what an upstream says of its own.

pub(crate) mod directives;
pub(crate) mod downstream;
pub(crate) mod upstream;
