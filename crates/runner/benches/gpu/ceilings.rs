//! What no kernel exceeds: a large copy within the device, and a large product of the vendor's library.

use candle_core::DType;

use crate::Setting;
use crate::clock::{memory, random, report, seconds_of_copies, seconds_of_library};

/// Columns of what is copied.
const COLS: usize = 8192;

pub(crate) fn run(setting: Setting) {
    let (gpu, model) = (setting.gpu(), setting.model);
    let rows = model.copy_bytes / (2 * COLS);
    let from = random(&gpu, rows, COLS);
    let to = memory(&gpu, &[rows, COLS], DType::BF16);
    let seconds = seconds_of_copies(&gpu, model.rounds, &from, &to);
    report("copy", 2.0 * from.num_bytes() as f64 / seconds / 1e9, "GB/s", "");
    drop((from, to));
    let n = model.product;
    let (x, w) = (random(&gpu, n, n), random(&gpu, n, n));
    if let Some(seconds) = seconds_of_library(&gpu, model.rounds, &x, &w) {
        report("product", 2.0 * (n * n * n) as f64 / seconds / 1e12, "TFLOP/s", "");
    }
}
