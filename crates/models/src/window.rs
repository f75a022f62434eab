//! Which layers see a sliding window, in the fields that the Qwen models share.

use serde::Deserialize;
use vlinders_layers::LayerError;

/// The fields of config.json about sliding windows.
#[derive(Debug, Deserialize)]
pub(crate) struct WindowConfig {
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "default_sliding_window")]
    sliding_window: Option<usize>,
    #[serde(default = "default_max_window_layers")]
    max_window_layers: usize,
    layer_types: Option<Vec<String>>,
}

fn default_sliding_window() -> Option<usize> {
    Some(4096)
}

fn default_max_window_layers() -> usize {
    28
}

// === impl WindowConfig ===

impl WindowConfig {
    /// The window of each layer: by `layer_types` where it is given, else from layer `max_window_layers` on.
    pub(crate) fn windows(&self, layers: usize) -> Result<Vec<Option<usize>>, LayerError> {
        let window = self.sliding_window.filter(|_| self.use_sliding_window);
        let Some(types) = &self.layer_types else {
            return Ok((0..layers).map(|i| window.filter(|_| i >= self.max_window_layers)).collect());
        };
        let of_type = |kind: &String| match kind.as_str() {
            "full_attention" => Ok(None),
            "sliding_attention" => match window {
                Some(window) => Ok(Some(window)),
                None => Err(LayerError::config("sliding_window", "is off, but layer_types asks for it")),
            },
            other => {
                let reason = format!("{other:?} is not known; known: full_attention, sliding_attention");
                Err(LayerError::config("layer_types", reason))
            }
        };
        types.iter().map(of_type).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn windows(fields: serde_json::Value) -> Result<Vec<Option<usize>>, String> {
        let config: WindowConfig = serde_json::from_value(fields).unwrap();
        config.windows(3).map_err(|e| e.to_string())
    }

    #[test]
    fn a_window_begins_at_max_window_layers() {
        let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1});
        assert_eq!(windows(on).unwrap(), [None, Some(8), Some(8)]);
        let off = json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 1});
        assert_eq!(windows(off).unwrap(), [None; 3]);
        let null = json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0});
        assert_eq!(windows(null).unwrap(), [None; 3]);
    }

    #[test]
    fn layer_types_decide_where_they_are_given() {
        let types = json!(["sliding_attention", "full_attention", "sliding_attention"]);
        let on = json!({"use_sliding_window": true, "sliding_window": 4, "layer_types": types});
        assert_eq!(windows(on).unwrap(), [Some(4), None, Some(4)]);
        let off = json!({"layer_types": types});
        assert!(windows(off).unwrap_err().contains("sliding_window: is off"));
        let unknown = json!({"layer_types": ["chunked_attention"]});
        assert!(windows(unknown).unwrap_err().contains("known: full_attention"));
    }
}
