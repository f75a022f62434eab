//! Broken checkpoints give errors that say what is broken; none panics.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::DType;
use proptest::prelude::*;
use safetensors::{SafeTensorError, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;
use vlinders_comm::Single;
use vlinders_kernels::Format;
use vlinders_testkit::{Dtype, RandomModel, Shape};

use super::{Checkpoint, INDEX, SINGLE};
use crate::{LayerError, LoadPlan, LoadedTensors, Precision, Weights};

/// A folder with a tiny model of so many shards.
fn folder(shards: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shape =
        Shape { vocab_size: 24, hidden_size: 8, intermediate_size: 12, layers: 1, ..Shape::llama_tiny() };
    RandomModel { shape, dtype: Dtype::F16, seed: 1, shards }.write_weights(folder.path()).unwrap();
    folder
}

/// Some of what that model needs: a matrix alone, a stacked one, a vector.
fn plan() -> LoadPlan {
    let weights = Weights::planning(Arc::new(Single));
    weights.pp("model.embed_tokens").matrix("weight", 24, 8).unwrap();
    let mlp = weights.pp("model.layers.0.mlp");
    mlp.stacked_matrix(&[("gate_proj.weight", 12), ("up_proj.weight", 12)], 8).unwrap();
    weights.pp("model.norm").vector("weight", 8).unwrap();
    weights.plan()
}

fn load(folder: &Path) -> Result<LoadedTensors, LayerError> {
    Ok(Checkpoint::open(folder)?.load(&plan(), Precision::default(), &|_, _| {})?.0)
}

/// What loading says, without the path of the folder.
fn error(folder: &Path) -> String {
    let place = folder.display().to_string();
    let text = load(folder).map(|_| ()).unwrap_err().to_string();
    text.replace(&format!("{place}/"), "").replace(&place, "DIR")
}

/// Rewrite the header of a file.
fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&bytes[8 + length..]);
    fs::write(path, out).unwrap();
}

/// The numbers of a tensor, as another reader of the format sees them.
fn as_others_read(folder: &Path, name: &str) -> Vec<f32> {
    let mut values = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = fs::read(path).unwrap();
            if let Ok(tensor) = SafeTensors::deserialize(&bytes).unwrap().tensor(name) {
                let pairs = tensor.data().as_chunks::<2>().0;
                values.extend(pairs.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()));
            }
        }
    }
    values
}

#[test]
fn tensors_have_the_values_of_the_file() {
    for shards in [1, 3] {
        let folder = folder(shards);
        let loaded = load(folder.path()).unwrap();
        let mut expected = as_others_read(folder.path(), "model.layers.0.mlp.gate_proj.weight");
        expected.extend(as_others_read(folder.path(), "model.layers.0.mlp.up_proj.weight"));
        assert_eq!(
            loaded.matrices["model.layers.0.mlp.gate_proj.weight"].cpu().unwrap().dequantize(),
            expected
        );
        let norm = loaded.vectors["model.norm.weight"].to_cpu().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(norm, as_others_read(folder.path(), "model.norm.weight"));
        assert_eq!(loaded.format(), Format::F16);
    }
}

#[test]
fn weights_take_the_type_that_was_asked_for() {
    let folder = folder(2);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let name = "model.embed_tokens.weight";
    let values = |dtype| {
        let (loaded, _) =
            checkpoint.load(&plan(), Precision { dtype, ..Precision::default() }, &|_, _| {}).unwrap();
        assert_eq!(loaded.format().dtype(), dtype);
        loaded.matrices[name].cpu().unwrap().dequantize()
    };
    let stored = as_others_read(folder.path(), name);
    assert_eq!(values(Some(DType::F32)), stored);
    let rounded: Vec<f32> = stored.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
    assert_eq!(values(Some(DType::BF16)), rounded);
}

#[test]
fn progress_ends_with_all_bytes() {
    let folder = folder(2);
    let last = Mutex::new((0, 0));
    let note = |done: u64, total: u64| {
        let mut last = last.lock().unwrap();
        *last = (done.max(last.0), total);
    };
    let (_, stats) =
        Checkpoint::open(folder.path()).unwrap().load(&plan(), Precision::default(), &note).unwrap();
    let all = 2 * (24 * 8 + 24 * 8 + 8);
    assert_eq!((*last.lock().unwrap(), stats.bytes), ((all, all), all));
}

#[test]
fn embedded_files_load_like_a_folder() {
    let folder = folder(1);
    let bytes: &'static [u8] = fs::read(folder.path().join(SINGLE)).unwrap().leak();
    let embedded = Checkpoint::embedded(&[("config.json", b"{}"), (SINGLE, bytes)]).unwrap();
    let (tensors, _) = embedded.load(&plan(), Precision::default(), &|_, _| {}).unwrap();
    let name = "model.embed_tokens.weight";
    assert_eq!(
        tensors.matrices[name].cpu().unwrap().dequantize(),
        load(folder.path()).unwrap().matrices[name].cpu().unwrap().dequantize()
    );
    let cut = Checkpoint::embedded(&[(SINGLE, &bytes[..bytes.len() - 1])]).unwrap_err().to_string();
    assert!(cut.starts_with("model.safetensors is truncated"), "{cut}");
    assert!(matches!(Checkpoint::embedded(&[]), Err(LayerError::NoWeights { .. })));
}

#[test]
fn missing_files_are_named() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        error(empty.path()),
        "DIR holds no weights: expected model.safetensors, or model.safetensors.index.json and its shards"
    );
    let folder = folder(2);
    fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert_eq!(
        error(folder.path()),
        "model.safetensors.index.json names the shard model-00002-of-00002.safetensors, which does not exist; \
         download it, or the whole checkpoint again"
    );
}

#[test]
fn an_index_that_is_wrong_is_refused() {
    let with = |index: &str| {
        let folder = folder(2);
        fs::write(folder.path().join(INDEX), index).unwrap();
        error(folder.path())
    };
    assert!(with("{").starts_with("model.safetensors.index.json: EOF"));
    assert!(with("{}").contains("missing field `weight_map`"));
    let outside = json!({"weight_map": {"a": "../model.safetensors"}}).to_string();
    assert!(with(&outside).contains("is not the name of a safetensors file in the same folder"));
    let elsewhere = json!({"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}).to_string();
    assert_eq!(
        with(&elsewhere),
        "model.safetensors.index.json says that lm_head.weight is in model-00001-of-00002.safetensors, \
         which does not hold it"
    );
}

#[test]
fn a_file_cut_anywhere_is_truncated() {
    let folder = folder(1);
    let path = folder.path().join(SINGLE);
    let bytes = fs::read(&path).unwrap();
    for len in [0, 5, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        let message = error(folder.path());
        assert!(message.starts_with("model.safetensors is truncated: it has"), "{len} bytes: {message}");
    }
    fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert!(error(folder.path()).contains("1 bytes follow the last tensor"));
}

#[test]
fn a_header_that_is_wrong_is_refused() {
    let with = |edit: &dyn Fn(&mut Value)| {
        let folder = folder(1);
        edit_header(&folder.path().join(SINGLE), edit);
        error(folder.path())
    };
    let name = "model.norm.weight";
    let set =
        |field: &'static str, value: Value| move |header: &mut Value| header[name][field] = value.clone();
    let shape = with(&set("shape", json!([9])));
    let expected = "model.safetensors is not a valid safetensors file: model.norm.weight is F16 of shape [9], \
                    which takes 18 bytes, but its offsets are ";
    assert!(shape.starts_with(expected), "{shape}");
    assert!(with(&set("data_offsets", json!([16, 0]))).contains("its offsets are 16 to 0"));
    assert!(with(&set("data_offsets", json!([0, 16]))).contains("overlap or leave a gap"));
    assert!(with(&set("data_offsets", json!([-1, 15]))).contains("the entry of model.norm.weight"));
    assert!(with(&set("shape", json!([u64::MAX, 2]))).contains("overflows"));
    assert!(with(&|header| *header = json!([])).contains("its header is not JSON"));
    let folder = folder(1);
    fs::write(folder.path().join(SINGLE), u64::MAX.to_le_bytes()).unwrap();
    assert!(error(folder.path()).contains("its header claims 18446744073709551615 bytes"));
}

#[test]
fn tensors_that_do_not_fit_the_model_are_named() {
    let folder = folder(1);
    let weights = Weights::planning(Arc::new(Single));
    weights.pp("model.embed_tokens").matrix("weight", 25, 8).unwrap();
    weights.pp("model.layers.7").vector("weight", 8).unwrap();
    let problems = Checkpoint::open(folder.path()).unwrap().problems(&weights.plan(), Precision::default());
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(texts[0].starts_with("model.embed_tokens.weight in "), "{texts:?}");
    assert!(texts[0].ends_with("has shape [24, 8], config.json implies [25, 8]"), "{texts:?}");
    assert!(texts[1].contains("lacks the tensor model.layers.7.weight"), "{texts:?}");
    edit_header(&folder.path().join(SINGLE), |header| header["model.norm.weight"]["dtype"] = json!("I16"));
    assert!(error(folder.path()).ends_with("is stored as I16; F32, F16 and BF16 are supported"));
}

#[test]
fn a_layer_that_was_not_planned_is_an_error() {
    let folder = folder(1);
    let weights = Weights::loaded(load(folder.path()).unwrap(), 1, Arc::new(Single));
    let error = weights.pp("lm_head").matrix("weight", 24, 8).err().unwrap();
    assert_eq!(error.to_string(), "the tensor lm_head.weight was not part of the load plan");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any damage to length and header gives an error or a load, never a panic or a read out of bounds.
    #[test]
    fn damaged_headers_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let folder = folder(1);
        let path = folder.path().join(SINGLE);
        let mut bytes = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, value) in flips {
            bytes[at.index(header)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(folder.path()) {
            let _ = checkpoint.load(&plan(), Precision::default(), &|_, _| {});
            // what we accept, others accept, apart from types and fields that they do not know
            let known = |error: SafeTensorError| matches!(error, SafeTensorError::InvalidHeaderDeserialization(_));
            let others = SafeTensors::deserialize(&bytes);
            prop_assert!(others.err().is_none_or(known));
        }
    }
}
