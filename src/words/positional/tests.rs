//! What is written is postcard's, and what it would garble is refused.

use super::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

fn bytes_of<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    // after what is there already
    let bytes = write(value, vec![7]).map_err(|error| error.to_string())?;
    assert_eq!(bytes[0], 7);
    Ok(bytes[1..].to_vec())
}

/// Written as postcard does, and read back.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = bytes_of(value).unwrap();
    assert_eq!(bytes, postcard::to_extend(value, Vec::new()).unwrap());
    let read = postcard::from_bytes::<T>(&bytes).unwrap();
    assert_eq!(&read, value);
    assert_eq!(outline(&read), outline(value));
}

/// Postcard writes it all the same.
fn is_refused<T: Serialize>(value: &T, words: &str) {
    assert!(postcard::to_extend(value, Vec::new()).is_ok());
    let text = bytes_of(value).unwrap_err();
    assert!(text.contains(words), "{text}");
}

/// Written, and no error by itself: only who reads it notices, or nobody does.
fn is_written<T: Serialize>(value: &T) -> Vec<u8> {
    let bytes = bytes_of(value).unwrap();
    assert_eq!(bytes, postcard::to_extend(value, Vec::new()).unwrap());
    bytes
}

/// Read back as another value, whose outline shows that.
fn is_garbled<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, as_what: &T) {
    let bytes = is_written(value);
    let read = postcard::from_bytes::<T>(&bytes).unwrap();
    assert_eq!(&read, as_what);
    assert_ne!(outline(value), outline(&read));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Price {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nick: Option<String>,
    flags: u8,
    cents: u32,
}

fn price(nick: Option<&str>) -> Price {
    Price { nick: nick.map(str::to_owned), flags: 0, cents: 300 }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtype<T>(T);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tuple(u8, Option<String>, (i64, [u16; 3]));

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(Vec<i32>),
    Tuple(u8, f64),
    Struct { at: u32, of: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Numbers {
    signed: (i8, i16, i32, i64, i128),
    unsigned: (u8, u16, u32, u64, u128),
    floats: (f32, f64),
    others: (bool, char, (), usize),
}

/// As a byte string.
struct Bytes;

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(b"bytes")
    }
}

#[test]
fn what_postcard_writes_well_is_written_so() {
    comes_back(&Numbers {
        signed: (i8::MIN, -300, i32::MIN, i64::MAX, i128::MIN),
        unsigned: (255, 300, 1 << 20, u64::MAX, u128::MAX),
        floats: (-1.5, f64::MAX),
        others: (true, 'ß', (), 70_000),
    });
    comes_back(&(String::from("text"), Arc::<str>::from(""), Box::new(5_u8)));
    comes_back(&(Unit, Newtype(Newtype(9_u64)), Tuple(1, None, (-2, [3, 4, 5]))));
    comes_back(&vec![
        Shape::Unit,
        Shape::Newtype(vec![1, -1]),
        Shape::Tuple(7, 0.5),
        Shape::Struct { at: 300, of: "x".to_owned() },
    ]);
    comes_back(&BTreeMap::from([
        ("a".to_owned(), Some(Some(1_u32))),
        ("b".to_owned(), Some(None)),
    ]));
    comes_back(&BTreeSet::from([Unit]));
    comes_back(&HashMap::from([(300_u16, vec![price(Some("n"))])]));
    comes_back(&Ok::<Result<u8, String>, ()>(Err("no".to_owned())));
    // by `collect_str`, or by what is not for people to read
    comes_back(&"::1".parse::<IpAddr>().unwrap());
    assert_eq!(bytes_of(&format_args!("{}-{}", 1, 2)).unwrap(), b"\x031-2");
    assert_eq!(is_written(&Bytes), b"\x05bytes");
}

#[derive(Serialize)]
struct Key(#[serde(serialize_with = "keyed")] String);

fn keyed<S: Serializer>(key: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map([(price(None), key)])
}

#[derive(Serialize)]
struct InTuple(u8, Price);

#[derive(Serialize)]
struct InStruct {
    price: Price,
}

#[derive(Serialize)]
enum Leaving {
    Struct {
        #[serde(skip_serializing_if = "Vec::is_empty", rename = "items")]
        _items: Vec<u8>,
    },
    Tuple(u8, Price),
    Inner {
        price: Price,
    },
}

#[derive(Serialize)]
#[serde(tag = "kind")]
enum TaggedPrice {
    Price(Price),
}

#[test]
fn a_field_that_is_left_out_is_named() {
    // what would have been read
    let garbled: Price =
        postcard::from_bytes(&postcard::to_extend(&price(None), Vec::new()).unwrap()).unwrap();
    assert_eq!((garbled.flags, garbled.cents), (172, 2));

    is_refused(&price(None), "the field `nick` of `Price` is left out");
    comes_back(&price(Some("a")));
    // wherever it is
    is_refused(&Some(price(None)), "`nick` of `Price`");
    is_refused(&vec![price(Some("a")), price(None)], "`nick`");
    is_refused(&(1, price(None)), "`nick`");
    is_refused(&Newtype(price(None)), "`nick`");
    is_refused(&Arc::new(price(None)), "`nick`");
    is_refused(&BTreeMap::from([(1, price(None))]), "`nick`");
    is_refused(&Err::<u8, _>(price(None)), "`nick`");
    is_refused(&Key(String::new()), "`nick`");
    is_refused(&InTuple(1, price(None)), "`nick`");
    is_refused(&InStruct { price: price(None) }, "`nick` of `Price`");

    is_refused(&Leaving::Struct { _items: Vec::new() }, "`items` of `Leaving::Struct`");
    assert_eq!(is_written(&Leaving::Struct { _items: vec![9] }), [0, 1, 9]);
    is_refused(&Leaving::Tuple(1, price(None)), "`nick`");
    is_refused(&Leaving::Inner { price: price(None) }, "`nick`");

    is_refused(&TaggedPrice::Price(price(None)), "`nick`");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cached {
    before: u8,
    #[serde(skip)]
    memo: Option<u64>,
    #[serde(default, rename = "later")]
    after: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kept {
    Struct {
        #[serde(skip)]
        memo: u8,
        at: u64,
    },
    #[serde(skip)]
    _Never,
}

#[test]
fn a_field_that_is_left_out_both_ways_is_no_trouble() {
    comes_back(&Cached { before: 1, memo: None, after: 300 });
    comes_back(&Kept::Struct { memo: 0, at: 300 });
}

#[derive(Serialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    price: Price,
}

#[test]
fn what_does_not_say_its_length_is_refused() {
    let flat = Flat { id: 1, price: price(Some("a")) };
    assert!(postcard::to_extend(&flat, Vec::new()).is_err());
    assert!(bytes_of(&flat).unwrap_err().contains("`flatten`"));
}

#[derive(Serialize)]
struct Strict(#[serde(serialize_with = "never")] String);

fn never<S: Serializer>(_: &str, _: S) -> Result<S::Ok, S::Error> {
    Err(ser::Error::custom("not today"))
}

#[test]
fn what_a_type_says_itself_is_told() {
    assert_eq!(bytes_of(&Strict(String::new())).unwrap_err(), "not today");
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Text(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Struct { at: u8 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "of")]
enum Beside {
    Number(u32),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Hidden {
    #[serde(default, skip_serializing)]
    level: u8,
    at: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unnamed(#[serde(skip_serializing_if = "Option::is_none")] Option<u8>, u8, u32);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WriteOnly {
    #[serde(skip_deserializing)]
    sum: u8,
    numbers: (u8, u8, Option<u8>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Skipping {
    #[serde(skip)]
    _Never,
    One,
    Two,
}

/// What cannot be seen while it is written: whoever relies on these bytes has to read them back.
#[test]
fn some_types_are_written_and_cannot_be_read() {
    let bytes = is_written(&Either::Text("x".to_owned()));
    assert!(postcard::from_bytes::<Either>(&bytes).is_err());

    let bytes = is_written(&Tagged::Struct { at: 1 });
    assert!(postcard::from_bytes::<Tagged>(&bytes).is_err());

    let bytes = is_written(&Beside::Number(300));
    assert!(postcard::from_bytes::<Beside>(&bytes).is_err());

    let bytes = is_written(&serde_json::json!({ "at": 1 }));
    assert!(postcard::from_bytes::<serde_json::Value>(&bytes).is_err());

    is_garbled(&Hidden { level: 1, at: 300 }, &Hidden { level: 172, at: 2 });
    is_garbled(&Unnamed(None, 0, 300), &Unnamed(None, 172, 2));
    let write_only = |a, b, c| vec![WriteOnly { sum: 0, numbers: (a, b, c) }];
    is_garbled(&write_only(0, 1, None), &write_only(0, 0, Some(0)));
    is_garbled(&Skipping::One, &Skipping::Two);
}
