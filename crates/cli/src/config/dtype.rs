//! The number types that a model or its KV cache can be asked to use.

/// A floating-point type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
}

/// What can be written, for error messages.
pub(super) const VALID: &str = "auto, float32, float16 or bfloat16";

impl Dtype {
    /// `None` inside is `auto`; `None` outside is a name nobody knows.
    pub(super) fn parse(name: &str) -> Option<Option<Self>> {
        match name {
            "auto" => Some(None),
            "float32" | "f32" | "float" => Some(Some(Self::F32)),
            "float16" | "f16" | "half" => Some(Some(Self::F16)),
            "bfloat16" | "bf16" => Some(Some(Self::Bf16)),
            _ => None,
        }
    }
}
