//! GGUF files, whole and damaged: what is read, what is refused, and how rows come back into their places.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use vlinders_comm::Single;
use vlinders_kernels::Stored;
use vlinders_testkit::{Dtype, GgufData, GgufFile, GgufTensor, GgufValue, gguf_floats};

use super::{Checkpoint, Gguf, GgufExperts, GgufLayout, ROPE_FREQS};
use crate::{ExpertNames, LayerError, LoadPlan, LoadedTensors, Place, Precision, Span, Weights};

/// Numbers that are exact in every float type.
fn counting(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 251) as f32).collect()
}

fn tensor(name: &str, shape: &[usize]) -> GgufTensor {
    let numbers = counting(shape.iter().product());
    GgufTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: gguf_floats(Dtype::F32, shape, &numbers),
    }
}

/// A file with one of everything.
fn small() -> GgufFile {
    let text = |text: &str| GgufValue::Text(text.to_owned());
    let metadata = [
        ("general.architecture", text("llama")),
        ("a.count", GgufValue::U32(7)),
        ("a.number", GgufValue::F32(0.5)),
        ("a.flag", GgufValue::Bool(true)),
        ("a.texts", GgufValue::Texts(vec!["one".to_owned(), String::new(), "drei 🦋".to_owned()])),
        ("a.integers", GgufValue::I32s(vec![3, -1])),
        ("a.numbers", GgufValue::F32s(vec![-1.5, 2.0])),
    ];
    GgufFile {
        version: 3,
        metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        tensors: vec![tensor("blk.0.attn_q.weight", &[8, 4]), tensor("blk.0.attn_q.bias", &[8])],
    }
}

/// A file in a folder of its own.
struct OnDisk {
    folder: TempDir,
    path: PathBuf,
}

impl OnDisk {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, bytes).unwrap();
        Self { folder, path }
    }

    fn open(&self) -> Result<Gguf, String> {
        let prefix = format!("{}/", self.folder.path().display());
        Gguf::open(&self.path).map_err(|error| error.to_string().replace(&prefix, ""))
    }
}

fn open(bytes: &[u8]) -> Result<Gguf, String> {
    OnDisk::new(bytes).open()
}

/// What is said of the small file after a change.
fn error(change: impl FnOnce(&mut GgufFile)) -> String {
    let mut file = small();
    change(&mut file);
    open(&file.to_bytes()).unwrap_err()
}

fn plan(matrices: &[(&str, usize, usize)], vectors: &[(&str, usize)]) -> LoadPlan {
    let weights = Weights::planning(Arc::new(Single));
    matrices.iter().for_each(|(name, rows, cols)| drop(weights.matrix(name, *rows, *cols).unwrap()));
    vectors.iter().for_each(|(name, len)| drop(weights.vector(name, *len).unwrap()));
    weights.plan()
}

fn heads_of(interleaved_head: Option<usize>) -> GgufLayout {
    GgufLayout { interleaved_head, experts: None }
}

fn experts_of(count: usize) -> GgufExperts {
    let names = ExpertNames { layer: "moe", gate: "g", up: "u", down: "d" };
    GgufExperts { count, names }
}

fn load(gguf: &Gguf, head: Option<usize>, plan: &LoadPlan) -> Result<LoadedTensors, LayerError> {
    Ok(Checkpoint::gguf(gguf, heads_of(head))?.load(plan, Precision::default(), &|_, _| {})?.0)
}

#[test]
fn values_are_read_by_type() {
    for version in [2, 3] {
        let gguf = open(&GgufFile { version, ..small() }.to_bytes()).unwrap();
        let metadata = gguf.metadata();
        assert_eq!(metadata.text("general.architecture").unwrap(), Some("llama"));
        assert_eq!(metadata.count("a.count").unwrap(), Some(7));
        assert_eq!(metadata.number("a.count").unwrap(), Some(7.0));
        assert_eq!(metadata.number("a.number").unwrap(), Some(0.5));
        assert_eq!(metadata.flag("a.flag").unwrap(), Some(true));
        assert_eq!(metadata.texts("a.texts").unwrap().unwrap(), ["one", "", "drei 🦋"]);
        assert_eq!(metadata.integers("a.integers").unwrap().unwrap(), [3, -1]);
        assert_eq!(metadata.numbers("a.numbers").unwrap().unwrap(), [-1.5, 2.0]);
        assert_eq!(metadata.array_len("a.texts"), Some(3));
        assert_eq!((metadata.text("b").unwrap(), metadata.count("b").unwrap()), (None, None));
        assert_eq!(gguf.shape("blk.0.attn_q.weight"), Some(&[8, 4][..]));
        assert_eq!(gguf.version(), version);
    }
}

#[test]
fn a_value_of_another_type_names_its_key() {
    let disk = OnDisk::new(&small().to_bytes());
    let gguf = disk.open().unwrap();
    let metadata = gguf.metadata();
    let says = |error: LayerError| error.to_string().rsplit_once(": ").unwrap().1.to_owned();
    assert_eq!(
        says(metadata.count("a.number").unwrap_err()),
        "a.number must be a whole number, not negative, is F32"
    );
    assert_eq!(says(metadata.text("a.texts").unwrap_err()), "a.texts must be a text, is an array of Text");
    assert_eq!(
        says(metadata.texts("general.architecture").unwrap_err()),
        "general.architecture must be an array of texts, is Text"
    );
    assert_eq!(says(metadata.flag("a.count").unwrap_err()), "a.count must be true or false, is U32");
    assert!(metadata.count("a.integers").is_err() && metadata.number("a.flag").is_err());
    assert!(metadata.integers("a.count").is_err() && metadata.numbers("a.texts").is_err());
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = small().to_bytes();
    let data = 32; // the last tensor has 32 bytes and no padding
    for len in 0..bytes.len() {
        let message = open(&bytes[..len]).unwrap_err();
        assert!(message.starts_with("model.gguf is"), "{len} bytes: {message}");
        assert!(len < bytes.len() - data || message.contains("truncated"), "{len} bytes: {message}");
    }
    assert!(open(&bytes).is_ok());
}

#[test]
fn what_is_no_gguf_file_is_refused() {
    let with = |at: usize, value: &[u8]| {
        let mut bytes = small().to_bytes();
        bytes[at..at + value.len()].copy_from_slice(value);
        open(&bytes).unwrap_err()
    };
    let begin = "model.gguf is not a GGUF file that can be loaded: ";
    assert_eq!(with(0, b"GGML"), format!("{begin}it does not begin with GGUF"));
    assert_eq!(with(4, &[1]), format!("{begin}it is of version 1; convert the model again"));
    assert_eq!(with(4, &[9]), format!("{begin}it is of version 9; 2 and 3 are supported"));
    assert!(with(4, &[0, 0, 0, 3]).contains("big-endian"));
    assert!(with(8, &u64::MAX.to_le_bytes()).contains("claims 18446744073709551615 tensors"));
    assert!(with(16, &u64::MAX.to_le_bytes()).contains("claims 18446744073709551615 keys"));
    assert!(with(24, &u64::MAX.to_le_bytes()).contains("key 0 claims 18446744073709551615 bytes"));
    assert!(with(32, &[0xff]).contains("key 0 is not UTF-8"));
    // the type of the first value, behind its key
    let at = 32 + "general.architecture".len();
    assert!(with(at, &[77]).contains("general.architecture is of type 77, which is not known"));
    assert!(with(at, &[9, 0, 0, 0, 9]).contains("general.architecture is an array of arrays"));
    let claims = [&9_u32.to_le_bytes()[..], &8_u32.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
    assert!(
        with(at, &claims).contains("claims 18446744073709551615 values, more than the file has room for")
    );
}

#[test]
fn keys_and_tensors_that_make_no_sense_are_refused() {
    assert!(error(|f| f.metadata.push(f.metadata[1].clone())).contains("the key a.count is there twice"));
    assert!(error(|f| f.tensors.push(f.tensors[1].clone())).contains("blk.0.attn_q.bias is there twice"));
    assert!(error(|f| f.set("general.alignment", GgufValue::U32(24))).contains("must be a power of two"));
    let message = error(|f| {
        f.tensors.swap(0, 1);
        f.set("general.alignment", GgufValue::U32(64));
    });
    assert!(message.contains("blk.0.attn_q.weight begins at 32, which is no multiple of 64"), "{message}");
    assert!(error(|f| f.tensors[0].shape = vec![]).contains("has 0 dimensions"));
    assert!(error(|f| f.tensors[0].shape = vec![1; 5]).contains("has 5 dimensions"));
    assert!(error(|f| f.tensors[0].shape = vec![8, 0]).contains("has a dimension of no size"));
    assert!(error(|f| f.tensors[0].shape = vec![1 << 40, 1 << 40]).contains("or too many"));
    assert!(error(|f| f.tensors[0].shape = vec![9, 4]).contains("reaches into the tensor behind it"));
    assert!(error(|f| f.tensors[1].shape = vec![9]).contains("truncated"));
    let quantised = GgufData { dtype: 12, bytes: vec![0; 144] };
    let message = error(|f| f.tensors[0].data = quantised);
    assert!(
        message.contains("blk.0.attn_q.weight is Q4_K of shape [8, 4]: rows that are no whole blocks of 256")
    );
}

#[test]
fn an_encoding_that_is_not_known_is_refused_when_the_tensor_is_needed() {
    let mut file = small();
    file.tensors[0].data.dtype = 23;
    let gguf = open(&file.to_bytes()).unwrap();
    let plan = plan(
        &[("model.layers.0.self_attn.q_proj.weight", 8, 4)],
        &[("model.layers.0.self_attn.q_proj.bias", 8)],
    );
    let problems =
        Checkpoint::gguf(&gguf, GgufLayout::default()).unwrap().problems(&plan, Precision::default());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("is stored as IQ4_XS; F32, F16, BF16, Q8_0"), "{}", problems[0]);
}

/// What llama.cpp's converter does to q and k is undone, for matrices, for biases, and across reads.
#[test]
fn rows_of_heads_are_put_back() {
    let (head, rows, cols) = (6, 6 * 500, 1024);
    let mut file = small();
    let value = |row: usize| row as f32;
    let interleaved = |row: usize| row / head * head + row % 2 * (head / 2) + row % head / 2;
    let matrix: Vec<f32> = (0..rows).flat_map(|row| vec![value(interleaved(row)); cols]).collect();
    let bias: Vec<f32> = (0..rows).map(|row| value(interleaved(row))).collect();
    file.tensors = vec![
        GgufTensor {
            name: "blk.0.attn_k.weight".to_owned(),
            shape: vec![rows, cols],
            data: gguf_floats(Dtype::F32, &[rows, cols], &matrix),
        },
        GgufTensor {
            name: "blk.0.attn_k.bias".to_owned(),
            shape: vec![rows],
            data: gguf_floats(Dtype::F32, &[rows], &bias),
        },
        GgufTensor {
            name: "blk.0.attn_v.weight".to_owned(),
            shape: vec![rows, cols],
            data: gguf_floats(Dtype::F32, &[rows, cols], &matrix),
        },
    ];
    let gguf = open(&file.to_bytes()).unwrap();
    let part = |name: &str| format!("model.layers.0.self_attn.{name}");
    let plan = plan(
        &[(&part("k_proj.weight"), rows, cols), (&part("v_proj.weight"), rows, cols)],
        &[(&part("k_proj.bias"), rows)],
    );
    let loaded = load(&gguf, Some(head), &plan).unwrap();
    let firsts = |name: &str| -> Vec<f32> {
        loaded.matrices[&part(name)]
            .cpu()
            .unwrap()
            .dequantize()
            .chunks(cols)
            .map(|row| row[cols - 1])
            .collect()
    };
    let ordered: Vec<f32> = (0..rows).map(value).collect();
    assert_eq!(firsts("k_proj.weight"), ordered);
    assert_eq!(firsts("v_proj.weight"), bias, "only q and k are turned");
    assert_eq!(loaded.vectors[&part("k_proj.bias")].to_cpu().unwrap().to_vec1::<f32>().unwrap(), ordered);
    assert!(load(&gguf, Some(7), &plan).unwrap_err().to_string().contains("no whole number of heads of 7"));
}

#[test]
fn a_tensor_that_the_model_does_not_use_is_refused() {
    let gguf = open(&small().to_bytes()).unwrap();
    let plan = plan(&[("model.layers.0.self_attn.q_proj.weight", 8, 4)], &[]);
    let message = load(&gguf, None, &plan).unwrap_err().to_string();
    assert!(
        message.contains(
            "has the tensor model.layers.0.self_attn.q_proj.bias, which this architecture does not use"
        ),
        "{message}"
    );
}

#[test]
fn rotary_factors_are_read_apart() {
    let mut file = small();
    file.tensors.push(tensor(ROPE_FREQS, &[3]));
    let gguf = open(&file.to_bytes()).unwrap();
    assert_eq!(gguf.rope_factors().unwrap(), Some(vec![0.0, 1.0, 2.0]));
    assert!(
        Checkpoint::gguf(&gguf, GgufLayout::default()).unwrap().tensors().all(|(name, _)| name != ROPE_FREQS)
    );
    assert_eq!(open(&small().to_bytes()).unwrap().rope_factors().unwrap(), None);
}

#[test]
fn a_model_may_come_in_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let parts = small().split(2);
    let path = |i: usize| folder.path().join(format!("model-{i:05}-of-00002.gguf"));
    parts[0].write(&path(1)).unwrap();
    let missing = Gguf::open(&path(1)).unwrap_err().to_string();
    assert!(missing.contains("model-00002-of-00002.gguf"), "{missing}");
    parts[1].write(&path(2)).unwrap();
    let gguf = Gguf::open(&path(1)).unwrap();
    assert!(gguf.shape("blk.0.attn_q.weight").is_some() && gguf.shape("blk.0.attn_q.bias").is_some());
    let plan = plan(
        &[("model.layers.0.self_attn.q_proj.weight", 8, 4)],
        &[("model.layers.0.self_attn.q_proj.bias", 8)],
    );
    let loaded = load(&gguf, None, &plan).unwrap();
    assert_eq!(
        loaded.matrices["model.layers.0.self_attn.q_proj.weight"].cpu().unwrap().dequantize(),
        counting(32)
    );
    assert_eq!(
        loaded.vectors["model.layers.0.self_attn.q_proj.bias"].to_cpu().unwrap().to_vec1::<f32>().unwrap(),
        counting(8)
    );

    let second = Gguf::open(&path(2)).unwrap_err().to_string();
    assert!(second.ends_with("it is file 2 of 2; give the first one"), "{second}");
    parts[0].write(&path(2)).unwrap();
    assert!(Gguf::open(&path(1)).unwrap_err().to_string().contains("it is not file 2 of 2"));
    let renamed = folder.path().join("model.gguf");
    parts[0].write(&renamed).unwrap();
    assert!(Gguf::open(&renamed).unwrap_err().to_string().contains("name the files as they were"));
    let mut fewer = parts[1].clone();
    fewer.tensors.clear();
    fewer.write(&path(2)).unwrap();
    assert!(
        Gguf::open(&path(1)).unwrap_err().to_string().contains("the model has 2 tensors, its files have 1")
    );
}

/// A layer of three experts of `[4, 2]`, stacked; the numbers of each tensor begin with 0.
fn with_experts() -> GgufFile {
    let tensors = vec![
        tensor("blk.2.ffn_gate_inp.weight", &[3, 2]),
        tensor("blk.2.ffn_gate_exps.weight", &[3, 4, 2]),
        tensor("blk.2.ffn_up_exps.weight", &[3, 4, 2]),
        tensor("blk.2.ffn_down_exps.weight", &[3, 2, 4]),
    ];
    GgufFile { tensors, ..small() }
}

fn checkpoint_of(file: &GgufFile) -> Result<Checkpoint, String> {
    let layout = GgufLayout { experts: Some(experts_of(3)), interleaved_head: None };
    Checkpoint::gguf(&open(&file.to_bytes()).unwrap(), layout).map_err(|error| error.to_string())
}

/// Each expert is found alone, and loading reads it and nothing else, whether it is stacked or apart.
#[test]
fn experts_are_read_one_by_one() {
    let stacked = with_experts();
    for file in [stacked.with_experts_apart(), stacked] {
        let checkpoint = checkpoint_of(&file).unwrap();
        let mut names: Vec<_> = checkpoint.tensors().map(|(name, _)| name.to_owned()).collect();
        names.sort_unstable();
        let all = (0..3).flat_map(|e| {
            ["d", "g", "u"].map(|part| format!("model.layers.2.moe.experts.{e}.{part}.weight"))
        });
        assert_eq!(names, all.chain(["model.layers.2.moe.gate.weight".to_owned()]).collect::<Vec<_>>());
        let weights = Weights::planning(Arc::new(Single)).pp("model.layers.2.moe");
        let (rows, cols) = (Span::of(4, 2, 2), Span::of(4, 1, 2));
        weights.stacked_matrix(&[("experts.2.g.weight", rows), ("experts.1.u.weight", rows)], 2).unwrap();
        weights.matrix("experts.1.d.weight", 2, cols).unwrap();
        let (loaded, stats) =
            checkpoint.stream(&weights.plan(), Precision::default(), &Place::Cpu, &|_, _| {}).unwrap();
        let numbers =
            |name: &str| loaded.matrices[&format!("model.layers.2.moe.{name}")].cpu().unwrap().dequantize();
        assert_eq!(numbers("experts.2.g.weight"), [20.0, 21.0, 22.0, 23.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!(numbers("experts.1.d.weight"), [9.0, 10.0, 13.0, 14.0]);
        assert_eq!(stats.bytes, 12 * 4, "no other numbers are read");
    }
}

#[test]
fn experts_that_are_missing_or_too_many_are_refused() {
    let with = |change: &dyn Fn(&mut GgufFile)| {
        let mut file = with_experts();
        change(&mut file);
        checkpoint_of(&file).unwrap_err()
    };
    let apart = |file: &mut GgufFile| *file = file.with_experts_apart();
    let says = |message: String, part: &str| assert!(message.contains(part), "{message}");
    says(
        with(&|f| drop(f.tensors.remove(2))),
        "of 3 experts it has 0 in blk.2.ffn_up_exps.weight (or blk.2.ffn_up.E.weight)",
    );
    says(
        with(&|f| {
            apart(f);
            f.tensors.remove(2);
        }),
        "of 3 experts it has 2 in blk.2.ffn_gate_exps.weight",
    );
    says(
        with(&|f| f.tensors[1] = tensor("blk.2.ffn_gate_exps.weight", &[4, 4, 2])),
        "blk.2.ffn_gate_exps.weight has 4 experts, its metadata says that there are 3",
    );
    says(
        with(&|f| f.tensors.push(tensor("blk.2.ffn_up.3.weight", &[4, 2]))),
        "blk.2.ffn_up.3.weight is of expert 3, counted from 0, its metadata says that there are 3",
    );
    says(
        with(&|f| f.tensors.push(tensor("blk.2.ffn_up.1.weight", &[4, 2]))),
        "the tensor blk.2.ffn_up.1.weight is there twice",
    );
    says(
        with(&|f| f.tensors[3].shape = vec![6, 4]),
        "blk.2.ffn_down_exps.weight has shape [6, 4], not [experts, out, in]",
    );
    says(with(&|f| f.tensors[3].data.dtype = 23), "/model.gguf is stored as IQ4_XS; F32, F16, BF16, Q8_0");
}

/// A matrix of many experts of a wrong shape is one mistake.
#[test]
fn few_of_the_experts_of_a_matrix_are_told() {
    let checkpoint = checkpoint_of(&with_experts()).unwrap();
    let weights = Weights::planning(Arc::new(Single)).pp("model.layers.2.moe");
    let parts: Vec<_> =
        (0..3).flat_map(|e| ["g", "u"].map(|part| format!("experts.{e}.{part}.weight"))).collect();
    let parts: Vec<_> = parts.iter().map(|name| (name.as_str(), 5)).collect();
    weights.stacked_matrix(&parts, 2).unwrap();
    let problems = checkpoint.problems(&weights.plan(), Precision::default());
    let shapes =
        problems.iter().filter(|p| p.to_string().contains("has shape [4, 2], its metadata implies [5, 2]"));
    assert_eq!(shapes.count(), 3, "{problems:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any damage gives an error or a load, never a panic or a read out of bounds.
    #[test]
    fn damaged_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        head in prop::option::of(0usize..9),
        experts in prop::option::of(0usize..5),
    ) {
        let mut file = small();
        file.tensors.extend(with_experts().tensors);
        let mut bytes = file.to_bytes();
        let len = bytes.len();
        for (at, value) in flips {
            bytes[at.index(len)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(len));
        }
        if let Ok(gguf) = open(&bytes) {
            let _ = gguf.rope_factors();
            for key in ["general.architecture", "a.count", "a.texts", "a.integers", "a.numbers"] {
                let metadata = gguf.metadata();
                let _ = (metadata.text(key), metadata.texts(key), metadata.count(key), metadata.number(key));
                let _ = (metadata.flag(key), metadata.integers(key), metadata.numbers(key));
            }
            if let Ok(checkpoint) = Checkpoint::gguf(&gguf, GgufLayout { experts: experts.map(experts_of), ..heads_of(head) }) {
                let shapes: Vec<_> = checkpoint.tensors().map(|(n, i)| (n.to_owned(), i.shape().to_vec(), i.stored())).collect();
                let weights = Weights::planning(Arc::new(Single));
                for (name, shape, stored) in &shapes {
                    match shape.as_slice() {
                        [len] => drop(weights.vector(name, *len).unwrap()),
                        [rows, cols] if stored.unwrap_or(Stored::F32).row_bytes(*cols).is_some() => drop(weights.matrix(name, *rows, *cols).unwrap()),
                        _ => {}
                    }
                }
                let _ = checkpoint.problems(&weights.plan(), Precision::default());
                let _ = checkpoint.load(&weights.plan(), Precision::default(), &|_, _| {});
                let _ = checkpoint.sample(4, 16, |_| {});
            }
        }
    }
}
