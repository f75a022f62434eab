//! A row of logits has the same bits alone and in any company, however its sequence is cut, wherever its blocks are:
//! for every architecture and every type of weights and cache.

#![allow(clippy::unwrap_used, reason = "a test that can not go on should stop")]

use std::path::Path;
use std::sync::Arc;

use candle_core::DType;
use vlinders_comm::Single;
use vlinders_kernels::gpu;
use vlinders_layers::{
    Activations, Batch, Checkpoint, GpuBatch, GpuBatchLimits, KvDtype, KvStore, LogitRows, Place, Precision,
    Quantization, Weights,
};
use vlinders_models::{CausalLm, ModelSpec};
use vlinders_testkit::{Dtype, RandomModel, Shape, golden_root};

const BLOCK: usize = 4;
const BLOCKS: usize = 256;
const MAX_LEN: usize = 70;
const STEPS: usize = 120;

#[test]
fn llama() {
    check_golden("llama-tiny", KvDtype::F32, 1);
}

#[test]
fn llama_dynamic() {
    check_golden("llama-dynamic-tiny", KvDtype::F32, 2);
}

#[test]
fn llama_bf16() {
    check_golden("llama-bf16-tiny", KvDtype::BF16, 3);
}

#[test]
fn llama_f16() {
    check_golden("llama-f16-tiny", KvDtype::F16, 4);
}

#[test]
fn mistral() {
    check_golden("mistral-tiny", KvDtype::F32, 5);
}

#[test]
fn qwen2_window() {
    check_golden("qwen2-window-tiny", KvDtype::BF16, 6);
}

#[test]
fn eight_bit_cache() {
    check_golden("llama-bf16-tiny", KvDtype::Int8, 10);
    check_golden("qwen2-window-tiny", KvDtype::Int8, 11);
}

#[test]
fn qwen3() {
    check_golden("qwen3-tiny", KvDtype::F16, 7);
}

/// With experts, also in the formats that GGUF files come in.
#[test]
fn experts() {
    check_golden("qwen3-moe-tiny", KvDtype::F32, 12);
    check_golden("mixtral-tiny", KvDtype::F16, 13);
    let shape =
        Shape { hidden_size: 256, intermediate_size: 512, heads: 8, head_dim: 32, ..Shape::mixtral_tiny() };
    let folder = tempfile::tempdir().unwrap();
    RandomModel { shape, dtype: Dtype::Bf16, seed: 6, shards: 1 }.write_weights(folder.path()).unwrap();
    for quantization in [None, Some(Quantization::Q8), Some(Quantization::Q4)] {
        let precision = Precision { quantization, ..Precision::default() };
        Load::new(folder.path(), KvDtype::BF16, precision, &Place::Cpu, 14).run(STEPS / 2);
    }
}

#[test]
fn fp8_with_blocks() {
    check_golden("qwen3-fp8-block-tiny", KvDtype::BF16, 10);
}

/// Sizes at which kernels take other paths than in the tiny checkpoints.
#[test]
fn wide_llama() {
    let folder = wide();
    for kv_dtype in [KvDtype::BF16, KvDtype::Int8] {
        Load::new(folder.path(), kv_dtype, Precision::default(), &Place::Cpu, 8).run(STEPS);
    }
    for quantization in [Quantization::Q8, Quantization::Q4] {
        let precision = Precision { quantization: Some(quantization), ..Precision::default() };
        Load::new(folder.path(), KvDtype::BF16, precision, &Place::Cpu, 9).run(STEPS);
    }
}

fn wide() -> tempfile::TempDir {
    let shape = Shape {
        hidden_size: 320,
        intermediate_size: 832,
        heads: 6,
        kv_heads: 2,
        head_dim: 64,
        vocab_size: 1000,
        ..Shape::llama_tiny()
    };
    let folder = tempfile::tempdir().unwrap();
    RandomModel { shape, dtype: Dtype::Bf16, seed: 5, shards: 1 }.write_weights(folder.path()).unwrap();
    folder
}

fn check_golden(name: &str, kv_dtype: KvDtype, seed: u64) {
    Load::new(&golden_root().join(name), kv_dtype, Precision::default(), &Place::Cpu, seed).run(STEPS);
}

/// Kernels of GPUs keep the law too, on tensor cores and for each kind of weights.
#[test]
fn on_a_gpu() {
    let cases = [
        ("llama-bf16-tiny", DType::BF16, KvDtype::BF16, None),
        ("qwen3-tiny", DType::F16, KvDtype::F16, None),
        ("qwen2-window-tiny", DType::BF16, KvDtype::BF16, Some(Quantization::Q8)),
        ("llama-tiny", DType::BF16, KvDtype::BF16, Some(Quantization::Q4)),
        ("mistral-tiny", DType::F32, KvDtype::F32, None),
    ];
    for (seed, (name, dtype, kv, quantization)) in cases.into_iter().enumerate() {
        let place = Place::Gpu { gpu: gpu::test_device(0).unwrap(), dtype };
        let precision =
            Precision { dtype: Some(dtype), quantization, on_gpu: Some(dtype), ..Precision::default() };
        Load::new(&golden_root().join(name), kv, precision, &place, 20 + seed as u64).run(STEPS / 4);
    }
    let place = Place::Gpu { gpu: gpu::test_device(0).unwrap(), dtype: DType::BF16 };
    let precision = Precision {
        quantization: Some(Quantization::Fp8),
        on_gpu: Some(DType::BF16),
        ..Precision::default()
    };
    Load::new(wide().path(), KvDtype::Int8, precision, &place, 30).run(STEPS / 8);
    let as_it_is = Precision { on_gpu: Some(DType::BF16), ..Precision::default() };
    let folder = golden_root().join("llama-fp8-channel-tiny");
    Load::new(&folder, KvDtype::BF16, as_it_is, &place, 31).run(STEPS / 8);
}

/// So they do where activations are rounded to eight bits, whose products are added up by tensor cores alone.
#[test]
fn on_a_gpu_in_eight_bits() {
    let precision = Precision {
        quantization: Some(Quantization::Fp8),
        activations: Activations::Fp8,
        on_gpu: Some(DType::BF16),
        ..Precision::default()
    };
    let place = Place::Gpu { gpu: gpu::test_device(0).unwrap(), dtype: DType::BF16 };
    Load::new(wide().path(), KvDtype::BF16, precision, &place, 31).run(STEPS / 8);
    Load::new(&golden_root().join("qwen2-tiny"), KvDtype::BF16, precision, &place, 32).run(STEPS / 4);
    let precision = Precision { on_gpu: Some(DType::F16), ..precision };
    let place = Place::Gpu { gpu: gpu::test_device(0).unwrap(), dtype: DType::F16 };
    Load::new(&golden_root().join("mixtral-tiny"), KvDtype::F16, precision, &place, 33).run(STEPS / 8);
}

/// A model under a random load.
struct Load {
    model: Box<dyn CausalLm>,
    kv: KvStore,
    live: Vec<Live>,
    free: Vec<u32>,
    random: u64,
    compared: usize,
    /// The batch on the device, where there is one.
    on_gpu: Option<GpuBatch>,
}

/// A sequence in the midst of being computed.
struct Live {
    tokens: Vec<u32>,
    table: Vec<u32>,
    /// The bits of its logits when it is computed alone and whole.
    alone: Vec<Vec<u32>>,
    done: usize,
}

// === impl Load ===

impl Load {
    fn new(folder: &Path, kv_dtype: KvDtype, precision: Precision, place: &Place, seed: u64) -> Self {
        let spec = ModelSpec::parse(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let planning = Weights::planning(Arc::new(Single));
        spec.build(&planning).unwrap();
        let checkpoint = Checkpoint::open(folder).unwrap();
        let (tensors, _) = checkpoint.load_to(&planning.plan(), precision, place, &|_, _| {}).unwrap();
        let model = spec.build(&Weights::loaded(tensors, MAX_LEN, Arc::new(Single))).unwrap();
        let kv = KvStore::new(model.kv_shape(), kv_dtype, BLOCKS, BLOCK, place).unwrap();
        let free = (0..BLOCKS as u32).map(|i| i * 37 % BLOCKS as u32).collect();
        let shape = kv.attention_shape(model.num_heads(), model.kv_shape());
        let limits = GpuBatchLimits { num_tokens: 8 * MAX_LEN, table_entries: BLOCKS };
        let on_gpu = place.gpu().map(|gpu| GpuBatch::new(gpu, shape, limits).unwrap());
        Self { model, kv, live: Vec::new(), free, random: seed, compared: 0, on_gpu }
    }

    /// Sequences come, some with the computed blocks of another as their prefix; they advance in chunks of any size
    /// and in any order; they go.
    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            if self.live.len() < 6 && self.below(2) == 0 {
                self.begin();
            }
            let mut parts: Vec<(usize, usize)> = Vec::new();
            for i in 0..self.live.len() {
                let left = self.live[i].tokens.len() - self.live[i].done;
                match self.below(3) {
                    0 => {}
                    1 => parts.push((i, 1)),
                    _ => parts.push((i, 1 + self.below(left))),
                }
            }
            if parts.is_empty() {
                continue;
            }
            let turn = self.below(parts.len());
            parts.rotate_left(turn);
            self.step(&parts);
            self.end();
        }
        assert!(self.compared > steps, "only {} rows were compared", self.compared);
    }

    /// Advance sequence `i` by `len` tokens for each `(i, len)`, and compare every row of logits.
    fn step(&mut self, parts: &[(usize, usize)]) {
        let mut batch = Batch::default();
        for &(i, len) in parts {
            let Live { tokens, table, done, .. } = &self.live[i];
            batch.push(&tokens[*done..done + len], *done as u32, table, BLOCK, LogitRows::All);
        }
        let mut rows = self.logits(batch).into_iter();
        for &(i, len) in parts {
            let sequence = &mut self.live[i];
            for position in sequence.done..sequence.done + len {
                assert!(
                    rows.next().unwrap() == sequence.alone[position],
                    "position {position} has other bits in a batch of {parts:?}"
                );
            }
            sequence.done += len;
            self.compared += len;
        }
    }

    /// A new sequence; half of them begin with full blocks of a live one.
    fn begin(&mut self) {
        let (mut tokens, mut table) = (Vec::new(), Vec::new());
        if !self.live.is_empty() && self.below(2) == 0 {
            let i = self.below(self.live.len());
            let blocks = self.below(self.live[i].done / BLOCK + 1);
            let other = &self.live[i];
            tokens.extend_from_slice(&other.tokens[..blocks * BLOCK]);
            table.extend_from_slice(&other.table[..blocks]);
        }
        let done = tokens.len();
        let vocab = self.model.vocab_size();
        for _ in 0..1 + self.below(30) {
            tokens.push(self.below(vocab) as u32);
        }
        tokens.truncate(MAX_LEN);
        if tokens.len() == done {
            return;
        }
        let blocks = tokens.len().div_ceil(BLOCK);
        table.extend(self.free.drain(..blocks - table.len()));
        // alone: in blocks of nobody, which are nobody's again afterwards
        let mut batch = Batch::default();
        batch.push(&tokens, 0, &self.free[..blocks], BLOCK, LogitRows::All);
        let alone = self.logits(batch);
        self.live.push(Live { tokens, table, alone, done });
    }

    /// Sequences that are complete go; blocks that others share stay theirs.
    fn end(&mut self) {
        let (gone, live): (Vec<Live>, Vec<Live>) =
            self.live.drain(..).partition(|s| s.done == s.tokens.len());
        self.live = live;
        for sequence in gone {
            for block in sequence.table {
                if !self.live.iter().any(|s| s.table.contains(&block)) && !self.free.contains(&block) {
                    self.free.push(block);
                }
            }
        }
    }

    fn logits(&mut self, mut batch: Batch) -> Vec<Vec<u32>> {
        if let Some(on_gpu) = self.on_gpu.take() {
            batch.set_gpu(on_gpu);
            batch.upload(batch.tokens().len()).unwrap();
        }
        let hidden = self.model.forward(&batch, &mut self.kv).unwrap();
        let logits = self.model.logits(&hidden).unwrap().unwrap().to_cpu().unwrap();
        self.on_gpu = batch.take_gpu();
        let rows = logits.to_vec2::<f32>().unwrap();
        rows.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect()
    }

    fn below(&mut self, end: usize) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 33) as usize) % end
    }
}
