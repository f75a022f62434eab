//! Which architectures there are, and how config.json chooses among them.

use serde::Deserialize;
use vlinders_layers::{LayerError, Weights, parse_config};

use crate::CausalLm;

/// An architecture: the name that config.json gives it, and its code.
#[derive(Clone, Copy)]
pub struct Architecture {
    /// As in the field `architectures`.
    pub name: &'static str,
    build: Build,
}

/// Builds a model from config.json and weights.
type Build = fn(&[u8], &Weights) -> Result<Box<dyn CausalLm>, LayerError>;

/// A model that can be built: its architecture, and its config.json.
pub struct ModelSpec {
    architecture: &'static Architecture,
    config: Vec<u8>,
    /// The longest context that the model was made for.
    pub max_position_embeddings: usize,
}

/// A model that can not be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// There is no code for it.
    #[error("config.json: the architecture {found:?} is not supported; supported are {}", supported())]
    UnknownArchitecture {
        /// What the field `architectures` holds.
        found: Vec<String>,
    },
    /// Its config or its weights can not be used.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    architectures: Vec<String>,
    max_position_embeddings: Option<usize>,
}

/// Lists architectures: the name in config.json, and the module with its `Config` and `Model`.
macro_rules! architectures {
    ($($name:literal => $module:ident),+ $(,)?) => {
        /// All architectures.
        pub static ARCHITECTURES: &[Architecture] = &[$(Architecture {
            name: $name,
            build: |config, weights| Ok(Box::new(crate::$module::model(config, weights)?)),
        }),+];
    };
}

architectures! {
    "LlamaForCausalLM" => llama,
    "MistralForCausalLM" => mistral,
    "MixtralForCausalLM" => mixtral,
    "Qwen2ForCausalLM" => qwen2,
    "Qwen3ForCausalLM" => qwen3,
    "Qwen3MoeForCausalLM" => qwen3_moe,
}

// === impl ModelSpec ===

impl ModelSpec {
    /// Choose the architecture of a config.json and check its fields.
    ///
    /// # Errors
    /// When there is no code for it (lists what there is), or a field can not be used.
    pub fn parse(config: &[u8]) -> Result<Self, ModelError> {
        let head: Head = parse_config(config)?;
        let known = |name: &String| ARCHITECTURES.iter().find(|a| a.name == *name);
        let Some(architecture) = head.architectures.iter().find_map(known) else {
            return Err(ModelError::UnknownArchitecture { found: head.architectures });
        };
        let max_position_embeddings = head
            .max_position_embeddings
            .ok_or_else(|| LayerError::config("max_position_embeddings", "is missing"))?;
        Ok(Self { architecture, config: config.to_vec(), max_position_embeddings })
    }

    /// Name of the architecture, as in config.json.
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        self.architecture.name
    }

    /// Build the model. With planning weights this records what it needs and gives a model that can only
    /// tell its sizes.
    ///
    /// # Errors
    /// When a field of the config or a tensor can not be used.
    pub fn build(&self, weights: &Weights) -> Result<Box<dyn CausalLm>, ModelError> {
        Ok((self.architecture.build)(&self.config, weights)?)
    }
}

// === impl Architecture ===

impl std::fmt::Debug for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn supported() -> String {
    let names: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name).collect();
    names.join(", ")
}
