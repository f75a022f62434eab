//! A model on a GPU, through the engine: the same answers as on the CPU, with graphs and without. Kernels run emulated,
//! unless the environment names a device for tests.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use vlinders_engine::{
    EngineConfig, EngineHandle, GenerateRequest, Limits, PromptLogprobs, SamplingParams, StopConditions,
    TokenEvent, TokenLogprobs, TokenStream, start,
};
use vlinders_runner::{
    Activations, DType, DeviceChoice, GroupOptions, KvDtype, LoadOptions, LoadPhase, LoadProgress,
    LoadedModel, Member, ModelFiles, NoProgress, Quantization, Tcp, inspect, load, load_member,
};
use vlinders_testkit::golden_root;

use crate::support;

const MAX_LEN: usize = 64;
const VOCAB: usize = 64;
const BLOCK: usize = 4;
const BLOCKS: usize = 64;

fn options(device: DeviceChoice) -> LoadOptions {
    LoadOptions {
        device,
        dtype: Some(DType::F32),
        kv_cache_dtype: Some(KvDtype::F32),
        max_model_len: Some(MAX_LEN),
        kv_blocks: Some(BLOCKS),
        block_size: BLOCK,
        max_num_seqs: 6,
        max_batched_tokens: 32,
        ..LoadOptions::default()
    }
}

fn files(name: &str) -> ModelFiles {
    ModelFiles::Folder(golden_root().join(name))
}

fn engine(options: &LoadOptions) -> EngineHandle {
    engine_of(&files("qwen2-tiny"), options)
}

fn engine_of(files: &ModelFiles, options: &LoadOptions) -> EngineHandle {
    let LoadedModel { executor, .. } = load(files, options, &NoProgress).unwrap();
    start(config(options), executor, Box::new(())).unwrap()
}

fn config(options: &LoadOptions) -> EngineConfig {
    EngineConfig {
        block_size: BLOCK,
        num_blocks: BLOCKS,
        max_num_seqs: options.max_num_seqs,
        max_batched_tokens: options.max_batched_tokens,
        max_waiting: 64,
        max_model_len: MAX_LEN,
        prefix_caching: true,
    }
}

/// Requests of every kind: greedy and not, with penalties, bias, minimum length and log-probabilities.
fn requests() -> Vec<SamplingParams> {
    let base = SamplingParams { temperature: 0.8, top_p: 0.95, ..SamplingParams::default() };
    let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    vec![
        greedy.clone(),
        SamplingParams { logprobs: Some(5), ..greedy.clone() },
        SamplingParams { seed: 3, top_k: 12, ..base.clone() },
        SamplingParams { repetition_penalty: 1.3, logprobs: Some(0), ..greedy.clone() },
        SamplingParams { presence_penalty: 1.5, frequency_penalty: 0.5, seed: 4, ..base.clone() },
        SamplingParams { logit_bias: vec![(7, 4.0), (9, -100.0)], prompt_logprobs: Some(2), ..base.clone() },
        SamplingParams { min_p: 0.1, seed: 9, min_tokens: 4, suppressed: vec![5], ..base },
        SamplingParams { prompt_logprobs: Some(0), logprobs: Some(2), ..greedy },
    ]
}

/// What a client can see.
#[derive(Debug, Default)]
struct Answer {
    tokens: Vec<u32>,
    logprobs: Vec<TokenLogprobs>,
    prompt: Vec<TokenLogprobs>,
}

fn submit(engine: &EngineHandle, number: usize, sampling: SamplingParams) -> TokenStream {
    let limits = Limits { max_model_len: MAX_LEN, vocab_size: VOCAB, max_logprobs: 5 };
    // Some share a prefix, and some are longer than a step.
    let prompt = (0..5 + 9 * number).map(|i| (i * i * 7 + number / 3) as u32 % VOCAB as u32).take(45);
    let stop = StopConditions { max_tokens: 9 + number, ..StopConditions::default() };
    let request = GenerateRequest::new(prompt.collect::<Vec<_>>(), sampling, stop, 0, &limits).unwrap();
    engine.submit(request).unwrap()
}

fn answer(mut stream: TokenStream) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = stream.blocking_next() {
        match event {
            TokenEvent::Token { token, logprobs } => {
                answer.tokens.push(token);
                answer.logprobs.extend(logprobs.map(|logprobs| *logprobs));
            }
            TokenEvent::PromptLogprobs(PromptLogprobs { tokens, .. }) => answer.prompt.extend(tokens),
            TokenEvent::Failed(reason) => panic!("failed: {reason}"),
            _ => {}
        }
    }
    answer
}

/// All requests at once.
fn answers(engine: &EngineHandle) -> Vec<Answer> {
    let streams: Vec<_> =
        requests().into_iter().enumerate().map(|(i, sampling)| submit(engine, i, sampling)).collect();
    streams.into_iter().map(answer).collect()
}

#[track_caller]
fn assert_near(ours: &[TokenLogprobs], theirs: &[TokenLogprobs]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.rank, theirs.rank);
        assert!((ours.logprob - theirs.logprob).abs() < 1e-3, "{ours:?} {theirs:?}");
        assert_eq!(ours.top.len(), theirs.top.len());
        for ((id, logprob), (other, expected)) in ours.top.iter().zip(&theirs.top) {
            assert!(id == other && (logprob - expected).abs() < 1e-3, "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn answers_are_those_of_the_cpu() {
    let on_gpu = answers(&engine(&options(support::gpu())));
    let on_cpu = answers(&engine(&options(DeviceChoice::Cpu)));
    let mut logprobs = 0;
    for (number, (ours, theirs)) in on_gpu.iter().zip(&on_cpu).enumerate() {
        assert_eq!(ours.tokens, theirs.tokens, "request {number}");
        assert!(!ours.tokens.is_empty());
        assert_near(&ours.logprobs, &theirs.logprobs);
        assert_near(&ours.prompt, &theirs.prompt);
        logprobs += ours.logprobs.len() + ours.prompt.len();
    }
    assert!(logprobs > 100, "only {logprobs} log-probabilities were compared");
}

/// With bf16, on tensor cores, where the last bits would tell.
#[test]
fn graphs_and_company_change_no_bit() {
    assert_bits_stay(LoadOptions {
        dtype: Some(DType::BF16),
        kv_cache_dtype: None,
        ..options(support::gpu())
    });
}

/// The same where all products but the head's are of numbers of eight bits.
#[test]
fn graphs_and_company_change_no_bit_in_eight_bits() {
    assert_bits_stay(LoadOptions {
        dtype: Some(DType::BF16),
        quantization: Some(Quantization::Fp8),
        activations: Activations::Fp8,
        kv_cache_dtype: None,
        ..options(support::gpu())
    });
}

fn assert_bits_stay(options: LoadOptions) {
    let with = |warm_up, max_num_seqs| LoadOptions { warm_up, max_num_seqs, ..options.clone() };
    let bits = |answers: Vec<Answer>| -> Vec<_> {
        let of = |all: &[TokenLogprobs]| all.iter().map(|row| row.logprob.to_bits()).collect::<Vec<_>>();
        answers.iter().map(|a| (a.tokens.clone(), of(&a.logprobs), of(&a.prompt))).collect()
    };
    let with_graphs = bits(answers(&engine(&with(true, 6))));
    assert_eq!(with_graphs, bits(answers(&engine(&with(false, 6)))), "without graphs");
    assert_eq!(with_graphs, bits(answers(&engine(&with(true, 1)))), "one by one");
}

/// Every number of ranks, and a group that is joined over the network, whose devices send instead of reaching each other's memory.
#[test]
fn ranks_have_graphs_and_give_the_answers_of_one() {
    let on =
        |ranks| LoadOptions { tensor_parallel_size: ranks, warm_up: true, ..options(DeviceChoice::Emulated) };
    let alone = answers(&engine(&on(1)));
    for ranks in [2, 4] {
        let files = files("llama-tiny");
        let graphs = CountGraphs::default();
        let LoadedModel { executor, .. } = load(&files, &on(ranks), &graphs).unwrap();
        assert!(graphs.0.load(Ordering::Relaxed) > 2, "{ranks} ranks have graphs");
        let split = answers(&start(config(&on(ranks)), executor, Box::new(())).unwrap());
        let whole = answers(&engine_of(&files, &on(1)));
        for (number, (ours, theirs)) in split.iter().zip(&whole).enumerate() {
            assert_eq!(ours.tokens, theirs.tokens, "request {number} on {ranks} ranks");
            assert_near(&ours.logprobs, &theirs.logprobs);
        }
    }
    let linked = answers(&engine_of_members("qwen2-tiny", &on(2)));
    for (number, (ours, theirs)) in linked.iter().zip(&alone).enumerate() {
        assert_eq!(ours.tokens, theirs.tokens, "request {number} over links");
        assert_near(&ours.logprobs, &theirs.logprobs);
    }
}

#[derive(Default)]
struct CountGraphs(AtomicUsize);

impl LoadProgress for CountGraphs {
    fn phase(&self, _: LoadPhase) {}

    fn bytes(&self, _: u64, _: u64) {}

    fn graphs(&self, done: usize, _: usize) {
        self.0.fetch_max(done, Ordering::Relaxed);
    }
}

/// An engine on two ranks that are joined as processes would be.
fn engine_of_members(name: &str, options: &LoadOptions) -> EngineHandle {
    let leader = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let member = |rank| {
        let (files, options, leader) = (files(name), options.clone(), leader.clone());
        thread::spawn(move || {
            let group =
                GroupOptions { silence: Duration::from_secs(60), ..GroupOptions::new(rank, 2, leader) };
            let graphs = CountGraphs::default();
            let member = load_member(&files, &options, Tcp::join(&group).unwrap(), &graphs).unwrap();
            assert!(graphs.0.load(Ordering::Relaxed) > 2, "rank {rank} has graphs");
            member
        })
    };
    let [leader, follower] = [0, 1].map(member);
    thread::spawn(move || match follower.join().unwrap() {
        Member::Follower(follower) => follower.run().unwrap(),
        Member::Leader(_) => panic!("rank 1 leads"),
    });
    match leader.join().unwrap() {
        Member::Leader(model) => start(config(options), model.executor, Box::new(())).unwrap(),
        Member::Follower(_) => panic!("rank 0 follows"),
    }
}

#[test]
fn weights_are_quantised_while_they_are_loaded() {
    let numbers = |quantization| {
        let options = LoadOptions {
            dtype: None,
            kv_cache_dtype: None,
            quantization,
            warm_up: false,
            ..options(support::gpu())
        };
        let loaded = load(&files("llama-bf16-tiny"), &options, &NoProgress).unwrap();
        let inspected = inspect(&files("llama-bf16-tiny"), &options, None).unwrap();
        assert_eq!(loaded.info.format, inspected.format);
        assert_eq!(loaded.info.weight_bytes, inspected.weight_bytes, "{quantization:?}");
        (loaded.info.format.as_str(), loaded.info.weight_bytes, loaded.info.kv_cache_dtype)
    };
    let plain = numbers(None);
    assert_eq!((plain.0, plain.2), ("bfloat16", KvDtype::BF16));
    for (quantization, name) in
        [(Quantization::Q8, "q8"), (Quantization::Q4, "q4"), (Quantization::Fp8, "fp8")]
    {
        let (format, bytes, kv) = numbers(Some(quantization));
        assert!(bytes < plain.1, "{quantization:?}: {bytes} of {}", plain.1);
        assert!(format == name || format == "bfloat16" || format == "q8", "{format} for {name}");
        assert_eq!(kv, KvDtype::BF16);
    }
}

/// Codes of fp8 with scales of rows are kept, those with scales of blocks become others of eight bits; and an inspection knows.
#[test]
fn floats_of_eight_bits_take_a_byte_on_a_device() {
    for (name, format) in [
        // Most of its bytes are tables.
        ("llama-fp8-channel-tiny", "bfloat16"),
        ("mixtral-fp8-tensor-tiny", "fp8"),
        ("qwen3-fp8-block-tiny", "q8"),
    ] {
        for dtype in [None, Some(DType::BF16)] {
            let options =
                LoadOptions { dtype, kv_cache_dtype: None, warm_up: false, ..options(support::gpu()) };
            let loaded = load(&files(name), &options, &NoProgress).unwrap().info;
            let inspected = inspect(&files(name), &options, None).unwrap();
            assert_eq!((inspected.format, inspected.weight_bytes), (loaded.format, loaded.weight_bytes));
            let expected = if dtype.is_some() { "bfloat16" } else { format };
            assert_eq!((loaded.format.as_str(), loaded.kv_cache_dtype), (expected, KvDtype::BF16), "{name}");
        }
        // As many bytes of random numbers.
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden_root().join(name).join("config.json"), folder.path().join("config.json"))
            .unwrap();
        let config = ModelFiles::Folder(folder.path().to_owned());
        let of_files =
            LoadOptions { dtype: None, kv_cache_dtype: None, warm_up: false, ..options(support::gpu()) };
        let random = LoadOptions { random_weights: true, ..of_files.clone() };
        let info = |files, options| load(files, options, &NoProgress).unwrap().info;
        let (files, random) = (info(&files(name), &of_files), info(&config, &random));
        assert_eq!((random.format, random.weight_bytes), (files.format, files.weight_bytes), "{name}");
    }
}

#[test]
fn random_weights_are_made_of_a_config_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden_root().join("qwen2-tiny/config.json"), folder.path().join("config.json")).unwrap();
    let config = ModelFiles::Folder(folder.path().to_owned());
    for quantization in [None, Some(Quantization::Fp8), Some(Quantization::Q4)] {
        let of_files = LoadOptions {
            dtype: Some(DType::BF16),
            kv_cache_dtype: None,
            quantization,
            warm_up: false,
            ..options(support::gpu())
        };
        let random = LoadOptions { random_weights: true, ..of_files.clone() };
        let info = |files, options| load(files, options, &NoProgress).unwrap().info;
        let (files, random) = (info(&files("qwen2-tiny"), &of_files), info(&config, &random));
        assert_eq!((random.format, random.weight_bytes), (files.format, files.weight_bytes));
        assert_eq!(random.num_parameters, files.num_parameters);
        assert_ne!(random.fingerprint, files.fingerprint);
    }
    let of_files = LoadOptions { warm_up: false, ..options(support::gpu()) };
    let random = LoadOptions { random_weights: true, ..of_files.clone() };
    let greedy = |engine: EngineHandle| {
        let sampling = SamplingParams { temperature: 0.0, logprobs: Some(0), ..SamplingParams::default() };
        let answer = answer(submit(&engine, 0, sampling));
        (answer.tokens, answer.logprobs.iter().map(|row| row.logprob.to_bits()).collect::<Vec<_>>())
    };
    let first = greedy(engine_of(&config, &random));
    assert_eq!(first.0.len(), 9);
    assert_eq!(first, greedy(engine_of(&config, &random)), "the same seed gives the same weights");
    assert_ne!(first.1, greedy(engine(&of_files)).1);
    let on_cpu = LoadOptions { device: DeviceChoice::Cpu, ..random };
    let error = load(&config, &on_cpu, &NoProgress).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "random_weights: are made on GPUs, this model computes on the CPU");
}

#[test]
fn what_a_device_can_not_do_is_said_before_a_step() {
    let error =
        |options: &LoadOptions| load(&files("llama-tiny"), options, &NoProgress).map(|_| ()).unwrap_err();
    let fp8 = LoadOptions { quantization: Some(Quantization::Fp8), ..options(DeviceChoice::Cpu) };
    assert_eq!(
        error(&fp8).to_string(),
        "quantization: fp8 is for GPUs, this model computes on the CPU: use q8"
    );
    let eight = |quantization, dtype, device| LoadOptions {
        quantization,
        activations: Activations::Fp8,
        dtype,
        kv_cache_dtype: None,
        ..options(device)
    };
    let (fp8, bf16) = (Some(Quantization::Fp8), Some(DType::BF16));
    for (options, said) in [
        (eight(None, bf16, support::gpu()), "write quantization: fp8 too"),
        (eight(Some(Quantization::Q8), bf16, support::gpu()), "write quantization: fp8 too"),
        (eight(fp8, Some(DType::F32), support::gpu()), "write dtype: bfloat16"),
    ] {
        let error = error(&options).to_string();
        assert!(error.starts_with("activation_dtype: float8") && error.contains(said), "{error}");
        assert_eq!(inspect(&files("llama-tiny"), &options, None).unwrap_err().to_string(), error);
    }
    assert!(inspect(&files("llama-tiny"), &eight(fp8, bf16, DeviceChoice::Cpu), None).is_err());
    let fingerprint = |options| load(&files("llama-tiny"), &options, &NoProgress).unwrap().info.fingerprint;
    let rounded = fingerprint(eight(fp8, bf16, support::gpu()));
    let plain = LoadOptions { activations: Activations::Auto, ..eight(fp8, bf16, support::gpu()) };
    assert_ne!(rounded, fingerprint(plain));
    let mixed = LoadOptions { kv_cache_dtype: Some(KvDtype::F16), ..options(DeviceChoice::Emulated) };
    assert_eq!(
        error(&mixed).to_string(),
        "kv_cache_dtype float16 does not go with activations of float32 on a GPU: use float32, int8 or auto"
    );
    let long =
        LoadOptions { kv_blocks: None, max_model_len: Some(1 << 29), ..options(DeviceChoice::Emulated) };
    assert!(error(&long).to_string().contains("the largest max_model_len that fits is"), "{}", error(&long));
    let absent = error(&options(DeviceChoice::Cuda(63))).to_string();
    let reasons = ["no GPU support", "no NVIDIA driver", "there is no GPU 63"];
    assert!(reasons.iter().any(|reason| absent.contains(reason)), "{absent}");
}

/// More tokens fit a step than the sequences of it can have.
#[test]
fn few_short_sequences_do_not_fill_the_largest_step() {
    let short = LoadOptions {
        max_model_len: Some(16),
        max_num_seqs: 1,
        max_batched_tokens: 64,
        ..options(DeviceChoice::Emulated)
    };
    let loaded = load(&files("llama-tiny"), &short, &NoProgress).unwrap();
    assert_eq!(loaded.info.max_model_len, 16);
}
