//! How the numbers of a KV cache are stored, and what they cost.

use crate::element::LANES;

/// How the numbers of a [`KvLayer`](crate::KvLayer) are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvDtype {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Whole numbers from -127 to 127, and one f32 scale for the key of a position and head, one for its value.
    ///
    /// A scale is a 127th of the greatest number, so a number is off by half a scale at most. It is an f32 since the
    /// sixteen of a tile then fill a cache line: tiles stay aligned, none of f16's limits on small and large numbers
    /// has to be thought of, and it costs 3 % at 64 elements.
    Int8,
}

// === impl KvDtype ===

impl KvDtype {
    /// The name of this dtype in configuration files and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of one number.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Bytes of the scales of sixteen positions, which follow their tile.
    pub(crate) fn scale_bytes(self) -> usize {
        if self.has_scales() { LANES * size_of::<f32>() } else { 0 }
    }

    /// The same in numbers of this type.
    pub(crate) fn scale_room(self) -> usize {
        // Types that have scales are one byte wide.
        self.scale_bytes()
    }

    /// Whether numbers are codes, to be multiplied by the scale of their position.
    pub(crate) fn has_scales(self) -> bool {
        self == Self::Int8
    }
}

impl std::fmt::Display for KvDtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Run `$body` with the type name `$E` bound to the Rust type of a tile's numbers.
macro_rules! with_kv_element {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            $crate::kv::KvDtype::F32 => {
                type $E = f32;
                $body
            }
            $crate::kv::KvDtype::F16 => {
                type $E = half::f16;
                $body
            }
            $crate::kv::KvDtype::BF16 => {
                type $E = half::bf16;
                $body
            }
            $crate::kv::KvDtype::Int8 => {
                type $E = i8;
                $body
            }
        }
    };
}
pub(crate) use with_kv_element;
