//! Numbers are codes times scales wherever a run of rows or a rank's columns begin; scales and codes that make no sense are named.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::DType;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use vlinders_comm::{Outline, Single};
use vlinders_kernels::Format;

use super::super::{SINGLE, header};
use super::*;
use crate::{LoadPlan, LoadStats, LoadedTensors, Precision, Quantization, Span, Weights};

const NAME: &str = "down_proj.weight";

/// A tensor of a file.
#[derive(Debug, Clone)]
struct Data {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// One matrix in eight bits and its scales.
#[derive(Debug, Clone)]
struct Source {
    out: usize,
    inn: usize,
    codes: Vec<u8>,
    scales: Data,
    config: Value,
}

fn f32s(name: &str, shape: &[usize], values: &[f32]) -> Data {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Data { name: name.to_owned(), dtype: "F32", shape: shape.to_vec(), bytes }
}

fn write(folder: &Path, tensors: &[Data], config: &Value) {
    let (mut entries, mut end) = (Map::new(), 0);
    for tensor in tensors {
        let begin = end;
        end += tensor.bytes.len();
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end]});
        entries.insert(tensor.name.clone(), entry);
    }
    let mut bytes = header::to_bytes(entries, 8);
    bytes.extend(tensors.iter().flat_map(|tensor| &tensor.bytes));
    fs::write(folder.join(SINGLE), bytes).unwrap();
    fs::write(folder.join("config.json"), json!({"quantization_config": config}).to_string()).unwrap();
}

/// Scale `i` of some.
fn scale(i: usize) -> f32 {
    0.01 + (i * 7 % 11) as f32 * 0.003
}

// === impl Source ===

impl Source {
    /// With one scale for each `rows` by `cols`.
    fn blocks(out: usize, inn: usize, [rows, cols]: [usize; 2]) -> Self {
        let (down, across) = (out.div_ceil(rows), inn.div_ceil(cols));
        let values: Vec<f32> = (0..down * across).map(scale).collect();
        let scales = f32s(&format!("{NAME}_scale_inv"), &[down, across], &values);
        Self::new(out, inn, scales, json!({"quant_method": "fp8", "weight_block_size": [rows, cols]}))
    }

    /// With one scale for each row, in bf16.
    fn rows(out: usize, inn: usize) -> Self {
        let bytes = (0..out).flat_map(|i| half::bf16::from_f32(scale(i)).to_le_bytes()).collect();
        let scales = Data { name: format!("{NAME}_scale"), dtype: "BF16", shape: vec![out, 1], bytes };
        let weights = json!({"num_bits": 8, "type": "float", "strategy": "channel"});
        let config = json!({
            "quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}},
        });
        Self::new(out, inn, scales, config)
    }

    /// With one for all.
    fn one(out: usize, inn: usize, shape: &[usize]) -> Self {
        let scales = f32s(&format!("{NAME}_scale"), shape, &[scale(3)]);
        Self::new(out, inn, scales, json!({"quant_method": "fp8"}))
    }

    fn new(out: usize, inn: usize, scales: Data, config: Value) -> Self {
        let code = |i: usize| (i * 89 % 251) as u8;
        let codes = (0..out * inn).map(code).map(|code| if code & 0x7f == 0x7f { 5 } else { code }).collect();
        Self { out, inn, codes, scales, config }
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let codes = Data {
            name: NAME.to_owned(),
            dtype: "F8_E4M3",
            shape: vec![self.out, self.inn],
            bytes: self.codes.clone(),
        };
        write(folder.path(), &[codes, self.scales.clone()], &self.config);
        folder
    }

    /// The numbers as anybody would compute them.
    fn numbers(&self) -> Vec<Vec<f32>> {
        let mut scales = vec![0.0; self.scales.shape.iter().product()];
        let stored = if self.scales.dtype == "BF16" { Stored::BF16 } else { Stored::F32 };
        stored.decode(&self.scales.bytes, &mut scales);
        let block =
            self.config.get("weight_block_size").map(|b| [0, 1].map(|i| b[i].as_u64().unwrap() as usize));
        let of = |row: usize, col: usize| match block {
            Some([rows, cols]) => scales[row / rows * self.inn.div_ceil(cols) + col / cols],
            None => scales[if scales.len() == 1 { 0 } else { row }],
        };
        let mut numbers = vec![0.0; self.codes.len()];
        Stored::F8_E4M3.decode(&self.codes, &mut numbers);
        let rows = numbers.chunks(self.inn).enumerate();
        rows.map(|(row, all)| all.iter().enumerate().map(|(col, x)| x * of(row, col)).collect()).collect()
    }

    fn error(&self) -> String {
        let folder = self.folder();
        let loaded = load(folder.path(), &plan(self.out.into(), self.inn.into()), exact());
        let text = loaded.map(|_| ()).unwrap_err().to_string();
        text.replace(&format!("{}/", folder.path().display()), "")
    }
}

fn exact() -> Precision {
    Precision { dtype: Some(DType::F32), ..Precision::default() }
}

fn plan(rows: Span, cols: Span) -> LoadPlan {
    let weights = Weights::planning(Arc::new(Single));
    weights.matrix(NAME, rows, cols).unwrap();
    weights.plan()
}

fn load(
    folder: &Path,
    plan: &LoadPlan,
    precision: Precision,
) -> Result<(LoadedTensors, LoadStats), LayerError> {
    Checkpoint::open(folder)?.load(plan, precision, &|_, _| {})
}

fn rows_of(loaded: &LoadedTensors) -> Vec<Vec<f32>> {
    let matrix = loaded.matrices[NAME].cpu().unwrap();
    matrix.dequantize().chunks(matrix.in_features()).map(<[f32]>::to_vec).collect()
}

#[test]
fn numbers_are_codes_times_scales() {
    for source in [
        Source::one(5, 7, &[]),
        Source::one(5, 7, &[1]),
        Source::one(5, 7, &[1, 1]),
        Source::rows(33, 20),
        Source::blocks(300, 290, [128, 128]),
        Source::blocks(128, 256, [128, 128]),
        Source::blocks(50, 70, [16, 48]),
    ] {
        let folder = source.folder();
        let (loaded, _) = load(folder.path(), &plan(source.out.into(), source.inn.into()), exact()).unwrap();
        assert!(rows_of(&loaded) == source.numbers(), "{:?} {}", source.scales.shape, source.config);
    }
}

/// Runs of rows end where the buffer of a read is full, which here is inside of a block.
#[test]
fn rows_of_later_runs_have_their_own_scales() {
    let source = Source::blocks(300, 20_000, [128, 128]);
    let folder = source.folder();
    let (loaded, _) = load(folder.path(), &plan(source.out.into(), source.inn.into()), exact()).unwrap();
    assert!(2 * source.codes.len() > super::super::load::RUN_BYTES, "more than one run");
    assert!(rows_of(&loaded) == source.numbers());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What ranks load of rows or of columns, put together, is the whole, though cuts are inside of blocks.
    #[test]
    fn ranks_have_the_scales_of_their_part(
        out in 1usize..200, inn in 1usize..200, block in (1usize..70, 1usize..70), ranks in 1usize..5, kind in 0..3,
    ) {
        let source = match kind {
            0 => Source::blocks(out, inn, [block.0, block.1]),
            1 => Source::rows(out, inn),
            _ => Source::one(out, inn, &[1]),
        };
        let (folder, expected) = (source.folder(), source.numbers());
        for rank in 0..ranks {
            let share = |size| Span::share(size, &Outline::new(rank, ranks).unwrap());
            let (rows, cols) = (share(out), share(inn));
            if rows.len() > 0 {
                let (loaded, _) = load(folder.path(), &plan(rows, inn.into()), exact()).unwrap();
                prop_assert_eq!(rows_of(&loaded), expected[rows.range()].to_vec());
            }
            if cols.len() > 0 {
                let (loaded, _) = load(folder.path(), &plan(out.into(), cols), exact()).unwrap();
                let part: Vec<_> = expected.iter().map(|row| row[cols.range()].to_vec()).collect();
                prop_assert_eq!(rows_of(&loaded), part);
            }
        }
    }
}

#[test]
fn what_chooses_experts_is_not_rounded() {
    let source = Source::blocks(40, 64, [128, 128]);
    let folder = source.folder();
    let weights = Weights::planning(Arc::new(Single));
    weights.router(NAME, 40, 64).unwrap();
    let (loaded, _) = load(folder.path(), &weights.plan(), Precision::default()).unwrap();
    assert!(rows_of(&loaded) == source.numbers());
    let (checkpoint, out) = (Checkpoint::open(folder.path()).unwrap(), tempfile::tempdir().unwrap());
    checkpoint.quantize(&weights.plan(), Quantization::Q4, out.path(), u64::MAX, &|_, _| {}).unwrap();
    let (loaded, _) = load(out.path(), &weights.plan(), Precision::default()).unwrap();
    assert!(rows_of(&loaded) == source.numbers(), "in a folder that was quantised");
}

/// By default eight bits stay eight, on the CPU too, and a folder that was quantised or packed says no more of fp8.
#[test]
fn what_is_kept_is_what_quantising_writes() {
    for source in [Source::rows(48, 64), Source::blocks(48, 64, [32, 32])] {
        let folder = source.folder();
        let plan = plan(48.into(), 64.into());
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let (kept, _) = load(folder.path(), &plan, Precision::default()).unwrap();
        assert_eq!(kept.format(), Format::Q8);
        assert_eq!(checkpoint.in_memory(&plan, Precision::default()), (Format::Q8, kept.num_bytes()));
        let out = tempfile::tempdir().unwrap();
        checkpoint.quantize(&plan, Quantization::Q8, out.path(), u64::MAX, &|_, _| {}).unwrap();
        assert_eq!(rows_of(&load(out.path(), &plan, Precision::default()).unwrap().0), rows_of(&kept));
        let out = tempfile::tempdir().unwrap();
        checkpoint.pack(&plan, Precision::default(), out.path(), &|_, _| {}).unwrap();
        assert_eq!(rows_of(&load(out.path(), &plan, Precision::default()).unwrap().0), rows_of(&kept));
        for (kept, row) in rows_of(&kept).iter().zip(source.numbers()) {
            for (kept, numbers) in kept.chunks(32).zip(row.chunks(32)) {
                let most = numbers.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                for (kept, number) in kept.iter().zip(numbers) {
                    // Half a step, and what f16 leaves of the scale.
                    assert!((kept - number).abs() <= most * (0.5 / 127.0 + 1e-3), "{kept} of {number}");
                }
            }
        }
    }
}

/// Scales of rows are what kernels of GPUs read; a matrix stacked of parts with both kinds has room for both.
#[test]
fn on_a_gpu_scales_of_rows_are_kept() {
    let on_gpu = Precision { on_gpu: Some(DType::BF16), ..Precision::default() };
    for (source, format) in [
        (Source::one(48, 64, &[1]), Format::Fp8),
        (Source::rows(48, 64), Format::Fp8),
        (Source::blocks(48, 64, [32, 32]), Format::Q8),
    ] {
        let folder = source.folder();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let (found, bytes) = checkpoint.in_memory(&plan(48.into(), 64.into()), on_gpu);
        assert_eq!(found, format, "{}", source.config);
        // Codes, and the scale of each row or of each 32 numbers, of which eight are read together.
        assert_eq!(bytes, 48 * (64 + if format == Format::Fp8 { 4 } else { 16 }));
    }
}

#[test]
fn codes_that_are_no_number_are_refused_wherever_they_are_read() {
    for code in [0x7f, 0xff] {
        for mut source in [Source::rows(40, 32), Source::blocks(40, 32, [16, 16])] {
            source.codes[39 * 32 + 31] = code;
            let expected = "down_proj.weight in model.safetensors holds a NaN (code 0x7f or 0xff): the file is damaged; \
                            download it again";
            assert_eq!(source.error(), expected);
            let (folder, out) = (source.folder(), tempfile::tempdir().unwrap());
            let checkpoint = Checkpoint::open(folder.path()).unwrap();
            let plan = plan(40.into(), 32.into());
            let quantised = checkpoint.quantize(&plan, Quantization::Q8, out.path(), u64::MAX, &|_, _| {});
            assert!(matches!(quantised, Err(LayerError::NotANumber { .. })));
        }
    }
}

#[test]
fn scales_that_can_not_be_are_named() {
    let mut infinite = Source::blocks(40, 32, [16, 16]);
    infinite.scales.bytes[5 * 4..6 * 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert_eq!(
        infinite.error(),
        "the scales down_proj.weight_scale_inv in model.safetensors are no finite numbers: number 5 is inf"
    );
    let mut nan = Source::rows(40, 32);
    nan.scales.bytes[39 * 2..].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    assert_eq!(
        nan.error(),
        "the scales down_proj.weight_scale in model.safetensors are no finite numbers: number 39 is NaN"
    );

    let mut missing = Source::rows(40, 32);
    missing.scales.name = "up_proj.weight_scale".to_owned();
    assert_eq!(
        missing.error(),
        "down_proj.weight in model.safetensors is stored as F8_E4M3 and lacks its scales: down_proj.weight_scale_inv or \
         down_proj.weight_scale"
    );

    let mut turned = Source::blocks(40, 32, [16, 16]);
    turned.scales.shape.reverse();
    assert_eq!(
        turned.error(),
        "the scales down_proj.weight_scale_inv in model.safetensors have shape [2, 3]; a matrix of [40, 32] needs [3, 2], \
         one for each 16 x 16"
    );
    let mut one = Source::blocks(40, 32, [16, 16]);
    one.scales = f32s("down_proj.weight_scale_inv", &[1], &[1.0]);
    assert!(one.error().contains("have shape [1]; a matrix of [40, 32] needs [3, 2]"), "{}", one.error());
    let mut few = Source::rows(40, 32);
    few.scales = f32s("down_proj.weight_scale", &[39, 1], &[1.0; 39]);
    assert!(
        few.error().ends_with("have shape [39, 1]; a matrix of [40, 32] needs [1], or [40, 1]"),
        "{}",
        few.error()
    );

    let mut bytes = Source::one(40, 32, &[1]);
    bytes.scales = Data { dtype: "F8_E8M0", bytes: vec![127], ..bytes.scales };
    assert_eq!(
        bytes.error(),
        "the scales down_proj.weight_scale in model.safetensors are stored as F8_E8M0; F32, F16 and BF16 are supported"
    );
}

#[test]
fn eight_bits_without_a_word_in_the_config_are_refused() {
    let mut source = Source::rows(40, 32);
    source.config = Value::Null;
    let error = source.error();
    let expected = "down_proj.weight in model.safetensors is stored as F8_E4M3; F32, F16 and BF16, and matrices in F8_E4M3 \
                    where the quantization_config of config.json says fp8 or compressed-tensors, are supported";
    assert_eq!(error, expected);
    source.config = json!({"quant_method": "gptq"});
    assert!(source.error().contains("\"gptq\" is not supported"), "{}", source.error());
}

/// All of it is found from headers alone.
#[test]
fn a_look_at_the_headers_finds_scales_that_are_missing_or_misshapen() {
    let mut source = Source::rows(40, 32);
    let problems = |source: &Source| {
        let checkpoint = Checkpoint::open(source.folder().path()).unwrap();
        let problems = checkpoint.problems(&plan(40.into(), 32.into()), Precision::default());
        (problems.len(), checkpoint.scales_of(NAME))
    };
    assert_eq!(problems(&source), (0, Some("down_proj.weight_scale".to_owned())));
    source.scales.shape = vec![1, 40];
    assert_eq!(problems(&source), (1, None));
    source.scales.name = "other".to_owned();
    assert_eq!(problems(&source), (1, None));
}
