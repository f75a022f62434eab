//! Which models, and settings that override those of models.yaml. Shared by `serve`, `worker` and `check`.

use std::path::PathBuf;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Models")]
pub(crate) struct ModelArgs {
    /// A Hugging Face folder or a .gguf file to use instead of models.yaml, or `builtin:vlinders-demo`
    #[arg(value_name = "MODEL", conflicts_with = "models")]
    pub(crate) folder: Option<String>,

    /// The id clients ask for, with MODEL [default: the name of the folder or file]
    #[arg(long, value_name = "NAME", requires = "folder")]
    pub(crate) name: Option<String>,

    /// The models to use [default: ./models.yaml if it exists, else the built-in model]
    #[arg(long, value_name = "FILE", env = "VLINDERS_MODELS")]
    pub(crate) models: Option<PathBuf>,

    /// Longest sequence, prompt and answer together, in tokens [default: what the model's config.json says]
    #[arg(long, value_name = "TOKENS", env = "VLINDERS_MAX_MODEL_LEN")]
    pub(crate) max_model_len: Option<usize>,

    /// Type of the weights: auto, float32, float16 or bfloat16 [default: auto, that of the checkpoint]
    #[arg(long, value_name = "TYPE", env = "VLINDERS_DTYPE")]
    pub(crate) dtype: Option<String>,

    /// Quantise weights while loading: none, q8 (8.5 bits a weight), q4 (4.6 bits) or, on a GPU, fp8 [default: none]
    #[arg(long, value_name = "FORMAT", env = "VLINDERS_QUANTIZATION")]
    pub(crate) quantization: Option<String>,

    /// Type of the KV cache: auto, float32, float16, bfloat16 or int8 [default: auto, that of the weights]
    #[arg(long, value_name = "TYPE", env = "VLINDERS_KV_CACHE_DTYPE")]
    pub(crate) kv_cache_dtype: Option<String>,

    /// Where models compute: auto, cpu, cuda or cuda:N [default: auto, a GPU where there is one]
    #[arg(long, value_name = "DEVICE", env = "VLINDERS_DEVICE")]
    pub(crate) device: Option<String>,

    /// The most sequences computed together [default: 64, on a GPU 256]
    #[arg(long, value_name = "N", env = "VLINDERS_MAX_NUM_SEQS")]
    pub(crate) max_num_seqs: Option<usize>,

    /// Token budget of one step: prompts are cut into pieces of this size [default: 512, on a GPU 8192]
    #[arg(long, value_name = "TOKENS", env = "VLINDERS_MAX_BATCHED_TOKENS")]
    pub(crate) max_batched_tokens: Option<usize>,

    /// The most threads that each model computes with [default: all of --compute-threads]
    #[arg(long, value_name = "N", env = "VLINDERS_NUM_THREADS")]
    pub(crate) num_threads: Option<usize>,

    /// Ranks that each model is split among, each with its share of weights, cache and threads [default: 1]
    #[arg(long, value_name = "N", env = "VLINDERS_TENSOR_PARALLEL_SIZE")]
    pub(crate) tensor_parallel_size: Option<usize>,

    /// Share of the memory left by the weights that the KV caches of all models may take [default: 0.8, on a GPU 0.95]
    #[arg(long, value_name = "0..1", env = "VLINDERS_MEMORY_FRACTION")]
    pub(crate) memory_fraction: Option<f64>,
}
