//! Keys and values of a GGUF file.
//!
//! Values stay encoded as they are in the file: a vocabulary is large, and is taken apart once, where it is used. Their
//! lengths and texts are checked while reading.

use std::collections::HashMap;

use super::bad;
use super::reader::Reader;
use crate::LayerError;

const MAX_KEY_BYTES: u64 = 1 << 16;
const MAX_TEXT_BYTES: u64 = 1 << 28;

/// Keys and values of a GGUF file. Getters give `None` for a key that is not there, and an error that names the key for a
/// value of another type.
#[derive(Debug, Default)]
pub struct Metadata {
    file: String,
    values: HashMap<String, Value>,
}

/// A value, or several of one type.
#[derive(Debug)]
struct Value {
    kind: Kind,
    /// How many there are, when it is an array.
    len: Option<usize>,
    /// As in the file.
    bytes: Vec<u8>,
}

/// The types of values, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

const ARRAY: u32 = 9;

// === impl Metadata ===

impl Metadata {
    pub(super) fn read(reader: &mut Reader<'_>, num_pairs: u64) -> Result<Self, LayerError> {
        let mut values = HashMap::new();
        for i in 0..num_pairs {
            let key = reader.text(MAX_KEY_BYTES, &|| format!("key {i}"))?;
            let value = Value::read(reader, &key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(reader.bad(format!("the key {key} is there twice")));
            }
        }
        Ok(Self { file: reader.file().to_owned(), values })
    }

    /// Whether there is such a key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// How many values a key has, when it is an array.
    #[must_use]
    pub fn array_len(&self, key: &str) -> Option<usize> {
        self.values.get(key)?.len
    }

    /// A text.
    ///
    /// # Errors
    /// The value is something else.
    pub fn text(&self, key: &str) -> Result<Option<&str>, LayerError> {
        self.get(key, "a text", |value| value.single(Kind::Text).then(|| value.texts().next()).flatten())
    }

    /// Several texts.
    ///
    /// # Errors
    /// The value is something else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, LayerError> {
        self.get(key, "an array of texts", |value| {
            (value.len.is_some() && value.kind == Kind::Text).then(|| value.texts().collect())
        })
    }

    /// A whole number of any width that is not negative.
    ///
    /// # Errors
    /// The value is something else.
    pub fn count(&self, key: &str) -> Result<Option<u64>, LayerError> {
        self.get(key, "a whole number, not negative", |value| {
            let number = value.integers().filter(|_| value.len.is_none())?.next()?;
            u64::try_from(number).ok()
        })
    }

    /// A number.
    ///
    /// # Errors
    /// The value is something else.
    pub fn number(&self, key: &str) -> Result<Option<f64>, LayerError> {
        self.get(key, "a number", |value| value.numbers().filter(|_| value.len.is_none())?.next())
    }

    /// True or false.
    ///
    /// # Errors
    /// The value is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, LayerError> {
        self.get(key, "true or false", |value| {
            value.single(Kind::Bool).then(|| value.bytes.first().is_some_and(|byte| *byte != 0))
        })
    }

    /// Several whole numbers.
    ///
    /// # Errors
    /// The value is something else.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, LayerError> {
        self.get(key, "an array of whole numbers", |value| {
            value.len?;
            value.integers()?.map(|number| i64::try_from(number).ok()).collect()
        })
    }

    /// Several numbers.
    ///
    /// # Errors
    /// The value is something else.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, LayerError> {
        self.get(key, "an array of numbers", |value| {
            value.len?;
            Some(value.numbers()?.collect())
        })
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, LayerError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let found = || {
            let many = if value.len.is_some() { "an array of " } else { "" };
            bad(&self.file, format!("{key} must be {wanted}, is {many}{:?}", value.kind))
        };
        read(value).map(Some).ok_or_else(found)
    }
}

// === impl Value ===

impl Value {
    fn read(reader: &mut Reader<'_>, key: &str) -> Result<Self, LayerError> {
        let (number, len) = match reader.u32()? {
            ARRAY => (reader.u32()?, Some(reader.u64()?)),
            number => (number, None),
        };
        let kind = Kind::of(number).ok_or_else(|| {
            let nested = number == ARRAY;
            let what = if nested { "an array of arrays".to_owned() } else { format!("of type {number}") };
            reader.bad(format!("{key} is {what}, which is not known"))
        })?;
        let count = len.unwrap_or(1);
        let least = count.checked_mul(kind.least_bytes()).filter(|bytes| *bytes <= reader.left());
        let Some(least) = least else {
            return Err(reader.bad(format!("{key} claims {count} values, more than the file has room for")));
        };
        let bytes = if kind == Kind::Text {
            let mut bytes = Vec::new();
            for i in 0..count {
                let text = reader.text(MAX_TEXT_BYTES, &|| match len {
                    Some(_) => format!("{key}, text {i}"),
                    None => key.to_owned(),
                })?;
                bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            bytes
        } else {
            reader.bytes(least)?.to_vec()
        };
        Ok(Self { kind, len: len.map(|len| len as usize), bytes })
    }

    fn single(&self, kind: Kind) -> bool {
        self.len.is_none() && self.kind == kind
    }

    /// The texts of a value that holds texts.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (len, behind) = rest.split_first_chunk::<8>()?;
            let (text, behind) = behind.split_at_checked(u64::from_le_bytes(*len) as usize)?;
            rest = behind;
            std::str::from_utf8(text).ok()
        })
    }

    /// Whole numbers, when it holds such.
    fn integers(&self) -> Option<impl Iterator<Item = i128>> {
        let kind = self.kind;
        let whole = !matches!(kind, Kind::Text | Kind::Bool | Kind::F32 | Kind::F64);
        whole.then(|| self.bytes.chunks_exact(kind.least_bytes() as usize).map(move |b| kind.integer(b)))
    }

    /// Numbers, when it holds such.
    fn numbers(&self) -> Option<impl Iterator<Item = f64>> {
        let kind = self.kind;
        let number = move |b: &[u8]| match kind {
            Kind::F32 => b.first_chunk().map_or(0.0, |b| f64::from(f32::from_le_bytes(*b))),
            Kind::F64 => b.first_chunk().map_or(0.0, |b| f64::from_le_bytes(*b)),
            _ => kind.integer(b) as f64,
        };
        let numeric = !matches!(kind, Kind::Text | Kind::Bool);
        numeric.then(|| self.bytes.chunks_exact(kind.least_bytes() as usize).map(number))
    }
}

// === impl Kind ===

impl Kind {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of a value; of a text, those of its length.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::Text | Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    fn integer(self, bytes: &[u8]) -> i128 {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let value = u64::from_le_bytes(wide);
        match self {
            Self::I8 => (value as i8).into(),
            Self::I16 => (value as i16).into(),
            Self::I32 => (value as i32).into(),
            Self::I64 => (value as i64).into(),
            _ => value.into(),
        }
    }
}
