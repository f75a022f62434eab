//! A model that is split among ranks gives what it gives on one: logits of every golden checkpoint within 1e-4, the same greedy
//! tokens.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use vlinders_comm::{Communicator, Single, Threads};
use vlinders_kernels::gpu::{self, GpuGroup, Peers};
use vlinders_layers::{
    Activations, Batch, Checkpoint, Gguf, GpuBatch, GpuBatchLimits, KvDtype, KvStore, LayerError, LogitRows,
    Place, Precision, Ranks, Weights,
};
use vlinders_models::{CausalLm, GgufModel, ModelSpec};
use vlinders_testkit::{
    Dtype, GgufData, GgufFile, Golden, GoldenPrompt, RandomModel, Shape, gguf_floats, golden_names,
};

const BLOCK: usize = 4;
const POSITIONS: usize = 128;
const TOLERANCE: f32 = 1e-4;

type Logits = Vec<Vec<f32>>;

/// One rank of a golden model.
struct Rank {
    model: Box<dyn CausalLm>,
    kv: KvStore,
    batch: Batch,
}

impl Rank {
    fn load(golden: &Golden, ranks: impl Into<Ranks>, place: &Place) -> Result<Self, LayerError> {
        let ranks = ranks.into();
        let (config, checkpoint) = open(&golden.folder)?;
        // Floats of eight bits are rounded again where there is no kernel for them.
        let is_fp8 = golden.folder.to_string_lossy().contains("fp8");
        let on_gpu = place.activations();
        let dtype = on_gpu.or(is_fp8.then_some(DType::F32));
        let precision = Precision { activations: Activations::F32, dtype, on_gpu, ..Precision::default() };
        let spec = ModelSpec::parse(&config).expect("a supported architecture");
        let planning = Weights::planning(ranks.clone());
        spec.build(&planning).map_err(layer_error)?;
        let (tensors, _) = checkpoint.load_to(&planning.plan(), precision, place, &|_, _| {})?;
        let weights = Weights::loaded(tensors, POSITIONS, ranks);
        let model = spec.build(&weights).map_err(layer_error)?;
        let kv = KvStore::new(model.kv_shape(), KvDtype::F32, POSITIONS / BLOCK, BLOCK, place)?;
        let mut batch = Batch::default();
        if let Some(gpu) = place.gpu() {
            let shape = kv.attention_shape(model.num_heads(), model.kv_shape());
            let limits = GpuBatchLimits { num_tokens: POSITIONS, table_entries: POSITIONS / BLOCK };
            batch.set_gpu(GpuBatch::new(gpu, shape, limits)?);
        }
        Ok(Self { model, kv, batch })
    }

    /// Logits after each of `tokens`; on the first rank only.
    fn feed(&mut self, tokens: &[u32], start: usize) -> Logits {
        let table: Vec<u32> = (0..(POSITIONS / BLOCK) as u32).rev().collect();
        let batch = &mut self.batch;
        batch.clear();
        batch.push(tokens, start as u32, &table, BLOCK, LogitRows::All);
        if batch.gpu().is_some() {
            batch.upload(tokens.len()).expect("a batch on the device");
        }
        let hidden = self.model.forward(batch, &mut self.kv).expect("hidden states");
        let logits = self.model.logits(&hidden).expect("logits");
        let rows = |logits: vlinders_device::Tensor| {
            logits.to_cpu().expect("numbers").to_vec2().expect("two dimensions")
        };
        logits.map_or_else(Vec::new, rows)
    }

    /// Logits of all prompts, in two chunks, and of the greedy tokens that follow them, one by one.
    fn run(mut self, golden: &Golden) -> Logits {
        let mut all = Vec::new();
        for prompt in &golden.prompts {
            let (first, second) = prompt.input_ids.split_at(prompt.input_ids.len() / 2);
            all.extend(if first.is_empty() { Vec::new() } else { self.feed(first, 0) });
            all.extend(self.feed(second, first.len()));
            for (i, token) in prompt.greedy.iter().enumerate() {
                all.extend(self.feed(&[*token], prompt.input_ids.len() + i));
            }
        }
        all
    }
}

/// The folder of a golden model, or model.gguf in it.
fn open(folder: &Path) -> Result<(Vec<u8>, Checkpoint), LayerError> {
    let file = folder.join("model.gguf");
    if !file.is_file() {
        let config = std::fs::read(folder.join("config.json")).expect("a config");
        return Ok((config, Checkpoint::open(folder)?));
    }
    let gguf = Gguf::open(&file)?;
    let model = GgufModel::read(&gguf)?;
    Ok((model.config, Checkpoint::gguf(&gguf, model.layout)?))
}

fn layer_error(error: vlinders_models::ModelError) -> LayerError {
    match error {
        vlinders_models::ModelError::Layer(error) => error,
        other => LayerError::config("architectures", other.to_string()),
    }
}

/// What the first of `ranks` threads gives, each with a place of its own. With `peers`, their devices reach each other.
fn on_ranks(
    golden: &Golden,
    ranks: usize,
    place: &(dyn Fn(usize) -> Place + Sync),
    peers: Option<&Peers>,
) -> Result<Logits, LayerError> {
    thread::scope(|scope| {
        let run = move |communicator: Threads| {
            let place = place(communicator.rank());
            let gpus = match (peers, place.gpu()) {
                (Some(peers), Some(gpu)) => {
                    peers.bring(gpu, communicator.rank())?;
                    communicator.barrier()?;
                    let group = peers.join(gpu, communicator.rank())?;
                    communicator.barrier()?;
                    group.map(|group| Arc::new(GpuGroup::Peers(group)))
                }
                _ => None,
            };
            assert_eq!(gpus.is_some(), peers.is_some());
            let communicator = Arc::new(communicator);
            let rank = Rank::load(golden, Ranks::with_gpus(communicator.clone(), gpus), &place)?;
            if peers.is_some() {
                // Where ranks share a device, memory that is given out may wait for kernels that run.
                communicator.barrier()?;
            }
            Ok(rank.run(golden))
        };
        let ranks: Vec<_> =
            Threads::group(ranks).into_iter().map(|rank| scope.spawn(move || run(rank))).collect();
        let mut all = ranks.into_iter().map(|rank| rank.join().expect("a rank that does not panic"));
        let first = all.next().expect("a rank");
        for other in all {
            assert!(
                other.is_ok_and(|logits| logits.is_empty()) == first.is_ok(),
                "only the first has logits"
            );
        }
        first
    })
}

fn argmax(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
}

#[test]
fn every_golden_model_gives_on_many_ranks_what_it_gives_on_one() {
    println!("{:24} {:>12} {:>12}", "max |difference|", "2 ranks", "4 ranks");
    for name in golden_names().expect("a folder") {
        let golden = Golden::load(&name).expect("a golden result");
        let alone = Rank::load(&golden, Arc::new(Single), &Place::Cpu).expect("a model").run(&golden);
        let errors = [2, 4].map(|ranks| {
            let split = match on_ranks(&golden, ranks, &|_| Place::Cpu, None) {
                // Two heads can not be split among four ranks.
                Err(LayerError::CanNotSplit { valid, .. }) if name == "llama-linear-tiny" && ranks == 4 => {
                    assert_eq!(valid, [1, 2]);
                    return None;
                }
                other => other.expect("logits"),
            };
            assert_eq!(split.len(), alone.len());
            let tokens = |all: &Logits| all.iter().map(|row| argmax(row)).collect::<Vec<_>>();
            assert_eq!(tokens(&split), tokens(&alone), "{name}: greedy tokens on {ranks} ranks");
            let pairs = split.iter().flatten().zip(alone.iter().flatten());
            // NaN must not win against a number.
            let worse =
                |worst: f32, (a, b): (&f32, &f32)| if (a - b).abs() <= worst { worst } else { (a - b).abs() };
            let error = pairs.fold(0.0, worse);
            assert!(error <= TOLERANCE, "{name} on {ranks} ranks: {error}");
            Some(error)
        });
        let shown = errors.map(|error| error.map_or("-".to_owned(), |error| format!("{error:.1e}")));
        println!("{name:24} {:>12} {:>12}", shown[0], shown[1]);
    }
}

/// Of experts that are stacked in a file each rank reads the same rows and columns as of a folder, so the bits are the same.
#[test]
fn ranks_share_the_experts_of_gguf_files() {
    for name in ["mixtral-tiny", "qwen3-moe-tiny"] {
        let golden = Golden::load(name).expect("a golden result");
        let folder = tempfile::tempdir().expect("a folder");
        let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(Dtype::F32, shape, numbers);
        let file = GgufFile::from_folder(&golden.folder, &encode).expect("a GGUF file");
        file.write(&folder.path().join("model.gguf")).expect("a file");
        let filed = Golden { folder: folder.path().to_owned(), ..golden.clone() };
        let split = on_ranks(&golden, 2, &|_| Place::Cpu, None).expect("logits");
        assert!(on_ranks(&filed, 2, &|_| Place::Cpu, None).expect("logits") == split, "{name}");
    }
}

/// Experts in blocks of 256 with common scales: cut where blocks end, ranks have them as they are; cut elsewhere, in eight bits.
#[test]
fn ranks_share_experts_in_blocks() {
    for (intermediate_size, most) in [(512, 0.015), (768, 0.03)] {
        let folder = tempfile::tempdir().expect("a folder");
        let sizes = Shape { hidden_size: 256, heads: 16, head_dim: 32, ..Shape::mixtral_tiny() };
        let shape = Shape { intermediate_size, ..sizes };
        let model = RandomModel { shape, dtype: Dtype::F32, seed: 8, shards: 1 };
        model.write_weights(folder.path()).expect("a checkpoint");
        let encode = |_: &str, shape: &[usize], numbers: &[f32]| match shape {
            [_] => gguf_floats(Dtype::F32, shape, numbers),
            _ => {
                let tensor = Tensor::from_slice(numbers, shape, &Device::Cpu).expect("a tensor");
                let blocks = QTensor::quantize(&tensor, GgmlDType::Q4K).expect("blocks");
                GgufData { dtype: 12, bytes: blocks.data().expect("bytes").into_owned() }
            }
        };
        let file = GgufFile::from_folder(folder.path(), &encode).expect("a GGUF file");
        file.write(&folder.path().join("model.gguf")).expect("a file");
        let prompt = GoldenPrompt {
            input_ids: (0..40).map(|i| i * 37 % 320).collect(),
            greedy: Vec::new(),
            greedy_logprobs: Vec::new(),
            logits: Vec::new(),
        };
        let golden = Golden {
            folder: folder.path().to_owned(),
            architecture: "MixtralForCausalLM".to_owned(),
            tolerance: TOLERANCE,
            prompts: vec![prompt],
        };
        let alone = Rank::load(&golden, Arc::new(Single), &Place::Cpu).expect("a model").run(&golden);
        let split = on_ranks(&golden, 2, &|_| Place::Cpu, None).expect("logits");
        assert_eq!(split.len(), alone.len());
        let pairs = split.iter().flatten().zip(alone.iter().flatten());
        let (off, all) =
            pairs.fold((0.0f32, 0.0f32), |(off, all), (a, b)| (off + (a - b).powi(2), all + b.powi(2)));
        let share = (off / all).sqrt();
        println!("Q4_K, {intermediate_size} inside of experts: error of logits on two ranks {share:.4}");
        assert!(share < most, "{intermediate_size}: {share}");
    }
}

/// Ranks with a device each, whose numbers pass through the host on their way to the others, or go there directly.
#[test]
fn ranks_on_devices_give_what_one_rank_on_the_cpu_gives() {
    let place =
        |rank| Place::Gpu { gpu: gpu::test_device_of_rank(rank).expect("a device"), dtype: DType::F32 };
    for name in ["llama-tiny", "qwen3-moe-tiny", "qwen3-fp8-block-tiny"] {
        let mut golden = Golden::load(name).expect("a golden result");
        golden.prompts = golden.prompts.split_off(3);
        golden.prompts.truncate(1);
        let alone = Rank::load(&golden, Arc::new(Single), &Place::Cpu).expect("a model").run(&golden);
        let split = on_ranks(&golden, 2, &place, None).expect("logits");
        assert_eq!(split.len(), alone.len());
        let peers = Peers::new(2).expect("few ranks");
        let directly = on_ranks(&golden, 2, &place, Some(&peers)).expect("logits");
        assert!(directly == split, "{name}: sums are added in the same order");
        for (ours, theirs) in split.iter().flatten().zip(alone.iter().flatten()) {
            assert!((ours - theirs).abs() <= TOLERANCE, "{name}: {ours}, on the CPU {theirs}");
        }
    }
}
