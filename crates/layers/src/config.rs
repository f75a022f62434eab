//! Reading config.json so that an error names the field.

use serde::de::DeserializeOwned;

use crate::LayerError;

/// Parse the fields of `T` out of a config.json; fields that `T` does not name are ignored.
///
/// # Errors
/// Names the field and, where the text itself is broken, line and column.
pub fn parse_config<T: DeserializeOwned>(json: &[u8]) -> Result<T, LayerError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = match error.path().to_string() {
            path if path == "." => "the file".to_owned(),
            path => path,
        };
        LayerError::config(field, error.inner().to_string())
    })
}

/// Accept the activation functions that the layers compute.
///
/// # Errors
/// Names the function and the supported ones.
pub fn check_activation(hidden_act: &str) -> Result<(), LayerError> {
    match hidden_act {
        "silu" | "swish" => Ok(()),
        other => Err(LayerError::config("hidden_act", format!("{other:?} is not supported; known: silu"))),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsing is looked at")]
    struct Example {
        hidden_size: usize,
    }

    #[test]
    fn errors_name_field_and_line() {
        let message = |json: &str| parse_config::<Example>(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            message("{\n \"hidden_size\": \"many\"\n}"),
            "config.json: hidden_size: invalid type: string \"many\", expected usize at line 2 column 22"
        );
        assert!(message("{}").contains("missing field `hidden_size`"));
        assert!(message("{\"hidden_size\": 1").contains("EOF"));
    }

    #[test]
    fn other_activations_are_refused() {
        assert!(check_activation("silu").is_ok());
        let error = check_activation("gelu").unwrap_err().to_string();
        assert_eq!(error, "config.json: hidden_act: \"gelu\" is not supported; known: silu");
    }
}
