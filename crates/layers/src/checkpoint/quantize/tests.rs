//! What was quantised once loads as what is quantised while loading, bit for bit; encodings that make no sense do not load.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use vlinders_comm::Single;
use vlinders_testkit::{Dtype, RandomModel, Shape};

use super::*;
use crate::{LoadedTensors, Weights};

const EMBED: &str = "model.embed_tokens.weight";
const GATE: &str = "model.layers.0.mlp.gate_proj.weight";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";

fn source(hidden: usize, shards: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape { vocab_size: 40, hidden_size: hidden, layers: 1, ..Shape::llama_tiny() };
    RandomModel { shape, dtype: Dtype::Bf16, seed: 9, shards }.write_weights(folder.path()).unwrap();
    folder
}

fn plan(hidden: usize) -> LoadPlan {
    let weights = Weights::planning(Arc::new(Single));
    weights.pp("model.embed_tokens").table("weight", 40, hidden).unwrap();
    let mlp = weights.pp("model.layers.0.mlp");
    mlp.stacked_matrix(&[("gate_proj.weight", 96), ("up_proj.weight", 96)], hidden).unwrap();
    mlp.matrix("down_proj.weight", hidden, 96).unwrap();
    weights.pp("model.norm").vector("weight", hidden).unwrap();
    weights.plan()
}

fn load(
    folder: &Path,
    hidden: usize,
    quantization: Option<Quantization>,
) -> Result<LoadedTensors, LayerError> {
    let precision = Precision { quantization, ..Precision::default() };
    Ok(Checkpoint::open(folder)?.load(&plan(hidden), precision, &|_, _| {})?.0)
}

fn quantise(
    source: &Path,
    hidden: usize,
    file_bytes: u64,
) -> Result<(tempfile::TempDir, QuantizeStats), LayerError> {
    let out = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(source)?;
    let stats = checkpoint.quantize(&plan(hidden), Quantization::Q4, out.path(), file_bytes, &|_, _| {})?;
    Ok((out, stats))
}

#[test]
fn the_result_loads_as_what_is_rounded_while_loading() {
    for (hidden, shards, file_bytes, many) in
        [(64, 1, u64::MAX, false), (64, 3, 4000, true), (256, 1, u64::MAX, false)]
    {
        let source = source(hidden, shards);
        for quantization in [Quantization::Q8, Quantization::Q4] {
            let out = tempfile::tempdir().unwrap();
            let checkpoint = Checkpoint::open(source.path()).unwrap();
            let seen = std::cell::Cell::new((0, 0));
            let note = |done, total| seen.set((done, total));
            let stats =
                checkpoint.quantize(&plan(hidden), quantization, out.path(), file_bytes, &note).unwrap();
            assert_eq!((stats.num_files > 1, seen.get()), (many, (stats.bytes_read, stats.bytes_read)));
            assert_eq!(out.path().join(INDEX).is_file(), many);
            let (found, expected) = (
                load(out.path(), hidden, None).unwrap(),
                load(source.path(), hidden, Some(quantization)).unwrap(),
            );
            assert_eq!(found.matrices.len(), 3);
            for (name, matrix) in &expected.matrices {
                assert_eq!(found.matrices[name].format(), matrix.format(), "{name}");
                assert_eq!(
                    found.matrices[name].cpu().unwrap().dequantize(),
                    matrix.cpu().unwrap().dequantize(),
                    "{name}"
                );
            }
            let norm = |loaded: &LoadedTensors| {
                loaded.vectors["model.norm.weight"].to_cpu().unwrap().to_vec1::<f32>().unwrap()
            };
            assert_eq!(norm(&found), norm(&expected));
            assert_eq!(found.num_bytes(), expected.num_bytes());
        }
    }
}

#[test]
fn tables_have_more_bits_and_short_rows_have_scales_of_their_own() {
    let (out, _) = quantise(source(256, 1).path(), 256, u64::MAX).unwrap();
    let checkpoint = Checkpoint::open(out.path()).unwrap();
    assert_eq!(checkpoint.stored(EMBED), Some(Stored::Q6_K));
    assert_eq!(checkpoint.stored(GATE), Some(Stored::Q4_K));
    let (out, _) = quantise(source(64, 1).path(), 64, u64::MAX).unwrap();
    let checkpoint = Checkpoint::open(out.path()).unwrap();
    assert_eq!(checkpoint.stored(EMBED), Some(Stored::Q8_0));
    assert_eq!(checkpoint.stored(DOWN), Some(Stored::Q4_0));
    assert_eq!(checkpoint.tensors().find(|(name, _)| *name == DOWN).unwrap().1.shape(), [64, 96]);
}

#[test]
fn rows_that_are_no_whole_blocks_are_named() {
    let message = quantise(source(48, 1).path(), 48, u64::MAX).unwrap_err().to_string();
    assert_eq!(
        message,
        "model.embed_tokens.weight has rows of 48 numbers, which are no whole blocks of 32: this model can not be stored \
         quantised, only quantised while loading"
    );
}

#[test]
fn encodings_that_make_no_sense_are_refused() {
    let with = |edit: &dyn Fn(&mut Value)| {
        let (out, _) = quantise(source(64, 1).path(), 64, u64::MAX).unwrap();
        let path = out.path().join(SINGLE);
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        edit(&mut header);
        let header = header.to_string();
        let head = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        fs::write(&path, [&head[..], &bytes[8 + length..]].concat()).unwrap();
        load(out.path(), 64, None).unwrap_err().to_string()
    };
    let key = format!("{}{DOWN}", header::ENCODING);
    let refused = format!("{DOWN} can not be");
    assert!(with(&|h| h["__metadata__"][&key] = json!("Q5_0")).contains(&format!("{refused} Q5_0")));
    assert!(
        with(&|h| h["__metadata__"][&key] = json!("Q8_0")).contains(&refused),
        "54 bytes are no blocks of 34"
    );
    assert!(with(&|h| h[DOWN]["dtype"] = json!("I8")).contains(&refused));
    assert!(with(&|h| h[DOWN]["shape"] = json!([64 * 54])).contains(&refused));
    assert!(with(&|h| h["__metadata__"] = json!({"a": 1})).contains("its __metadata__ is no map of texts"));
    assert!(
        with(&|h| h["__metadata__"][format!("{}x", header::ENCODING)] = json!("Q8_0"))
            .contains("the encoding of x")
    );
    // Without its encoding it is a matrix of bytes, of another shape.
    let message = with(&|h| drop(h["__metadata__"].as_object_mut().unwrap().remove(&key)));
    assert!(message.contains("has shape [64, 54], config.json implies [64, 96]"), "{message}");
}
