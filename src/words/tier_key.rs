//! A key's name outside of the process.
//!
//! A key can be looked up in a borrowed form, such as a `&str` for a `String`, and a second tier has to be told
//! of a removal by that form, from which no key can be made. By the contract of [`Equivalent`] both forms feed
//! the same data to a hasher. So that data, written as text, is the key's name: it is the same in every process,
//! and can be fed to the hasher of another process.
//!
//! Different keys may have the same name, since a type may hash less than it compares: what is stored under a
//! name contains its key.

use equivalent::Equivalent;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// A key as a second [`Tier`](crate::Tier) sees it: its name, a text that is the same in every process that
/// hashes the key's type in the same way.
///
/// A string is its own name, a `u64` is written as `#42`, other integers with their type (`#42:i32`), and the
/// parts of a composite key are joined with `|`. Control characters, `%`, `|`, and `#` or `$` at the
/// beginning of a part are written as `%` and two hexadecimal digits.
///
/// ```
/// use larder::TierKey;
///
/// assert_eq!(TierKey::of("ada").as_str(), "ada");
/// assert_eq!(TierKey::of(&42_u64).as_str(), "#42");
/// assert_eq!(TierKey::of(&("shop", 7_u32)).as_str(), "shop|#7:u32");
/// ```
///
/// It is made of what the key's `Hash` feeds to a hasher, so that a removal by `&str` finds what was stored
/// by `String`. Two keys that hash alike have the same name, so an entry that is stored under it must contain
/// its key, and the cache compares. The integers of a slice are fed, and so written, as this machine keeps
/// them in memory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TierKey(Arc<str>);

impl TierKey {
    /// Makes the name of a key, or of what is equivalent to it.
    pub fn of<Q: ?Sized + Hash>(key: &Q) -> Self {
        let mut pen = Pen::default();
        key.hash(&mut pen);
        Self(pen.finish().into())
    }

    /// Takes a name as another process wrote it. Any text will do: one that is no key's name is equivalent to
    /// no key.
    pub fn from_name(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hashes that keys of this name may have: none if it is not a valid name, and usually one. There may be
    /// more if the hasher specializes for some types, as ahash does on nightly compilers: a `u32` has the same
    /// name as a struct that contains only a `u32`.
    pub(crate) fn hashes_by<S: BuildHasher>(
        &self,
        hasher: &S,
    ) -> impl Iterator<Item = u64> + use<S> {
        let (alone, fed) = match read(&self.0) {
            None => (None, None),
            Some(parts) => {
                let alone = match parts.as_slice() {
                    [Part::Text(text)] => {
                        std::str::from_utf8(text).ok().map(|text| hasher.hash_one(text))
                    }
                    [Part::Number(number)] => Some(number.hash_alone(hasher)),
                    [Part::Number(Number::Usize(len)), Part::Bytes(bytes)]
                        if *len == bytes.len() =>
                    {
                        Some(hasher.hash_one(bytes.as_slice()))
                    }
                    _ => None,
                };
                (alone, Some(hasher.hash_one(Replay(&parts))))
            }
        };
        fed.into_iter().chain(alone.filter(|_| alone != fed))
    }
}

/// Stands for all keys of a name in look-ups.
pub(crate) struct ByName<'a>(pub(crate) &'a TierKey);

impl<K: Hash> Equivalent<K> for ByName<'_> {
    fn equivalent(&self, key: &K) -> bool {
        TierKey::of(key) == *self.0
    }
}

impl fmt::Display for TierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // keys are the user's data: never in logs
        f.debug_struct("TierKey").finish_non_exhaustive()
    }
}

/// One thing that a key feeds to a hasher.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Bytes with the byte after them that no text contains, as texts are fed.
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Number(Number),
}

macro_rules! numbers {
    ($($name:ident $type:ident $write:ident,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Number {
            $($name($type),)*
        }

        impl Number {
            fn feed(self, hasher: &mut impl Hasher) {
                match self {
                    $(Self::$name(number) => hasher.$write(number),)*
                }
            }

            fn hash_alone<S: BuildHasher>(self, hasher: &S) -> u64 {
                match self {
                    $(Self::$name(number) => hasher.hash_one(number),)*
                }
            }

            fn parse(text: &str) -> Option<Self> {
                let (digits, kind) = text.split_once(':').unwrap_or((text, "u64"));
                let number = match kind {
                    $(stringify!($type) => Self::$name(digits.parse().ok()?),)*
                    _ => return None,
                };
                // of one number there is one text
                (number.to_string() == text).then_some(number)
            }
        }

        impl fmt::Display for Number {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::U64(number) => write!(f, "{number}"),
                    $(#[allow(unreachable_patterns, reason = "one of them has no name")]
                    Self::$name(number) => write!(f, concat!("{}:", stringify!($type)), number),)*
                }
            }
        }

        impl Hasher for Pen {
            $(fn $write(&mut self, number: $type) {
                self.number(Number::$name(number));
            })*

            fn write(&mut self, bytes: &[u8]) {
                self.flush();
                self.bytes = Some(bytes.to_vec());
            }

            fn finish(&self) -> u64 {
                0 // not used: this hasher only records
            }
        }
    };
}

numbers! {
    U8 u8 write_u8,
    U16 u16 write_u16,
    U32 u32 write_u32,
    U64 u64 write_u64,
    U128 u128 write_u128,
    Usize usize write_usize,
    I8 i8 write_i8,
    I16 i16 write_i16,
    I32 i32 write_i32,
    I64 i64 write_i64,
    I128 i128 write_i128,
    Isize isize write_isize,
}

/// The name of a key that feeds nothing to a hasher.
const NOTHING: &str = "%";

/// Writes a name: a hasher that keeps what it is fed.
#[derive(Debug, Default)]
struct Pen {
    name: String,
    parts: usize,
    /// Bytes that may turn out to be a text.
    bytes: Option<Vec<u8>>,
}

impl Pen {
    fn finish(mut self) -> String {
        self.flush();
        if self.parts == 0 { NOTHING.to_owned() } else { self.name }
    }

    fn number(&mut self, number: Number) {
        if number == Number::U8(0xFF) {
            if let Some(text) = self.bytes.take() {
                self.begin();
                escape(&text, &mut self.name);
                return;
            }
        }
        self.flush();
        self.begin();
        // writing to a `String` does not fail
        _ = write!(self.name, "#{number}");
    }

    fn flush(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.begin();
            self.name.push('$');
            escape(&bytes, &mut self.name);
        }
    }

    fn begin(&mut self) {
        if self.parts > 0 {
            self.name.push('|');
        }
        self.parts += 1;
    }
}

fn escape(bytes: &[u8], name: &mut String) {
    let start = name.len();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let is_first = name.len() == start;
            let is_special = character.is_control()
                || matches!(character, '%' | '|')
                || is_first && matches!(character, '#' | '$');
            if is_special {
                let mut buffer = [0; 4];
                hex(character.encode_utf8(&mut buffer).as_bytes(), name);
            } else {
                name.push(character);
            }
        }
        hex(chunk.invalid(), name);
    }
}

fn hex(bytes: &[u8], name: &mut String) {
    for byte in bytes {
        _ = write!(name, "%{byte:02X}");
    }
}

/// Parses a name into the data that was fed; `None` if it is not a valid name.
fn read(name: &str) -> Option<Vec<Part>> {
    if name == NOTHING {
        return Some(Vec::new());
    }
    name.split('|').map(read_part).collect()
}

fn read_part(part: &str) -> Option<Part> {
    if let Some(number) = part.strip_prefix('#') {
        return Number::parse(number).map(Part::Number);
    }
    match part.strip_prefix('$') {
        Some(bytes) => unescape(bytes).map(Part::Bytes),
        None => unescape(part).map(Part::Text),
    }
}

fn unescape(part: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high << 4 | low) as u8);
    }
    Some(bytes)
}

/// Feeds a hasher the same data as the key.
struct Replay<'a>(&'a [Part]);

impl Hash for Replay<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for part in self.0 {
            match part {
                Part::Text(text) => {
                    hasher.write(text);
                    hasher.write_u8(0xFF);
                }
                Part::Bytes(bytes) => hasher.write(bytes),
                Part::Number(number) => number.feed(hasher),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::RandomState as SipState;

    /// The name, and that by it the same hash is found with any hasher.
    fn name<K: Hash>(key: &K) -> String {
        let name = TierKey::of(key);
        let read = TierKey::from_name(name.as_str());
        assert!(ByName(&read).equivalent(key));
        let (fast, slow) = (ahash::RandomState::new(), SipState::new());
        assert!(read.hashes_by(&fast).any(|hash| hash == fast.hash_one(key)), "{name}");
        assert!(read.hashes_by(&slow).any(|hash| hash == slow.hash_one(key)), "{name}");
        name.to_string()
    }

    #[derive(Hash)]
    enum Route {
        Home,
        Page { author: u32, title: String },
    }

    #[test]
    fn names_are_what_people_would_write() {
        assert_eq!(name(&"ada"), "ada");
        assert_eq!(name(&"ada".to_owned()), "ada");
        assert_eq!(name(&"Äpfel und 100 %|"), "Äpfel und 100 %25%7C");
        assert_eq!(name(&"#1 $"), "%231 $");
        assert_eq!(name(&""), "");
        assert_eq!(name(&42_u64), "#42");
        assert_eq!(name(&-7_i32), "#-7:i32");
        assert_eq!(name(&255_u8), "#255:u8");
        assert_eq!(name(&u128::MAX), format!("#{}:u128", u128::MAX));
        assert_eq!(name(&()), "%");
        assert_eq!(name(&("a", "b")), "a|b");
        assert_eq!(name(&("a|b", 1_u64)), "a%7Cb|#1");
        assert_eq!(name(&vec![1_u8, 255]), "#2:usize|$%01%FF");
        assert_eq!(name(&Some("x")), "#1:isize|x");
        assert_eq!(name(&Route::Home), "#0:isize");
        let page = Route::Page { author: 7, title: "on|off".to_owned() };
        assert_eq!(name(&page), "#1:isize|#7:u32|on%7Coff");
        assert_eq!(name(&[3_u16, 4]).split('|').next(), Some("#2:usize"));
    }

    #[test]
    fn what_is_no_name_is_nobodys() {
        let hasher = ahash::RandomState::new();
        for text in ["%", "#", "#x", "#042", "#1:u64", "#1:f32", "%2", "%zz", "#1|%"] {
            let key = TierKey::from_name(text);
            assert!(!ByName(&key).equivalent(&text.to_owned()), "{text}");
            if text != "%" {
                assert_eq!(key.hashes_by(&hasher).count(), 0, "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_key_is_found_by_its_name(text: String, number: i64, bytes: Vec<u8>, pair: (u16, String)) {
            name(&text);
            name(&number);
            name(&bytes);
            name(&pair);
            name(&(text, bytes, Some(pair)));
        }

        #[test]
        fn different_texts_have_different_names(a: (String, String), b: (String, String)) {
            prop_assert_eq!(TierKey::of(&a) == TierKey::of(&b), a == b);
        }

        #[test]
        fn reading_anything_is_harmless(text: String) {
            TierKey::from_name(&text).hashes_by(&ahash::RandomState::new()).for_each(drop);
        }
    }
}
