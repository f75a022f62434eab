//! Attention: for decode steps by how fast keys and values are read, for a prompt by how fast numbers are multiplied.

use candle_core::{Device, Tensor};
use vlinders_device::{DeviceError, Gpu, GpuTensor};
use vlinders_kernels::gpu::{
    AttentionLimits, AttentionShape, GpuAttentionBatch, GpuKvLayer, paged_attention, qkv,
};
use vlinders_kernels::{AttentionBatch, AttentionSpec, KvDtype, Rotation};

use crate::Setting;
use crate::clock::{random, report, seconds_of, words};

const BLOCK: usize = 16;
/// The most caches that are rotated: the layers of a model.
const MOST_SETS: usize = 32;
/// Tokens whose keys and values are written at once.
const CHUNK: usize = 4096;
const PARTIAL_ROWS: usize = 16_384;

pub(crate) fn run(setting: Setting) {
    let (gpu, model) = (setting.gpu(), setting.model);
    for &(sequences, context) in model.contexts {
        let case = Case::new(setting, &gpu, sequences, context, 1);
        let seconds = case.seconds(setting);
        let bytes = 4 * sequences * context * model.kv_heads * model.head_dim;
        let what = format!("attention decode {sequences} x {context}");
        report(&what, bytes as f64 / seconds / 1e9, "GB/s", "\"of\": \"copy\"");
    }
    let mut case = Case::new(setting, &gpu, 1, model.prompt, model.prompt);
    let flops = model.attention_flops(model.prompt);
    // Where there are no warpgroups, both are one kernel.
    for (by, warpgroups) in [("", true), (" without warpgroups", false)] {
        case.batch.use_warpgroups(warpgroups);
        let what = format!("attention prefill {}{by}", model.prompt);
        report(&what, flops / case.seconds(setting) / 1e12, "TFLOP/s", "\"of\": \"product\"");
    }
}

/// The last `fed` tokens of each sequence look at all of it.
struct Case {
    gpu: Gpu,
    caches: Vec<GpuKvLayer>,
    batch: GpuAttentionBatch,
    q: GpuTensor,
}

// === impl Case ===

impl Case {
    fn new(setting: Setting, gpu: &Gpu, sequences: usize, context: usize, fed: usize) -> Self {
        let model = setting.model;
        let blocks = sequences * context.div_ceil(BLOCK);
        let cache = || {
            GpuKvLayer::new(gpu, KvDtype::BF16, blocks, BLOCK, model.kv_heads, model.head_dim)
                .expect("memory for a cache")
        };
        let first = cache();
        let sets = model.rotated_bytes.div_ceil(first.num_bytes()).clamp(1, MOST_SETS);
        let caches: Vec<_> = std::iter::once(first).chain((1..sets).map(|_| cache())).collect();
        for cache in &caches {
            fill(setting, gpu, cache, blocks * BLOCK);
        }
        let shape = AttentionShape {
            heads: model.heads,
            kv_heads: model.kv_heads,
            head_dim: model.head_dim,
            block_size: BLOCK,
            num_blocks: blocks,
        };
        let tokens = sequences * fed;
        let limits = AttentionLimits { tokens, table_entries: blocks, partial_rows: PARTIAL_ROWS };
        let mut batch = GpuAttentionBatch::new(gpu, shape, limits).expect("room for a plan");
        let of_each = context.div_ceil(BLOCK);
        // Blocks of a sequence are not neighbours; an odd factor visits each once where their number is a power of two.
        let scattered = |i: usize| if blocks.is_power_of_two() { i * 37 % blocks } else { i };
        let plan = AttentionBatch {
            positions: (0..tokens).map(|i| (context - fed + i % fed) as u32).collect(),
            sequence_of: (0..tokens).map(|i| (i / fed) as u32).collect(),
            block_tables: (0..blocks).map(|i| scattered(i) as u32).collect(),
            table_starts: (0..=sequences).map(|i| (i * of_each) as u32).collect(),
        };
        batch.update(&plan, tokens).expect("a plan");
        let q = random(gpu, tokens, model.heads * model.head_dim);
        let q = q.reshape(&[tokens, model.heads, model.head_dim]).expect("queries");
        Self { gpu: gpu.clone(), caches, batch, q }
    }

    fn seconds(&self, setting: Setting) -> f64 {
        let scale = 1.0 / (setting.model.head_dim as f32).sqrt();
        let spec = AttentionSpec { scale, window: None, soft_cap: None };
        seconds_of(&self.gpu, setting.model.rounds, self.caches.len(), |i| {
            let out = paged_attention(&self.q, &self.caches[i], &self.batch, &spec);
            out.map(drop).map_err(|error| DeviceError::Tensor(error.to_string()))
        })
    }
}

/// Random keys and values in every slot.
fn fill(setting: Setting, gpu: &Gpu, cache: &GpuKvLayer, slots: usize) {
    let model = setting.model;
    let half = model.head_dim / 2;
    let upload = |number: f32| {
        let table = Tensor::full(number, (1, half), &Device::Cpu).expect("a tensor");
        GpuTensor::upload(gpu, &table).expect("memory")
    };
    // No rotation: numbers stay what they are.
    let (cos, sin) = (upload(1.0), upload(0.0));
    let chunk = CHUNK.min(slots);
    let x = random(gpu, chunk, (model.heads + 2 * model.kv_heads) * model.head_dim);
    let zeros = words(gpu, vec![0; chunk], &[chunk]);
    for first in (0..slots).step_by(chunk) {
        let n = chunk.min(slots - first);
        let positions = zeros.rows(0, n).expect("positions");
        let rotation = Rotation { cos: &cos, sin: &sin, positions: &positions };
        let slots = words(gpu, (first as u32..(first + n) as u32).collect(), &[n]);
        qkv(&x.rows(0, n).expect("rows"), None, rotation, cache, &slots).expect("keys and values");
    }
    gpu.wait().expect("a device");
}
