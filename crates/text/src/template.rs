//! Chat templates, rendered as Hugging Face transformers renders them.
//!
//! transformers uses Jinja2's immutable sandbox with `trim_blocks`, `lstrip_blocks`, loop controls, a
//! `{% generation %}` tag, the functions `raise_exception` and `strftime_now` and its own `tojson`.
//! minijinja comes close to Jinja2; the modules below close the rest of the distance.

mod builtins;
mod generation_tag;
mod habits;
mod json;
mod python;
mod render;

pub(crate) use self::{habits::Habits, render::ChatTemplate};
