//! The number types that a model or its KV cache can be asked to use, and how weights can be quantised.

use vlinders_runner::{Activations, KvDtype, Quantization};

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

/// What can be written for `device`, for error messages.
pub(super) const VALID_DEVICE: &str = "auto, cpu, cuda or cuda:N";

/// What can be written for `kv_cache_dtype`, for error messages.
pub(super) const VALID_KV_CACHE: &str = "auto, float32, float16, bfloat16 or int8";

/// `None` inside is `auto`; `None` outside is a name nobody knows.
pub(super) fn parse_kv_cache(name: &str) -> Option<Option<KvDtype>> {
    if name == "int8" {
        return Some(Some(KvDtype::Int8));
    }
    let dtype = Dtype::parse(name)?;
    Some(dtype.map(|dtype| match dtype {
        Dtype::F32 => KvDtype::F32,
        Dtype::F16 => KvDtype::F16,
        Dtype::Bf16 => KvDtype::BF16,
    }))
}

/// What can be written for `quantization`, for error messages.
pub(super) const VALID_QUANTIZATION: &str = "none, q8, q4, or on a GPU fp8";

/// `None` inside is `none`; `None` outside is a name nobody knows.
pub(super) fn parse_quantization(name: &str) -> Option<Option<Quantization>> {
    match name {
        "none" => Some(None),
        "q8" => Some(Some(Quantization::Q8)),
        "q4" => Some(Some(Quantization::Q4)),
        "fp8" => Some(Some(Quantization::Fp8)),
        _ => None,
    }
}

/// What can be written for `activation_dtype`, for error messages.
pub(super) const VALID_ACTIVATIONS: &str = "auto, float32, or beside quantization: fp8 float8";

/// `None` is a name nobody knows.
pub(super) fn parse_activations(name: &str) -> Option<Activations> {
    match name {
        "auto" => Some(Activations::Auto),
        "float32" => Some(Activations::F32),
        "float8" => Some(Activations::Fp8),
        _ => None,
    }
}
