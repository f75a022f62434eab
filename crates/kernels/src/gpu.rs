//! The same operations on a GPU: what a kernel in `cuda/` takes, and how it is started.
//!
//! Activations are bf16, f16 or f32; the residual stream and sums are f32. As on the CPU, what is computed for a token depends
//! on that token alone, whatever else is in the batch.

mod activation;
mod attention;
#[cfg(test)]
#[cfg(feature = "emulation")]
mod clusters;
mod embedding;
mod format;
mod group;
mod kv;
mod linear;
mod matrix;
mod moe;
mod norm;
mod qkv;
mod sample;
#[cfg(feature = "emulation")]
mod test_device;
#[cfg(test)]
#[cfg(feature = "emulation")]
mod testing;
mod token_states;

use candle_core::DType;
use vlinders_device::{Code, DeviceError, Gpu};
#[cfg(feature = "emulation")]
use vlinders_device::{EmulatedKernels, EmulationOptions};

#[cfg(feature = "emulation")]
pub use self::test_device::{test_device, test_device_of_rank, test_devices_suffice, tests_run_on_cuda};
pub use self::{
    activation::silu_mul,
    attention::{AttentionLimits, AttentionShape, GpuAttentionBatch, paged_attention},
    embedding::{embedding, gather_rows},
    format::GpuFormat,
    group::{GpuGroup, PeerGroup, Peers},
    kv::GpuKvLayer,
    linear::{
        Variant as LinearVariant, W8A8, Wide, expert_linear, gated_linear, linear, linear_by, use_pairs,
    },
    matrix::{GpuMatrix, GpuMatrixBuilder, RowStaging, can_round_activations},
    moe::{Routing, combine, route},
    norm::{add_rms_norm, rms_norm},
    qkv::qkv,
    sample::{
        Draw, MAX_TOP_LOGPROBS, NO_SOURCE, RowLogprobs, SampleFailure, SampleRow, logprobs, next_tokens,
        sample,
    },
    token_states::{Said, TokenStates},
};

#[cfg(feature = "cuda")]
include!(concat!(env!("OUT_DIR"), "/modules.rs"));
#[cfg(not(feature = "cuda"))]
static FATBINS: &[(&str, &[u8])] = &[];

/// The kernels of this crate for real devices; none in a build without CUDA.
#[must_use]
pub fn code() -> Code {
    Code { fatbins: FATBINS }
}

/// A device that runs the kernels of this crate on the host.
#[cfg(feature = "emulation")]
#[must_use]
pub fn emulated(options: EmulationOptions) -> Gpu {
    use std::ffi::{c_char, c_void};
    unsafe extern "C" {
        fn vlinders_emu_find(name: *const c_char, params_bytes: *mut usize) -> *const c_void;
        fn vlinders_emu_run(
            kernel: *const c_void,
            blocks: *const u32,
            cluster: u32,
            threads: *const u32,
            shared_bytes: usize,
            params: *const c_void,
            order: u64,
            error: *mut c_char,
            error_bytes: usize,
        ) -> i32;
    }
    Gpu::emulated(EmulatedKernels { find: vlinders_emu_find, run: vlinders_emu_run }, options)
}

/// A device that runs the kernels of this crate on the host, if this program was built with them.
///
/// # Errors
/// When it was not.
pub fn emulated_device() -> Result<Gpu, DeviceError> {
    #[cfg(feature = "emulation")]
    {
        // Threads in the order of their numbers, which is the fastest. Tests of kernels try others.
        Ok(emulated(EmulationOptions { order: 0, ..EmulationOptions::default() }))
    }
    #[cfg(not(feature = "emulation"))]
    {
        Err(DeviceError::NoEmulation)
    }
}

/// The capability whose code has instructions of warpgroups.
const WARPGROUPS: (u32, u32) = (9, 0);

/// The one of three kernels that is made for activations of this type.
///
/// # Errors
/// Any other type.
fn for_dtype(
    op: &'static str,
    dtype: DType,
    [bf16, f16, f32]: [&'static str; 3],
) -> Result<&'static str, DeviceError> {
    match dtype {
        DType::BF16 => Ok(bf16),
        DType::F16 => Ok(f16),
        DType::F32 => Ok(f32),
        other => Err(DeviceError::Tensor(format!("{op}: activations are bf16, f16 or f32, not {other:?}"))),
    }
}
