//! HTTP: header fields for cached values, and lifetimes from an upstream's header fields.

pub(crate) mod directives;
pub(crate) mod downstream;
pub(crate) mod upstream;
