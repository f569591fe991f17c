//! The name of a tag.

use std::fmt;
use std::sync::Arc;

/// The name of a tag, under which entries are removed or expired together:
/// [`Loaded::tag`](crate::Loaded::tag) takes anything that converts into it, such as a `&str`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Tag {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<&String> for Tag {
    fn from(name: &String) -> Self {
        Self(name.as_str().into())
    }
}

impl From<String> for Tag {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<Arc<str>> for Tag {
    fn from(name: Arc<str>) -> Self {
        Self(name)
    }
}
