//! Decides what the binary serves when nobody has configured a model: the demo model, embedded.
//!
//! It is a small Llama-architecture chat model that answers questions about butterflies, adds, counts,
//! repeats and reverses words, extracts fields into JSON and calls tools. `assets/MODEL_CARD.md` says how it
//! was trained and how well it does; `tools/demo` holds the recipe.

#[cfg(test)]
mod tests;

/// The id under which clients ask for the model.
pub const MODEL_NAME: &str = "vlinders-demo";

/// The files of the model as a Hugging Face folder would hold them: (file name, content).
///
/// ```
/// let config = vlinders_demo::file("config.json").expect("the model has a configuration");
/// assert!(config.starts_with(b"{"));
/// ```
pub static FILES: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../assets/config.json")),
    ("generation_config.json", include_bytes!("../assets/generation_config.json")),
    ("tokenizer.json", include_bytes!("../assets/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../assets/tokenizer_config.json")),
    ("chat_template.jinja", include_bytes!("../assets/chat_template.jinja")),
    ("model.safetensors", &WEIGHTS.0),
    ("MODEL_CARD.md", include_bytes!("../assets/MODEL_CARD.md")),
];

/// Questions and the model's greedy answers to them, as JSON: what a server that computes rightly must give.
///
/// An array of objects: `messages` and optionally `tools` as in a chat request, `answer` (the text up to the
/// end of the turn), and `margin`, the smallest gap between the two best logits on the way. Every margin is
/// wide enough that rounding cannot change the answer.
pub static GREEDY_ANSWERS: &str = include_str!("../assets/greedy.json");

/// The content of one of [`FILES`].
#[must_use]
pub fn file(name: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, content)| *content)
}

const NUM_WEIGHT_BYTES: usize = include_bytes!("../assets/model.safetensors").len();

static WEIGHTS: Aligned<NUM_WEIGHT_BYTES> = Aligned(*include_bytes!("../assets/model.safetensors"));

/// Puts the weights on an 8-byte boundary: `include_bytes!` alone promises none, and a reader may want to
/// look at the tensors in place.
#[repr(C, align(8))]
struct Aligned<const N: usize>([u8; N]);
