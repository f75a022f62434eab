//! Drawing tokens from rows of logits.

use vlinders_device::DeviceError;
use vlinders_kernels::gpu::{Draw, SampleRow, TokenStates, sample};

use crate::Setting;
use crate::clock::{random_logits, report, seconds_of, words};

pub(crate) fn run(setting: Setting) {
    let (gpu, model) = (setting.gpu(), setting.model);
    let n = model.streams;
    let logits = random_logits(&gpu, n, model.vocab);
    let states = TokenStates::new(&gpu, 1, model.vocab).expect("memory");
    let cases = [
        ("greedy", Draw::GREEDY),
        ("temperature", Draw { temperature: 0.8, ..Draw::GREEDY }),
        ("top-p", Draw { temperature: 0.8, top_p: 0.95, ..Draw::GREEDY }),
        ("top-k", Draw { temperature: 0.8, top_k: 50, ..Draw::GREEDY }),
    ];
    for (name, draw) in cases {
        let row = SampleRow::draw(&draw);
        let rows = std::iter::repeat_n(row.words(), n).flatten().copied().collect();
        let rows = words(&gpu, rows, &[n, SampleRow::WORDS]);
        let seconds = seconds_of(&gpu, model.rounds, 1, |_| {
            let drawn = sample(&logits, &rows, &states);
            drawn.map(drop).map_err(|error| DeviceError::Tensor(error.to_string()))
        });
        report(&format!("sampling {n} x {} {name}", model.vocab), 1e6 * seconds, "us", "");
    }
}
