//! How a request object is read: field by field, so that every error knows its path.
//!
//! `#[serde(flatten)]` would let requests share fields too, but it buffers values and loses the path.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// An object whose fields are read one by one.
pub trait Fields: Default {
    /// Read the value of `key` from `map`; `false`, and nothing read, if there is no such field.
    ///
    /// # Errors
    /// The value has the wrong form.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;

    /// The first required field that was not given.
    fn missing(&self) -> Option<&'static str> {
        None
    }

    /// The names of all fields.
    fn names() -> Vec<&'static str>;
}

/// Read an object; unknown fields are skipped, the last of a repeated field counts.
pub(crate) fn deserialize<'de, T: Fields, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Fields> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
            let mut object = T::default();
            while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                if !object.read(&key, &mut map)? {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            match object.missing() {
                Some(field) => Err(serde::de::Error::missing_field(field)),
                None => Ok(object),
            }
        }
    }

    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

/// Implements [`Fields`] and `Deserialize` for a struct whose fields are all optional on the wire.
/// `required` names those that must be `Some`, `shared` the field that holds a group of further fields.
macro_rules! fields {
    ($name:ident { $($field:ident),* $(,)? } $(shared $shared:ident: $group:ident)? $(required $required:ident)?) => {
        impl $crate::fields::Fields for $name {
            fn read<'de, A: serde::de::MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
                match key {
                    $(stringify!($field) => self.$field = map.next_value()?,)*
                    _ => {
                        $(return <$group as $crate::fields::Fields>::read(&mut self.$shared, key, map);)?
                        #[allow(unreachable_code, reason = "reached where no group of shared fields exists")]
                        return Ok(false);
                    }
                }
                Ok(true)
            }

            $(fn missing(&self) -> Option<&'static str> {
                self.$required.is_none().then_some(stringify!($required))
            })?

            fn names() -> Vec<&'static str> {
                #[allow(unused_mut, reason = "extended where a group of shared fields exists")]
                let mut names = vec![$(stringify!($field)),*];
                $(names.extend(<$group as $crate::fields::Fields>::names());)?
                names
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::fields::deserialize(deserializer)
            }
        }
    };
}
pub(crate) use fields;
