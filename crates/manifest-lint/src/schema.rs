//! Whether an object is what its schema says: read into the type, written out, compared.

mod custom;
mod difference;
mod kinds;
mod quantities;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::custom::check as check_custom;
pub(crate) use self::difference::differences;
pub(crate) use self::kinds::{Release, check as check_kind};

/// What an object says other than its type, in words; empty where it fits.
fn round_trip<T: DeserializeOwned + Serialize>(value: &Value) -> Vec<String> {
    let value = &quantities::as_strings(value);
    match serde_path_to_error::deserialize::<_, T>(value) {
        Err(error) => {
            let (path, inner) = (error.path().to_string(), error.inner().to_string());
            vec![format!("{path}: {inner}")]
        }
        Ok(typed) => match serde_json::to_value(typed) {
            Ok(written) => differences(value, &written),
            Err(error) => vec![error.to_string()],
        },
    }
}
