//! What one decode step takes the device when the host never lets it wait: model, head and greedy sampling, in one graph.

use std::sync::Arc;

use candle_core::DType;
use vlinders_comm::Single;
use vlinders_device::DeviceError;
use vlinders_kernels::Stored;
use vlinders_kernels::gpu::{Draw, SampleRow, TokenStates, sample};
use vlinders_layers::{
    Batch, GpuBatch, GpuBatchLimits, KvDtype, KvStore, LayerError, LoadedTensors, LogitRows, Place,
    Precision, Weights,
};
use vlinders_models::ModelSpec;

use crate::Setting;
use crate::clock::{report, seconds_of, words};

const BLOCK: usize = 16;

pub(crate) fn run(setting: Setting) {
    let model = setting.model;
    let (prompt, answer) = model.lengths;
    // In the middle of the answers, where a step takes its mean.
    step(setting, model.streams, prompt + answer / 2, "");
    let context = model.single.0 + model.single.1 / 2;
    step(setting, 1, context, "");
}

fn step(setting: Setting, sequences: usize, context: usize, how: &str) {
    let (gpu, model) = (setting.gpu(), setting.model);
    let place = Place::Gpu { gpu: gpu.clone(), dtype: DType::BF16 };
    let spec = ModelSpec::parse(model.config()).expect("a config");
    let planning = Weights::planning(Arc::new(Single));
    spec.build(&planning).expect("an outline");
    let precision = Precision { on_gpu: Some(DType::BF16), ..Precision::default() };
    let tensors = LoadedTensors::random(&planning.plan(), precision, Stored::BF16, &place, 1)
        .expect("memory for weights");
    let decoder = spec.build(&Weights::loaded(tensors, context, Arc::new(Single))).expect("a model");
    let of_each = context.div_ceil(BLOCK);
    let blocks = sequences * of_each;
    let shape = decoder.kv_shape();
    let mut kv = KvStore::new(shape, KvDtype::BF16, blocks, BLOCK, &place).expect("memory for a cache");
    let mut batch = Batch::default();
    let limits = GpuBatchLimits { num_tokens: sequences, table_entries: blocks };
    let attention = kv.attention_shape(decoder.num_heads(), shape);
    batch.set_gpu(GpuBatch::new(&gpu, attention, limits).expect("room for a batch"));
    for sequence in 0..sequences {
        let table: Vec<u32> = (0..of_each).map(|block| (sequence * of_each + block) as u32).collect();
        let token = (sequence * 7919 % model.vocab) as u32;
        batch.push(&[token], context as u32 - 1, &table, BLOCK, LogitRows::Last);
    }
    batch.upload(sequences).expect("a batch");
    let states = TokenStates::new(&gpu, 1, model.vocab).expect("memory");
    let row = SampleRow::draw(&Draw::GREEDY);
    let rows = std::iter::repeat_n(row.words(), sequences).flatten().copied().collect();
    let rows = words(&gpu, rows, &[sequences, SampleRow::WORDS]);
    let seconds = seconds_of(&gpu, model.rounds, 1, |_| {
        let run = || -> Result<(), LayerError> {
            // Each token is the last of its sequence: all hidden states are wanted, in their order.
            let hidden = decoder.forward(&batch, &mut kv)?;
            let Some(logits) = decoder.logits(&hidden)? else { return Ok(()) };
            sample(logits.gpu("step", "logits")?, &rows, &states)?;
            Ok(())
        };
        run_once(run)
    });
    report(&format!("device step {sequences} streams{how}"), 1e3 * seconds, "ms", "");
}

fn run_once(run: impl FnOnce() -> Result<(), LayerError>) -> Result<(), DeviceError> {
    run().map_err(|error| DeviceError::Tensor(error.to_string()))
}
