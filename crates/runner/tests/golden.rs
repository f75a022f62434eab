//! Logits and greedy tokens of every golden checkpoint against Hugging Face transformers, through the real loader,
//! with prompts cut into chunks and KV in shuffled blocks.

use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use vlinders_comm::Single;
use vlinders_kernels::gpu;
use vlinders_layers::{
    Activations, Batch, Checkpoint, Gguf, GpuBatch, GpuBatchLimits, KvDtype, KvStore, LogitRows, Place,
    Precision, Quantization, Weights,
};
use vlinders_models::{CausalLm, GgufModel, ModelSpec};
use vlinders_testkit::{
    Dtype, Encode, GgufData, GgufFile, Golden, GoldenPrompt, RandomModel, Shape, gguf_floats, golden_names,
};

const BLOCK: usize = 4;
const POSITIONS: usize = 128;
/// Blocks of a sequence, scattered over a cache twice as large.
const TABLE: usize = POSITIONS / BLOCK;

struct Reference {
    model: Box<dyn CausalLm>,
    kv: KvStore,
    table: Vec<u32>,
    batch: Batch,
}

impl Reference {
    fn load(golden: &Golden, precision: Precision, kv: KvDtype) -> Self {
        Self::load_to(golden, precision, kv, &Place::Cpu)
    }

    fn load_to(golden: &Golden, precision: Precision, kv: KvDtype, place: &Place) -> Self {
        let config = std::fs::read(golden.folder.join("config.json")).expect("a config");
        Self::new(&config, &Checkpoint::open(&golden.folder).expect("a checkpoint"), precision, kv, place)
    }

    /// What llama.cpp's converter would make of the same model, through a file.
    fn load_gguf(file: &GgufFile, dtype: Option<DType>) -> Self {
        Self::load_gguf_to(file, Precision { dtype, ..exact() }, &Place::Cpu)
    }

    fn load_gguf_to(file: &GgufFile, precision: Precision, place: &Place) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        file.write(&path).expect("a file");
        let gguf = Gguf::open(&path).expect("a GGUF file");
        let model = GgufModel::read(&gguf).expect("a supported architecture");
        let checkpoint = Checkpoint::gguf(&gguf, model.layout).expect("a checkpoint");
        Self::new(&model.config, &checkpoint, precision, KvDtype::F32, place)
    }

    fn new(config: &[u8], checkpoint: &Checkpoint, precision: Precision, kv: KvDtype, place: &Place) -> Self {
        let spec = ModelSpec::parse(config).expect("a supported architecture");
        let planning = Weights::planning(Arc::new(Single));
        spec.build(&planning).expect("an outline");
        let (tensors, _) =
            checkpoint.load_to(&planning.plan(), precision, place, &|_, _| {}).expect("weights");
        let model = spec.build(&Weights::loaded(tensors, POSITIONS, Arc::new(Single))).expect("a model");
        let kv = KvStore::new(model.kv_shape(), kv, 2 * TABLE, BLOCK, place).expect("a cache");
        // An odd factor visits every block of a power of two once.
        let table = (0..TABLE).map(|idx| (idx * 37 + 11) as u32 % (2 * TABLE) as u32).collect();
        let mut batch = Batch::default();
        if let Some(gpu) = place.gpu() {
            let shape = kv.attention_shape(model.num_heads(), model.kv_shape());
            let limits = GpuBatchLimits { num_tokens: POSITIONS, table_entries: TABLE };
            batch.set_gpu(GpuBatch::new(gpu, shape, limits).expect("room for a batch"));
        }
        Self { model, kv, table, batch }
    }

    /// Logits after each of `tokens`, the first of which stands at `start`.
    fn feed(&mut self, tokens: &[u32], start: usize) -> Vec<Vec<f32>> {
        let batch = &mut self.batch;
        batch.clear();
        batch.push(tokens, start as u32, &self.table, BLOCK, LogitRows::All);
        if batch.gpu().is_some() {
            batch.upload(tokens.len()).expect("a batch on the device");
        }
        let hidden = self.model.forward(batch, &mut self.kv).expect("hidden states");
        let logits = self.model.logits(&hidden).expect("logits").expect("one rank");
        logits.to_cpu().expect("numbers").to_vec2().expect("two dimensions")
    }
}

fn largest_error(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().flatten().zip(theirs.iter().flatten());
    // NaN must not win against a number.
    pairs.fold(0.0, |worst: f32, (a, b)| if (a - b).abs() <= worst { worst } else { (a - b).abs() })
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("a vocabulary");
    best.0 as u32
}

/// Weights as the files have them, activations unrounded.
fn exact() -> Precision {
    Precision { activations: Activations::F32, ..Precision::default() }
}

/// The same for a golden checkpoint: floats of eight bits and their scales are widened to what holds their products.
fn exact_for(name: &str) -> Precision {
    Precision { dtype: is_fp8(name).then_some(DType::F32), ..exact() }
}

fn is_fp8(name: &str) -> bool {
    name.contains("fp8")
}

/// The largest error over all prompts, each once whole and once in chunks; the chunked bits must be the whole ones.
fn check(name: &str) -> f32 {
    let golden = Golden::load(name).expect("a golden result");
    let mut model = Reference::load(&golden, exact_for(name), KvDtype::F32);
    check_model(name, &golden, &mut model)
}

fn check_model(name: &str, golden: &Golden, model: &mut Reference) -> f32 {
    check_prompts(name, golden, &golden.prompts, model)
}

fn check_prompts(name: &str, golden: &Golden, prompts: &[GoldenPrompt], model: &mut Reference) -> f32 {
    let mut worst = 0.0_f32;
    for (idx, prompt) in prompts.iter().enumerate() {
        let whole = model.feed(&prompt.input_ids, 0);
        let error = largest_error(&whole, &prompt.logits);
        assert!(error <= golden.tolerance, "{name}, prompt {idx}: an error of {error}");
        worst = worst.max(error);

        let mut chunked = Vec::new();
        for (chunk, size) in [3, 1, 7, 2, 5].into_iter().cycle().enumerate() {
            let start = chunked.len();
            if start == prompt.input_ids.len() {
                break;
            }
            let end = (start + size + chunk % 2).min(prompt.input_ids.len());
            chunked.extend(model.feed(&prompt.input_ids[start..end], start));
        }
        assert_eq!(chunked, whole, "{name}, prompt {idx}: chunks change the result");

        let mut tokens = Vec::new();
        let mut next = argmax(whole.last().expect("a prompt has a token"));
        for position in prompt.input_ids.len()..prompt.input_ids.len() + prompt.greedy.len() {
            tokens.push(next);
            next = argmax(&model.feed(&[next], position)[0]);
        }
        assert_eq!(tokens, prompt.greedy, "{name}, prompt {idx}: greedy tokens differ");
    }
    println!("{name:24} {} max |error of a logit| {worst:.2e}", golden.architecture);
    worst
}

/// How far logits are from others, as a share of how far these are from zero; root mean squares.
fn share_off(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let (off, all) = pairs.fold((0.0, 0.0), |(off, all), (a, b)| (off + (a - b).powi(2), all + b.powi(2)));
    (off / all).sqrt()
}

/// The same for a golden checkpoint that is rounded while it is loaded, or whose keys and values are.
fn share_of_error(name: &str, precision: Precision, kv: KvDtype) -> f32 {
    share_of_error_on(name, precision, kv, &Place::Cpu)
}

fn share_of_error_on(name: &str, precision: Precision, kv: KvDtype, place: &Place) -> f32 {
    let golden = Golden::load(name).expect("a golden result");
    let mut model = Reference::load_to(&golden, precision, kv, place);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for prompt in &golden.prompts {
        found.extend(model.feed(&prompt.input_ids, 0));
        expected.extend(prompt.logits.clone());
    }
    let share = share_off(&found, &expected);
    let kept =
        precision.quantization.map_or("as it is kept".to_owned(), |quantization| format!("{quantization:?}"));
    println!("{name:24} {kept}, {kv} cache: error of logits {share:.4}");
    share
}

/// The device of tests, with activations of this type.
fn on_gpu(dtype: DType) -> Place {
    Place::Gpu { gpu: gpu::test_device(0).expect("a device"), dtype }
}

/// In f32 kernels of GPUs give the logits and tokens of the reference, and the same bits for whole and chunked prompts.
#[test]
fn kernels_of_gpus_agree_with_the_reference() {
    for name in golden_names().expect("a folder") {
        let golden = Golden::load(&name).expect("a golden result");
        let precision =
            Precision { dtype: Some(DType::F32), on_gpu: Some(DType::F32), ..Precision::default() };
        let mut model = Reference::load_to(&golden, precision, KvDtype::F32, &on_gpu(DType::F32));
        check_prompts(&name, &golden, &golden.prompts[3..4], &mut model);
    }
}

/// Weights of eight bits alone, and with activations of eight bits: both are e4m3, so that errors of the same size come twice, which
/// is 1.4 times one of them.
#[test]
fn kernels_of_gpus_in_eight_bits_stay_close_to_the_reference() {
    for name in ["llama-bf16-tiny", "qwen2-tiny", "qwen3-tiny"] {
        let golden = Golden::load(name).expect("a golden result");
        let share = |activations| {
            let precision = Precision {
                dtype: None,
                quantization: Some(Quantization::Fp8),
                activations,
                on_gpu: Some(DType::BF16),
            };
            let mut model = Reference::load_to(&golden, precision, KvDtype::BF16, &on_gpu(DType::BF16));
            let prompt = &golden.prompts[3];
            let share = share_off(&model.feed(&prompt.input_ids, 0), &prompt.logits);
            println!("{name:24} {activations:?}: error of logits {share:.4}");
            share
        };
        let (weights, both) = (share(Activations::Auto), share(Activations::Fp8));
        assert!(weights < 0.11, "{name}: {weights}");
        assert!(both != weights && both < 1.6 * weights, "{name}: {both} and {weights}");
    }
}

#[test]
fn quantised_models_stay_close() {
    for name in golden_names().expect("a folder") {
        let quantised = |quantization| Precision { quantization: Some(quantization), ..Precision::default() };
        let share = |quantization| share_of_error(&name, quantised(quantization), KvDtype::F32);
        let (q8, q4) = if has_experts(&name) { (0.2, 0.7) } else { (0.04, 0.4) };
        assert!(share(Quantization::Q8) < q8, "{name}");
        assert!(share(Quantization::Q4) < q4, "{name}");
    }
}

/// Checkpoints in floats of eight bits, as they are kept by default: on a GPU codes and scales of rows as they are, so that what
/// is left are the sums of f32; elsewhere eight bits with a scale for each 32.
#[test]
fn floats_of_eight_bits_stay_close() {
    for name in golden_names().expect("a folder").iter().filter(|name| is_fp8(name)) {
        let on_gpu_in_f32 = Precision { on_gpu: Some(DType::F32), ..Precision::default() };
        let gpu = share_of_error_on(name, on_gpu_in_f32, KvDtype::F32, &on_gpu(DType::F32));
        let cpu = share_of_error(name, Precision::default(), KvDtype::F32);
        let most = if has_experts(name) { 0.2 } else { 0.04 };
        assert!(cpu > 1e-3 && cpu < most, "{name}: {cpu}");
        // Scales of blocks are no scales of rows.
        let most = if name.contains("block") { 0.04 } else { 1e-4 };
        assert!(gpu < most, "{name}: {gpu}");
    }
}

/// Keys and values in eight bits, everything else as it is: logits are off by less than by weights in eight bits.
#[test]
fn a_cache_of_eight_bits_stays_close() {
    for name in golden_names().expect("a folder") {
        let share = share_of_error(&name, exact_for(&name), KvDtype::Int8);
        let most = if has_experts(&name) { 0.08 } else { 0.02 };
        assert!(share > 0.0 && share < most, "{name}: {share}");
    }
}

/// Where activations are rounded to bf16, as is usual for such models, logits are off by some of its steps of 2^-8.
#[test]
fn rounded_activations_stay_close() {
    assert!(share_of_error("llama-bf16-tiny", Precision::default(), KvDtype::F32) < 0.01);
}

/// What GGUF has no keys for: rotary kinds, and windows in some layers only; or no encoding.
const NOT_IN_GGUF: [&str; 3] = ["llama-dynamic-tiny", "llama-yarn-mscale-tiny", "qwen2-window-tiny"];

/// Rounding sends some tokens to other experts, and is not small for them.
fn has_experts(name: &str) -> bool {
    name.contains("moe") || name.contains("mixtral")
}

#[test]
fn gguf_files_give_the_same_logits() {
    let is_left_out = |name: &String| NOT_IN_GGUF.contains(&name.as_str()) || is_fp8(name);
    for name in golden_names().expect("a folder").iter().filter(|name| !is_left_out(name)) {
        let golden = Golden::load(name).expect("a golden result");
        let dtype = match name.as_str() {
            "llama-bf16-tiny" => Dtype::Bf16,
            "llama-f16-tiny" => Dtype::F16,
            _ => Dtype::F32,
        };
        let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(dtype, shape, numbers);
        let file = GgufFile::from_folder(&golden.folder, &encode).expect("a GGUF file");
        assert!(check_model(name, &golden, &mut Reference::load_gguf(&file, None)) <= 1e-4);
    }
}

/// What files of experts say in F32 is the same to the last bit, whether experts are stacked or each in a tensor of its own; in F16
/// and Q8_0 it is close.
#[test]
fn gguf_files_of_experts_give_the_same_logits() {
    for name in ["mixtral-tiny", "qwen3-moe-tiny"] {
        let golden = Golden::load(name).expect("a golden result");
        let tokens = &golden.prompts[4].input_ids;
        let file = |encode: Encode<'_>| filed(&golden.folder, encode);
        let floats =
            |dtype| move |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(dtype, shape, numbers);
        let expected = Reference::load(&golden, exact(), KvDtype::F32).feed(tokens, 0);
        let stacked = file(&floats(Dtype::F32));
        assert!(Reference::load_gguf(&stacked, None).feed(tokens, 0) == expected, "{name}");
        let apart = stacked.with_experts_apart();
        assert!(apart.tensors.iter().any(|tensor| tensor.name == "blk.0.ffn_down.3.weight"));
        assert!(Reference::load_gguf(&apart, None).feed(tokens, 0) == expected, "{name} with experts apart");

        let share = |what: &str, file: &GgufFile| {
            let share = share_off(&Reference::load_gguf(file, None).feed(tokens, 0), &expected);
            println!("{name:24} in {what}: error of logits {share:.4}");
            share
        };
        let halves = share("F16", &file(&floats(Dtype::F16)));
        assert!(halves > 0.0 && halves < 0.01, "{name}: {halves}");
        let eighths = share("Q8_0", &file(&in_blocks(8, GgmlDType::Q8_0)));
        assert!(eighths > halves && eighths < 0.2, "{name}: {eighths}");
    }
}

/// Experts of files on a GPU: in f32 the logits of the reference, and of blocks with common scales what eight bits leave of them.
#[test]
fn gguf_files_of_experts_on_a_gpu() {
    for name in ["mixtral-tiny", "qwen3-moe-tiny"] {
        let golden = Golden::load(name).expect("a golden result");
        let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(Dtype::F32, shape, numbers);
        let file = GgufFile::from_folder(&golden.folder, &encode).expect("a GGUF file");
        let precision = Precision { on_gpu: Some(DType::F32), ..exact() };
        let mut model = Reference::load_gguf_to(&file, precision, &on_gpu(DType::F32));
        check_prompts(name, &golden, &golden.prompts[2..3], &mut model);
    }
    let (folder, tokens) = with_whole_blocks(Shape::mixtral_tiny());
    let file = |encode: Encode<'_>| filed(folder.path(), encode);
    let expected = Reference::load_gguf(&file(&decoded(GgmlDType::Q4K)), None).feed(&tokens[..9], 0);
    let blocks = file(&in_blocks(12, GgmlDType::Q4K));
    let precision = Precision { on_gpu: Some(DType::F32), ..exact() };
    let found = Reference::load_gguf_to(&blocks, precision, &on_gpu(DType::F32)).feed(&tokens[..9], 0);
    let share = share_off(&found, &expected);
    println!("Q4_K on a GPU: error of logits {share:.4}");
    assert!(share > 0.0 && share < 0.02, "{share}");
}

/// Matrices whose rows are whole blocks as another implementation encodes them, and the rest as it is; `number` is that of the
/// encoding in files.
fn in_blocks(number: u32, encoding: GgmlDType) -> impl Fn(&str, &[usize], &[f32]) -> GgufData {
    move |_, shape, numbers| {
        if !is_whole_blocks(encoding, shape) {
            return gguf_floats(Dtype::F32, shape, numbers);
        }
        let bytes = quantised(encoding, shape, numbers).data().expect("bytes").into_owned();
        GgufData { dtype: number, bytes }
    }
}

/// The numbers that such blocks stand for.
fn decoded(encoding: GgmlDType) -> impl Fn(&str, &[usize], &[f32]) -> GgufData {
    move |_, shape, numbers| {
        if !is_whole_blocks(encoding, shape) {
            return gguf_floats(Dtype::F32, shape, numbers);
        }
        let decoded = quantised(encoding, shape, numbers).dequantize(&Device::Cpu).expect("numbers");
        let decoded: Vec<f32> = decoded.flatten_all().and_then(|t| t.to_vec1()).expect("numbers");
        gguf_floats(Dtype::F32, shape, &decoded)
    }
}

fn is_whole_blocks(encoding: GgmlDType, shape: &[usize]) -> bool {
    shape.len() > 1 && shape.last().is_some_and(|cols| cols.is_multiple_of(encoding.block_size()))
}

fn filed(folder: &Path, encode: Encode<'_>) -> GgufFile {
    GgufFile::from_folder(folder, encode).expect("a GGUF file")
}

fn quantised(encoding: GgmlDType, shape: &[usize], numbers: &[f32]) -> QTensor {
    let tensor = Tensor::from_slice(numbers, shape, &Device::Cpu).expect("a tensor");
    QTensor::quantize(&tensor, encoding).expect("blocks")
}

/// A folder with a model of random weights whose rows are whole blocks of every encoding, and a prompt.
fn with_whole_blocks(shape: Shape) -> (tempfile::TempDir, Vec<u32>) {
    let folder = tempfile::tempdir().expect("a folder");
    let shape = Shape { hidden_size: 256, intermediate_size: 512, heads: 8, head_dim: 32, ..shape };
    let vocab = shape.vocab_size as u32;
    let model = RandomModel { shape, dtype: Dtype::F32, seed: 5, shards: 1 };
    model.write_weights(folder.path()).expect("a checkpoint");
    (folder, (0..40).map(|i| i * 37 % vocab).collect())
}

/// Blocks as another implementation encodes them, in files: read to f32 they are the numbers that it decodes, and as they
/// are kept in memory they are close; with experts less so, since some tokens go to others.
#[test]
fn gguf_files_of_every_encoding_give_the_logits_of_their_numbers() {
    let encodings = [
        (2, GgmlDType::Q4_0),
        (3, GgmlDType::Q4_1),
        (6, GgmlDType::Q5_0),
        (7, GgmlDType::Q5_1),
        (8, GgmlDType::Q8_0),
        (12, GgmlDType::Q4K),
        (13, GgmlDType::Q5K),
        (14, GgmlDType::Q6K),
    ];
    for (shape, most) in [(Shape::llama_tiny(), 0.03), (Shape::mixtral_tiny(), 0.06)] {
        let architecture = shape.architecture;
        let (folder, tokens) = with_whole_blocks(shape);
        for (number, encoding) in encodings {
            let file = |encode: Encode<'_>| filed(folder.path(), encode);
            let blocks = file(&in_blocks(number, encoding));
            let expected = Reference::load_gguf(&file(&decoded(encoding)), None).feed(&tokens, 0);
            let read = Reference::load_gguf(&blocks, Some(DType::F32)).feed(&tokens, 0);
            assert!(largest_error(&read, &expected) < 1e-4, "{architecture} in {encoding:?}");
            let kept = Reference::load_gguf(&blocks, None).feed(&tokens, 0);
            let share = share_off(&kept, &expected);
            println!("{architecture} in {encoding:?}: error of logits {share:.4}");
            assert!(share > 0.0 && share < most, "{architecture} in {encoding:?}: {share}");
        }
    }
}

/// One test for each checkpoint, and one that none was forgotten.
macro_rules! golden {
    ($($test:ident => $name:literal),+ $(,)?) => {
        $(#[test]
        fn $test() {
            assert!(check($name) <= 1e-4);
        })+

        #[test]
        fn every_golden_checkpoint_is_tested() {
            let mut tested = vec![$($name),+];
            tested.sort_unstable();
            assert_eq!(golden_names().expect("a folder"), tested);
        }
    };
}

golden! {
    llama => "llama-tiny",
    llama_tied_with_biases => "llama-tied-bias-tiny",
    llama_rope_llama3 => "llama3-rope-tiny",
    llama_rope_parameters => "llama3-rope-params-tiny",
    llama_rope_linear => "llama-linear-tiny",
    llama_rope_dynamic => "llama-dynamic-tiny",
    llama_rope_yarn => "llama-yarn-tiny",
    llama_rope_yarn_mscale => "llama-yarn-mscale-tiny",
    llama_in_shards => "llama-sharded-tiny",
    llama_bfloat16 => "llama-bf16-tiny",
    llama_float16 => "llama-f16-tiny",
    mistral => "mistral-tiny",
    qwen2 => "qwen2-tiny",
    qwen2_with_window => "qwen2-window-tiny",
    qwen3 => "qwen3-tiny",
    qwen3_with_experts => "qwen3-moe-tiny",
    mixtral => "mixtral-tiny",
    llama_fp8_with_scales_of_rows => "llama-fp8-channel-tiny",
    qwen3_fp8_with_scales_of_blocks => "qwen3-fp8-block-tiny",
    mixtral_fp8_with_scales_of_matrices => "mixtral-fp8-tensor-tiny",
}
