//! Where tests of kernels, and of models that use them, run: emulated, or on a real device when the environment says so.

use vlinders_device::{DeviceError, EmulationOptions, Gpu};

use super::{code, emulated};

/// `cuda` for the first device of the machine; `emulated`, or nothing, for the host.
const VARIABLE: &str = "VLINDERS_TEST_DEVICE";

/// Whether tests run on a CUDA device.
///
/// # Errors
/// When the environment asks for something else.
pub fn tests_run_on_cuda() -> Result<bool, DeviceError> {
    let asked = std::env::var_os(VARIABLE).unwrap_or_default();
    match asked.to_str() {
        Some("cuda") => Ok(true),
        Some("" | "emulated") => Ok(false),
        _ => Err(DeviceError::Tensor(format!("{VARIABLE} is {asked:?}, it must be cuda or emulated"))),
    }
}

/// The device of a test. Where it is emulated, its threads run in this order.
///
/// # Errors
/// When the environment asks for CUDA, and this program was built without it or finds no device.
pub fn test_device(order: u64) -> Result<Gpu, DeviceError> {
    if tests_run_on_cuda()? {
        return Gpu::open(0, code());
    }
    Ok(emulated(EmulationOptions { order, ..EmulationOptions::default() }))
}
