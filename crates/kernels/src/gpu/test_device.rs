//! Where tests of kernels, and of models that use them, run: emulated, or on a real device when the environment says so.

use vlinders_device::{DeviceError, EmulationOptions, Gpu};

use super::{code, emulated};

/// `cuda` for the devices of the machine, the first unless a test needs several; `emulated`, or nothing, for the host.
const VARIABLE: &str = "VLINDERS_TEST_DEVICE";
/// Bytes for results of a rank. Ranks that share a device may not give memory back to the driver in a step: it would wait for the kernels of
/// one that wait for those of another.
const ROOM: usize = 256 << 20;

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

/// The device of a rank of a test: on a machine with several another one for each, as far as they suffice.
///
/// # Errors
/// As above.
pub fn test_device_of_rank(rank: usize) -> Result<Gpu, DeviceError> {
    if tests_run_on_cuda()? {
        let gpu = Gpu::open(rank % Gpu::count()?.max(1), code())?;
        gpu.set_aside(ROOM)?;
        return Ok(gpu);
    }
    test_device(0)
}

/// Whether so many ranks of a test have a device each.
///
/// # Errors
/// As above.
pub fn test_devices_suffice(ranks: usize) -> Result<bool, DeviceError> {
    Ok(!tests_run_on_cuda()? || Gpu::count()? >= ranks)
}
