//! What was packed is mapped bit for bit; what does not fit model, version or precision is refused by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::DType;
use serde_json::{Value, json};
use tempfile::TempDir;
use vlinders_comm::Single;
use vlinders_testkit::{Dtype, RandomModel, Shape};

use super::super::{PACKED, PackStats};
use super::*;
use crate::{LoadPlan, LoadedTensors, Quantization, Weights};

const EMBED: &str = "model.embed_tokens.weight";
const GATE: &str = "model.layers.0.mlp.gate_proj.weight";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";
const NORM: &str = "model.norm.weight";

fn source(dtype: Dtype) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape { vocab_size: 40, hidden_size: 256, layers: 1, ..Shape::llama_tiny() };
    RandomModel { shape, dtype, seed: 9, shards: 2 }.write_weights(folder.path()).unwrap();
    folder
}

/// A table, a stacked matrix, one whose bytes are no multiple of the alignment in most formats, and a vector.
fn plan() -> LoadPlan {
    let weights = Weights::planning(Arc::new(Single));
    weights.pp("model.embed_tokens").table("weight", 40, 256).unwrap();
    let mlp = weights.pp("model.layers.0.mlp");
    mlp.stacked_matrix(&[("gate_proj.weight", 96), ("up_proj.weight", 96)], 256).unwrap();
    mlp.matrix("down_proj.weight", 256, 96).unwrap();
    weights.pp("model.norm").vector("weight", 256).unwrap();
    weights.plan()
}

fn asked(dtype: Option<DType>, quantization: Option<Quantization>) -> Precision {
    Precision { dtype, quantization, ..Precision::default() }
}

fn load(folder: &Path, precision: Precision) -> Result<LoadedTensors, LayerError> {
    Ok(Checkpoint::open(folder)?.load(&plan(), precision, &|_, _| {})?.0)
}

fn pack(source: &Path, precision: Precision) -> Result<(TempDir, PackStats), LayerError> {
    let out = tempfile::tempdir().unwrap();
    let stats = Checkpoint::open(source)?.pack(&plan(), precision, out.path(), &|_, _| {})?;
    Ok((out, stats))
}

/// A packed folder in bf16, and its file.
fn packed() -> (TempDir, PathBuf) {
    let (out, _) = pack(source(Dtype::Bf16).path(), Precision::default()).unwrap();
    let file = out.path().join(PACKED);
    (out, file)
}

/// What loading says, without the path of the folder.
fn error(folder: &Path, precision: Precision) -> String {
    let text = load(folder, precision).map(|_| ()).unwrap_err().to_string();
    text.replace(&format!("{}/", folder.display()), "").replace(&folder.display().to_string(), "DIR")
}

/// Rewrite the header, and put `shift` bytes too many in front of the data.
fn edit_header(file: &Path, shift: usize, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut value: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut value);
    let Value::Object(fields) = value else { panic!("no object") };
    let mut json = header::to_bytes(fields, TILE_ALIGNMENT).split_off(8);
    json.extend(std::iter::repeat_n(b' ', shift));
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(&json);
    out.extend_from_slice(&bytes[8 + length..]);
    fs::write(file, out).unwrap();
}

fn error_with(edit: impl FnOnce(&mut Value)) -> String {
    let (out, file) = packed();
    edit_header(&file, 0, edit);
    error(out.path(), Precision::default())
}

#[test]
fn every_matrix_is_what_the_source_gives_in_every_format() {
    let (bf16, f32) = (source(Dtype::Bf16), source(Dtype::F32));
    for (source, dtype, quantization) in [
        (&f32, None, None),
        (&bf16, None, None),
        (&f32, Some(DType::F16), None),
        (&bf16, Some(DType::F32), None),
        (&bf16, None, Some(Quantization::Q8)),
        (&f32, Some(DType::BF16), Some(Quantization::Q4)),
    ] {
        let precision = asked(dtype, quantization);
        let (out, stats) = pack(source.path(), precision).unwrap();
        let expected = load(source.path(), precision).unwrap();
        // Packed with a precision, it is loaded without one, or with the same.
        for precision in [Precision::default(), precision] {
            let found = load(out.path(), precision).unwrap();
            assert_eq!((found.matrices.len(), found.format()), (3, stats.format));
            assert_eq!((found.num_bytes(), found.format()), (expected.num_bytes(), expected.format()));
            for (name, matrix) in &expected.matrices {
                let found = &found.matrices[name];
                assert_eq!(
                    (found.format(), found.cpu().unwrap().bytes()),
                    (matrix.format(), matrix.cpu().unwrap().bytes()),
                    "{name}"
                );
            }
            let norm =
                |loaded: &LoadedTensors| loaded.vectors[NORM].to_cpu().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(norm(&found), norm(&expected));
        }
    }
}

#[test]
fn the_same_source_gives_the_same_bytes_and_nothing_else() {
    let source = source(Dtype::F16);
    let bytes = || {
        let (out, stats) = pack(source.path(), asked(None, Some(Quantization::Q8))).unwrap();
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
        let bytes = fs::read(out.path().join(PACKED)).unwrap();
        assert_eq!(stats.bytes_written, bytes.len() as u64);
        bytes
    };
    let first = bytes();
    assert_eq!(first, bytes());
    let length = u64::from_le_bytes(first[..8].try_into().unwrap()) as usize;
    assert_eq!((8 + length) % TILE_ALIGNMENT, 0);
}

#[test]
fn progress_ends_with_the_whole_file_on_both_ways() {
    let source = source(Dtype::Bf16);
    let out = tempfile::tempdir().unwrap();
    let last = Mutex::new((0, 0));
    let note = |done: u64, total: u64| *last.lock().unwrap() = (done, total);
    Checkpoint::open(source.path()).unwrap().pack(&plan(), Precision::default(), out.path(), &note).unwrap();
    let len = fs::metadata(out.path().join(PACKED)).unwrap().len();
    assert_eq!(*last.lock().unwrap(), (len, len));
    *last.lock().unwrap() = (0, 0);
    let checkpoint = Checkpoint::open(out.path()).unwrap();
    let (loaded, stats) = checkpoint.load(&plan(), Precision::default(), &note).unwrap();
    assert_eq!((*last.lock().unwrap(), stats.bytes), ((len, len), len));
    assert_eq!(stats.mapped, loaded.num_bytes() - 256 * 4);
    assert_eq!(checkpoint.in_memory(&plan(), Precision::default()), (loaded.format(), loaded.num_bytes()));
}

#[test]
fn two_loads_at_once_and_a_folder_that_is_gone_change_nothing() {
    let source = source(Dtype::Bf16);
    let (out, _) = pack(source.path(), Precision::default()).unwrap();
    let both = std::thread::scope(|scope| {
        let loads: Vec<_> =
            (0..2).map(|_| scope.spawn(|| load(out.path(), Precision::default()).unwrap())).collect();
        loads.into_iter().map(|load| load.join().unwrap()).collect::<Vec<_>>()
    });
    drop(out);
    let expected = load(source.path(), Precision::default()).unwrap();
    for loaded in both {
        for (name, matrix) in &expected.matrices {
            assert_eq!(loaded.matrices[name].cpu().unwrap().bytes(), matrix.cpu().unwrap().bytes());
        }
    }
}

#[test]
fn another_precision_than_it_was_packed_with_is_refused() {
    let (out, _) = packed();
    assert_eq!(
        error(out.path(), asked(None, Some(Quantization::Q8))),
        "model.embed_tokens.weight is packed as bfloat16, and q8 was asked for: leave out `dtype` and `quantization`, or run \
         `vlinders pack` with them on the folder it was packed from"
    );
    assert!(error(out.path(), asked(Some(DType::F32), None)).contains("float32 was asked for"));
    let problems = Checkpoint::open(out.path()).unwrap().problems(&plan(), asked(Some(DType::F16), None));
    assert_eq!(problems.len(), 3);
    assert!(load(out.path(), asked(Some(DType::BF16), None)).is_ok());
}

#[test]
fn what_is_packed_is_neither_packed_nor_quantised_again() {
    let (folder, _) = packed();
    let refused = pack(folder.path(), Precision::default()).unwrap_err().to_string();
    assert!(refused.ends_with("is packed already: give the folder it was packed from"), "{refused}");
    let out = tempfile::tempdir().unwrap();
    let quantised = Checkpoint::open(folder.path()).unwrap().quantize(
        &plan(),
        Quantization::Q8,
        out.path(),
        1 << 20,
        &|_, _| {},
    );
    assert!(matches!(quantised, Err(LayerError::AlreadyPacked { .. })));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_failed_pack_leaves_no_file() {
    let source = source(Dtype::Bf16);
    let checkpoint = Checkpoint::open(source.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let missing = out.path().join("nowhere");
    let told = checkpoint.pack(&plan(), Precision::default(), &missing, &|_, _| {}).unwrap_err().to_string();
    assert!(told.starts_with("can not write") && told.contains("nowhere/packed.safetensors.part"), "{told}");
    // The target's name is taken by a folder.
    fs::create_dir(out.path().join(PACKED)).unwrap();
    assert!(checkpoint.pack(&plan(), Precision::default(), out.path(), &|_, _| {}).is_err());
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_file_of_another_length_is_refused_before_it_is_mapped() {
    let (out, file) = packed();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let (found, expected) = (bytes.len() - 1, bytes.len());
    assert_eq!(
        error(out.path(), Precision::default()),
        format!(
            "packed.safetensors can not be used: it is truncated: it has {found} bytes and its header describes \
             {expected}; run `vlinders pack` again on the folder it was packed from"
        )
    );
    fs::write(&file, &bytes[..20]).unwrap();
    assert!(error(out.path(), Precision::default()).contains("truncated"));
    fs::write(&file, [&bytes[..], &[0]].concat()).unwrap();
    assert!(error(out.path(), Precision::default()).contains("1 bytes follow the last tensor"));
    fs::write(&file, "").unwrap();
    let told = error(out.path(), Precision::default());
    assert!(told.contains("truncated") && told.contains("`vlinders pack` again"), "{told}");
}

#[test]
fn a_file_cut_short_after_it_was_opened_is_an_error() {
    let (out, file) = packed();
    let checkpoint = Checkpoint::open(out.path()).unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1 << 16).unwrap();
    let told = checkpoint.load(&plan(), Precision::default(), &|_, _| {}).unwrap_err().to_string();
    assert!(told.contains("packed.safetensors") && told.contains("`vlinders pack` again"), "{told}");
}

#[test]
fn another_layout_is_told_with_what_to_do() {
    assert_eq!(
        error_with(|header| header["__metadata__"][LAYOUT] = json!("0")),
        "packed.safetensors can not be used: it was written by another version (layout 0, this one reads layout 1); \
         run `vlinders pack` again on the folder it was packed from"
    );
    let told = error_with(|header| drop(header.as_object_mut().unwrap().remove("__metadata__")));
    assert!(told.contains("it does not say that it was packed"), "{told}");
}

#[test]
fn matrices_that_are_not_at_a_multiple_of_the_alignment_are_refused() {
    let (out, file) = packed();
    edit_header(&file, 8, |_| {});
    let told = error(out.path(), Precision::default());
    assert!(told.contains("which is no multiple of 64; run `vlinders pack` again"), "{told}");
}

#[test]
fn every_tensor_must_be_there_and_described() {
    let key = |name: &str| format!("{NOTE}{name}");
    let rename = |header: &mut Value, from: &str| {
        let fields = header.as_object_mut().unwrap();
        let entry = fields.remove(from).unwrap();
        fields.insert("other".to_owned(), entry);
    };
    let told = error_with(|header| {
        rename(header, DOWN);
        let note = header["__metadata__"].as_object_mut().unwrap().remove(&key(DOWN)).unwrap();
        header["__metadata__"][key("other")] = note;
    });
    assert_eq!(told, format!("DIR lacks the tensor {DOWN}; does config.json belong to these weights?"));
    let told = error_with(|header| rename(header, NORM));
    assert!(told.contains(&format!("lacks the tensor {NORM}")), "{told}");
    let told = error_with(|header| rename(header, DOWN));
    assert!(told.contains(&format!("it describes {DOWN}, which it does not hold")), "{told}");
    let told = error_with(|header| drop(header["__metadata__"].as_object_mut().unwrap().remove(&key(DOWN))));
    assert!(told.contains(&format!("it does not describe {DOWN}")), "{told}");
}

#[test]
fn notes_must_fit_bytes_and_model() {
    let with = |name: &'static str, field: &'static str, value: Value| {
        error_with(move |header| {
            let key = format!("{NOTE}{name}");
            let mut note: Value =
                serde_json::from_str(header["__metadata__"][&key].as_str().unwrap()).unwrap();
            note[field] = value;
            header["__metadata__"][key] = json!(note.to_string());
        })
    };
    let told = with(EMBED, "format", json!("float32"));
    assert!(told.contains(EMBED) && told.contains("has 24576 bytes as U8, float32 of shape"), "{told}");
    assert!(with(EMBED, "format", json!("q3")).contains("has the format q3, which is not known"));
    assert!(with(EMBED, "shape", json!([0, 256])).contains("of shape [0, 256]"));
    assert!(with(EMBED, "shape", json!([1u64 << 60, 1u64 << 60])).contains("has None"));
    // As many bytes, but not the model's matrix.
    let told = with(EMBED, "shape", json!([41, 256]));
    assert!(told.contains("has shape [41, 256], config.json implies [40, 256]"), "{told}");
    let told = with(GATE, "parts", json!([[GATE, 192]]));
    assert!(told.contains(&format!("{GATE} was stacked of")), "{told}");
    assert!(with(GATE, "parts", json!(7)).contains(&format!("the note of {GATE}: invalid type")));
}

#[test]
fn no_byte_of_the_header_makes_it_panic() {
    let (out, file) = packed();
    let bytes = fs::read(&file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in 0..8 + length {
        let mut broken = bytes.clone();
        broken[at] ^= 1 << (at % 7);
        fs::write(&file, broken).unwrap();
        // It may be an error, or a change that means nothing, such as in a dtype of the same size.
        let _ = load(out.path(), Precision::default());
    }
}
