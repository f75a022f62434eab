//! What ranks load, put together again, is what one rank loads; and no rank reads more than its part.

use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use proptest::prelude::*;
use vlinders_comm::{Communicator, Outline, Single};
use vlinders_kernels::Format;
use vlinders_testkit::{Dtype, GgufData, GgufFile, RandomModel, Shape, gguf_floats};

use crate::checkpoint::{Checkpoint, Gguf, GgufLayout};
use crate::{Heads, LoadStats, LoadedTensors, Precision, Weights};

const HIDDEN: usize = 64;
const ATTENTION: &str = "model.layers.0.self_attn";
const MLP: &str = "model.layers.0.mlp";

fn shape(intermediate_size: usize) -> Shape {
    Shape {
        vocab_size: 50,
        hidden_size: HIDDEN,
        intermediate_size,
        layers: 1,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        tied: true,
        ..Shape::llama_tiny()
    }
}

/// What a rank loads of one layer: stacked rows, columns, a table, a vector cut and one whole.
fn load(
    checkpoint: &Checkpoint,
    shape: &Shape,
    rank: impl Communicator + 'static,
) -> (LoadedTensors, LoadStats) {
    let heads = Heads::share(shape.heads, shape.kv_heads, &rank).unwrap();
    let weights = Weights::planning(Arc::new(rank));
    let (q, kv) = (heads.q.times(shape.head_dim), heads.kv.times(shape.head_dim));
    let inner = weights.share(shape.intermediate_size);
    let (attention, mlp) = (weights.pp(ATTENTION), weights.pp(MLP));
    let qkv = [("q_proj.weight", q), ("k_proj.weight", kv), ("v_proj.weight", kv)];
    attention.stacked_matrix(&qkv, HIDDEN).unwrap();
    attention.matrix("o_proj.weight", HIDDEN, q).unwrap();
    mlp.matrix("up_proj.weight", inner, HIDDEN).unwrap();
    mlp.matrix("gate_proj.weight", inner, HIDDEN).unwrap();
    mlp.matrix("down_proj.weight", HIDDEN, inner).unwrap();
    weights.pp("model.embed_tokens").table("weight", weights.share(shape.vocab_size), HIDDEN).unwrap();
    let norms = ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"];
    for norm in norms {
        weights.pp("model").pp(norm).vector("weight", HIDDEN).unwrap();
    }
    checkpoint.load(&weights.plan(), Precision::default(), &|_, _| {}).unwrap()
}

fn rows(tensors: &LoadedTensors, name: &str) -> Vec<Vec<f32>> {
    let matrix = &tensors.matrices[name];
    let matrix = matrix.cpu().unwrap();
    matrix.dequantize().chunks(matrix.in_features()).map(<[f32]>::to_vec).collect()
}

/// Put side by side what each rank has of every row.
fn joined_columns(parts: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    (0..parts[0].len()).map(|row| parts.iter().flat_map(|part| part[row].clone()).collect()).collect()
}

fn check(checkpoint: &Checkpoint, shape: &Shape, ranks: usize) -> Vec<(LoadedTensors, LoadStats)> {
    let (whole, _) = load(checkpoint, shape, Single);
    let shares: Vec<_> =
        (0..ranks).map(|rank| load(checkpoint, shape, Outline::new(rank, ranks).unwrap())).collect();
    let each = |name: &str| shares.iter().map(|(tensors, _)| rows(tensors, name)).collect::<Vec<_>>();
    for name in [format!("{MLP}.up_proj.weight"), "model.embed_tokens.weight".to_owned()] {
        assert_eq!(each(&name).concat(), rows(&whole, &name), "{name} over {ranks} ranks");
    }
    let name = format!("{ATTENTION}.o_proj.weight");
    assert_eq!(joined_columns(&each(&name)), rows(&whole, &name), "{name} over {ranks} ranks");
    let qkv = rows(&whole, &format!("{ATTENTION}.q_proj.weight"));
    for (rank, part) in each(&format!("{ATTENTION}.q_proj.weight")).iter().enumerate() {
        let heads = Heads::share(4, 2, &Outline::new(rank, ranks).unwrap()).unwrap();
        let rows = |first: usize, heads: crate::Span| {
            let range = heads.times(16).range();
            qkv[first + range.start..first + range.end].to_vec()
        };
        let expected = [rows(0, heads.q), rows(64, heads.kv), rows(96, heads.kv)].concat();
        assert_eq!(*part, expected, "rank {rank} of {ranks}");
    }
    shares
}

fn safetensors(folder: &Path, shape: &Shape, dtype: Dtype) -> Checkpoint {
    RandomModel { shape: shape.clone(), dtype, seed: 3, shards: 2 }.write_weights(folder).unwrap();
    Checkpoint::open(folder).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn shares_make_up_the_whole(
        ranks in prop::sample::select(vec![1usize, 2, 4]), intermediate in 5usize..300,
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::Bf16]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let shape = shape(intermediate);
        let checkpoint = safetensors(folder.path(), &shape, dtype);
        let name = format!("{MLP}.down_proj.weight");
        let whole = rows(&load(&checkpoint, &shape, Single).0, &name);
        let shares = check(&checkpoint, &shape, ranks);
        let parts: Vec<_> = shares.iter().map(|(tensors, _)| rows(tensors, &name)).collect();
        prop_assert_eq!(joined_columns(&parts), whole);
    }
}

#[test]
fn ranks_together_read_a_checkpoint_once() {
    let folder = tempfile::tempdir().unwrap();
    let shape = shape(256);
    let checkpoint = safetensors(folder.path(), &shape, Dtype::Bf16);
    let (_, all) = load(&checkpoint, &shape, Single);
    let shares = check(&checkpoint, &shape, 2);
    let read: u64 = shares.iter().map(|(_, stats)| stats.bytes).sum();
    // Norms are read by both.
    assert_eq!(read, all.bytes + 3 * 2 * HIDDEN as u64);
}

/// Blocks of 256 with common scales: cut where they end they stay as they are, cut elsewhere their numbers are rounded again.
#[test]
fn blocks_that_are_cut_are_rounded_again_to_more_bits() {
    let folder = tempfile::tempdir().unwrap();
    for (intermediate, format) in [(4096, Format::Q4K), (256 * 3, Format::Q8)] {
        let shape = shape(intermediate);
        let model = folder.path().join(intermediate.to_string());
        RandomModel { shape: shape.clone(), dtype: Dtype::F32, seed: 3, shards: 1 }
            .write_weights(&model)
            .unwrap();
        let encode = |_: &str, dims: &[usize], numbers: &[f32]| match dims {
            [_, cols] if cols.is_multiple_of(256) => {
                let tensor = Tensor::from_slice(numbers, dims, &Device::Cpu).unwrap();
                let blocks = QTensor::quantize(&tensor, GgmlDType::Q4K).unwrap();
                GgufData { dtype: 12, bytes: blocks.data().unwrap().into_owned() }
            }
            _ => gguf_floats(Dtype::F32, dims, numbers),
        };
        let file = folder.path().join("model.gguf");
        GgufFile::from_folder(&model, &encode).unwrap().write(&file).unwrap();
        let gguf = Gguf::open(&file).unwrap();
        let checkpoint =
            Checkpoint::gguf(&gguf, GgufLayout { interleaved_head: Some(16), experts: None }).unwrap();
        let shares = check(&checkpoint, &shape, 2);
        let name = format!("{MLP}.down_proj.weight");
        let whole = rows(&load(&checkpoint, &shape, Single).0, &name).concat();
        let parts: Vec<_> = shares.iter().map(|(tensors, _)| rows(tensors, &name)).collect();
        assert!(shares.iter().all(|(tensors, _)| tensors.matrices[&name].format() == format), "{format}");
        let joined = joined_columns(&parts).concat();
        let largest = whole.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
        let off = joined.iter().zip(&whole).fold(0.0f32, |off, (a, b)| off.max((a - b).abs()));
        let allowed = if format == Format::Q8 { largest / 127.0 } else { 0.0 };
        assert!(off <= allowed, "{format}: {off} of {largest}");
    }
}
