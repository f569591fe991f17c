//! Postcard's bytes, of no value that they would turn into another one.
//!
//! These bytes have no names: a struct is its fields, one after the other. If one is left out, as
//! `skip_serializing_if` does, the reader takes the bytes of the next field for it, and often reads something that
//! looks like a value. So this writes what postcard would, and refuses a value of which it is told, by
//! `skip_field`, that a field is left out. (It is not told of `skip`, which leaves the field out when reading as
//! well, nor of `skip_serializing` alone, which does not; nor of any field without a name.)

use postcard::ser_flavors::{ExtendFlavor, Flavor};
use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::fmt;

/// Why a value was not written.
#[derive(Debug)]
pub(crate) enum Unwritable {
    /// This field of it was left out.
    FieldLeftOut { of: TypeName, field: &'static str },
    /// Something in it does not say beforehand how many elements it has.
    LengthUnknown,
    /// Its own `Serialize` refused, with these words. They may quote the value.
    ByItself(String),
    /// Postcard refused.
    Refused(postcard::Error),
}

/// A struct, or a variant with fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TypeName {
    name: &'static str,
    variant: Option<&'static str>,
}

/// Appends a value to `to`.
pub(crate) fn write<T>(value: &T, to: Vec<u8>) -> Result<Vec<u8>, Box<Unwritable>>
where
    T: Serialize + ?Sized,
{
    let mut out = Out::new(to);
    value.serialize(Positional(&mut out))?;
    Ok(out.postcard.output.finalize()?)
}

/// What two values have in common if one was read from the bytes of the other, in whatever order their maps
/// are walked, and even if they say something about the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outline {
    len: usize,
    variants: u64,
}

/// What is in common; nothing of a value that is not written.
#[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "a snapshot is not read back"))]
pub(crate) fn outline<T: Serialize + ?Sized>(value: &T) -> Option<Outline> {
    let mut out = Out::new(Vec::new());
    value.serialize(Positional(&mut out)).ok()?;
    let variants = out.variants;
    Some(Outline { len: out.postcard.output.finalize().ok()?.len(), variants })
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.variant.map_or(Ok(()), |variant| write!(f, "::{variant}"))
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldLeftOut { of, field } => write!(
                f,
                "the field `{field}` of `{of}` is left out (`skip_serializing_if`), and without field names \
                 the bytes would be read as another value: always write it"
            ),
            Self::LengthUnknown => f.write_str(
                "a map or sequence does not say its length beforehand, as with serde's `flatten`",
            ),
            Self::ByItself(words) => f.write_str(words),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unwritable {}

impl ser::Error for Box<Unwritable> {
    fn custom<T: fmt::Display>(words: T) -> Self {
        Box::new(Unwritable::ByItself(words.to_string()))
    }
}

impl From<postcard::Error> for Box<Unwritable> {
    fn from(error: postcard::Error) -> Self {
        Box::new(match error {
            postcard::Error::SerializeSeqLengthUnknown => Unwritable::LengthUnknown,
            error => Unwritable::Refused(error),
        })
    }
}

type Written = Result<(), Box<Unwritable>>;

struct Out {
    postcard: postcard::Serializer<ExtendFlavor<Vec<u8>>>,
    /// A sum over the names of all variants, which in the bytes are numbers.
    variants: u64,
}

impl Out {
    fn new(to: Vec<u8>) -> Self {
        Self { postcard: postcard::Serializer { output: ExtendFlavor::new(to) }, variants: 0 }
    }
}

/// Has postcard write everything but what is inside of something else: that comes through here again.
struct Positional<'a>(&'a mut Out);

/// The fields of a struct, or of a variant with fields.
struct Fields<'a> {
    to: Positional<'a>,
    of: TypeName,
}

impl Positional<'_> {
    fn inner<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(Positional(self.0))
    }

    fn variant(&mut self, name: &'static str, index: u32, variant: &'static str) -> Written {
        // FNV-1a: short, and the same in every part of a program
        let hash = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = variant.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, hash);
        self.0.variants = self.0.variants.wrapping_add(hash);
        Ok(self.0.postcard.serialize_unit_variant(name, index, variant)?)
    }
}

impl Fields<'_> {
    fn left_out(&self, field: &'static str) -> Written {
        Err(Box::new(Unwritable::FieldLeftOut { of: self.of, field }))
    }
}

macro_rules! as_postcard_does {
    ($($call:ident($($name:ident: $type:ty),*);)*) => {
        $(
            #[inline]
            fn $call(self, $($name: $type),*) -> Written {
                Ok(self.0.postcard.$call($($name),*)?)
            }
        )*
    };
}

impl<'a> Serializer for Positional<'a> {
    type Ok = ();
    type Error = Box<Unwritable>;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    as_postcard_does! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_f32(value: f32);
        serialize_f64(value: f64);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Written {
        Ok(self.0.postcard.collect_str(value)?)
    }

    #[inline]
    fn serialize_unit_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Written {
        self.variant(name, index, variant)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Written {
        // of `()` there is nothing to write
        self.0.postcard.serialize_some(&())?;
        self.inner(value)
    }

    #[inline]
    fn serialize_newtype_struct<T>(mut self, _: &'static str, value: &T) -> Written
    where
        T: Serialize + ?Sized,
    {
        self.inner(value)
    }

    #[inline]
    fn serialize_newtype_variant<T>(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Written
    where
        T: Serialize + ?Sized,
    {
        self.variant(name, index, variant)?;
        self.inner(value)
    }

    // What postcard returns from these has no state of its own.

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Self::Error> {
        self.0.postcard.serialize_seq(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self, Self::Error> {
        self.0.postcard.serialize_tuple(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self, Self::Error> {
        self.0.postcard.serialize_tuple_struct(name, len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, Self::Error> {
        self.variant(name, index, variant)?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Self::Error> {
        self.0.postcard.serialize_map(len)?;
        Ok(self)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields<'a>, Self::Error> {
        self.0.postcard.serialize_struct(name, len)?;
        Ok(Fields { to: self, of: TypeName { name, variant: None } })
    }

    #[inline]
    fn serialize_struct_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Self::Error> {
        self.variant(name, index, variant)?;
        Ok(Fields { to: self, of: TypeName { name, variant: Some(variant) } })
    }
}

macro_rules! all_of {
    ($($compound:ident: $($call:ident),*;)*) => {
        $(
            impl $compound for Positional<'_> {
                type Ok = ();
                type Error = Box<Unwritable>;

                $(
                    #[inline]
                    fn $call<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                        self.inner(value)
                    }
                )*

                #[inline]
                fn end(self) -> Written {
                    Ok(())
                }
            }
        )*
    };
}

all_of! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
    SerializeMap: serialize_key, serialize_value;
}

macro_rules! all_fields_of {
    ($($compound:ident)*) => {
        $(
            impl $compound for Fields<'_> {
                type Ok = ();
                type Error = Box<Unwritable>;

                #[inline]
                fn serialize_field<T>(&mut self, _: &'static str, value: &T) -> Written
                where
                    T: Serialize + ?Sized,
                {
                    self.to.inner(value)
                }

                #[inline]
                fn skip_field(&mut self, field: &'static str) -> Written {
                    self.left_out(field)
                }

                #[inline]
                fn end(self) -> Written {
                    Ok(())
                }
            }
        )*
    };
}

all_fields_of!(SerializeStruct SerializeStructVariant);

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests;
