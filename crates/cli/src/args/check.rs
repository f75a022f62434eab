//! Arguments of `vlinders check`.

use super::ModelArgs;

const EXAMPLES: &str = "\
Examples:
  vlinders check                                     ./models.yaml
  vlinders check /models/Llama-3.1-8B-Instruct       one folder; a .gguf file works too
  vlinders check --models prod.yaml --json           for a pipeline

Exit status: 0 when all is well, 1 when a model could not be served.";

/// Say before a rollout whether configuration, weights and memory fit
///
/// Reads the headers of the weights, never the weights themselves, so it takes moments. For each enabled model it
/// checks that all tensors are there with the right shapes, that tokenizer and chat template work, and that weights
/// and KV cache fit into the memory of this machine or container; where they do not, it says which settings would.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,

    /// Also check these settings of the server [default: ./server.yaml if it exists]
    #[arg(long, value_name = "FILE", env = "VLINDERS_SERVER")]
    pub(crate) server: Option<std::path::PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
