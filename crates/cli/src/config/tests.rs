//! Which layer wins, and how each mistake is told.

use std::path::Path;
use std::time::Duration;

use super::server::LimitsConfig;
use super::*;
use crate::args::{ComputeArgs, CpuPinning, LogFormat, ModelArgs, ServerArgs};

fn models(text: &str) -> Result<Vec<ModelConfig>, ConfigError> {
    super::models::read(Path::new("models.yaml"), text, Some(8))
}

fn server(text: &str) -> Result<ServerConfig, ConfigError> {
    super::server::read(Path::new("server.yaml"), text)
}

/// Each case as it reads in a terminal, one after the other.
fn transcript<T>(read: impl Fn(&str) -> Result<T, ConfigError>, cases: &[&str]) -> String {
    let told = cases.iter().map(|text| match read(text) {
        Ok(_) => format!("ACCEPTED: {text}"),
        Err(error) => error.to_string(),
    });
    told.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn mistakes_in_models_yaml() {
    let cases = [
        "",
        "models: []\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    max_len: 16384\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    max_model_len: 0\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    max_model_len: long # tokens\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    max_model_len: -5\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    enabled: yes\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    dtype: int7\n    kv_cache_dtype: int4\n    memory_fraction: 80\n",
        "models:\n  - name: a\n    path: /nowhere/llama-3-8b\n",
        "models:\n  - name: a\n    path: /nowhere/llama-3-8b.gguf\n",
        "models:\n  - name: a\n    path: builtin:other\n",
        "models:\n  - path: builtin:vlinders-demo\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n  - name: b\n    path: builtin:vlinders-demo\n    \
         aliases: [c, a]\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    enabled: false\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    tensor_parallel_size: 0\n    quantization: int3\n    activation_dtype: int8\n    \
         device: gpu\n    tool_parser: pythonic\n",
        "models:\n  - name: a\n    path: builtin:vlinders-demo\n    quantization: q8\n    activation_dtype: float8\n",
        "models:\n  - name: a\n    name: b\n    path: builtin:vlinders-demo\n",
        "models:\n  - name: a\n   path: builtin:vlinders-demo\n",
        "models:\n  name: a\n  path: builtin:vlinders-demo\n",
        "model:\n  - name: a\n",
        "models:\n  - name: [a]\n    path: builtin:vlinders-demo\n",
        "models:\n  - name:\n    path: builtin:vlinders-demo\n",
        "models:\n  - { name: a, path: builtin:vlinders-demo, max_num_seqs: many }\n",
        "models:\n  - { name: a, path: builtin:vlinders-demo, num_threads: 0 }\n",
        "models:\n  - { name: a, path: builtin:vlinders-demo, num_threads: 9 }\n",
    ];
    insta::assert_snapshot!(transcript(models, &cases));
}

#[test]
fn mistakes_in_server_yaml() {
    let cases = [
        "server: { host: 0.0.0.0, prt: 8000 }\n",
        "server:\n  port: 80000\n",
        "server:\n  port: \"http\"\n  workers: 0\n",
        "server:\n  host: http://0.0.0.0:8000/\n",
        "server:\n  cpu_pinning: cores\n  compute_threads: 0\n",
        "logging:\n  level: verbose\n  format: yaml\n",
        "limits:\n  max_body_bytes: 20MiB\n  max_total_body_bytes: 10MiB\n  max_connections: 0\n",
        "limits:\n  max_body_bytes: lots\n  request_timeout: 5 fortnights\n  max_n: 0\n",
        "cors:\n  allowed_origins: [example.org, https://a.example/path]\n",
        "cors:\n  allowed_origins: https://a.example\n",
        "shutdown: 30s\n",
        "server:\n\tport: 1\n",
    ];
    insta::assert_snapshot!(transcript(server, &cases));
}

#[test]
fn the_whole_of_models_yaml() {
    let text = "
models:
  - name: gpt-4
    path: /models/llama-3-70b
    tensor_parallel_size: 4
    max_model_len: 32768
    enabled: false
  - name: gpt-3.5-turbo
    path: builtin:vlinders-demo
    tensor_parallel_size: 2
    max_model_len: 16384
    enabled: true
    dtype: bfloat16
    quantization: q4
    activation_dtype: float32
    kv_cache_dtype: int8
    aliases: [gpt-3.5, small]
    tool_parser: none
    reasoning_parser: none
    max_num_seqs: 32
    max_batched_tokens: 2048
    max_waiting: 10
    num_threads: 6
    prefix_caching: false
    device: cpu
    memory_fraction: 0.5
";
    let expected = ModelConfig {
        name: "gpt-3.5-turbo".to_owned(),
        path: ModelPath::Builtin,
        aliases: vec!["gpt-3.5".to_owned(), "small".to_owned()],
        max_model_len: Some(16384),
        dtype: Some(Dtype::Bf16),
        quantization: Some(vlinders_runner::Quantization::Q4),
        activations: vlinders_runner::Activations::F32,
        kv_cache_dtype: Some(vlinders_runner::KvDtype::Int8),
        chat_template: None,
        device: vlinders_runner::DeviceChoice::Cpu,
        max_num_seqs: Some(32),
        max_batched_tokens: Some(2048),
        max_waiting: 10,
        num_threads: Some(6),
        tensor_parallel_size: Some(2),
        prefix_caching: false,
        memory_fraction: Some(0.5),
        hermes_tools: false,
    };
    assert_eq!(models(text).unwrap(), [expected]);
}

#[test]
fn the_whole_of_server_yaml() {
    let config = server(
        "
server: { host: 127.0.0.1, port: 9000, workers: 4, compute_threads: 8, cpu_pinning: off }
logging: { level: WARN, format: json }
limits: { max_body_bytes: 1MiB, max_total_body_bytes: 2MiB, max_connections: 99, request_timeout: 90, max_in_flight: 7, max_n: 2, max_stop: 8, max_logprobs: 5 }
cors: { allowed_origins: [\"https://chat.example.org\"] }
auth: { api_key_file: keys.txt }
shutdown: { delay: 7s, grace: 2m }
dashboard: { enabled: false }
tracing: { otlp_endpoint: \"http://collector:4318/\" }
",
    )
    .unwrap();
    let expected = ServerConfig {
        host: "127.0.0.1".to_owned(),
        port: 9000,
        workers: 4,
        compute_threads: Some(8),
        cpu_pinning: CpuPinning::Off,
        log: LogSettings { filter: "warn".to_owned(), format: LogFormat::Json },
        limits: LimitsConfig {
            max_body_bytes: 1 << 20,
            max_total_body_bytes: 2 << 20,
            max_connections: 99,
            request_timeout: Duration::from_secs(90),
            max_in_flight: 7,
            max_n: 2,
            max_stop: 8,
            max_logprobs: 5,
        },
        allowed_origins: vec!["https://chat.example.org".to_owned()],
        api_key_file: Some("keys.txt".into()),
        shutdown_delay: Duration::from_secs(7),
        shutdown_grace: Duration::from_secs(120),
        otlp_endpoint: Some("http://collector:4318".to_owned()),
        dashboard_port: None,
        access: ServerConfig::default().access,
        head: ServerConfig::default().head,
    };
    assert_eq!(config, expected);
}

#[test]
fn the_examples_of_the_project_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let resolved =
        resolve(&ModelArgs::default(), &ServerArgs::default(), &ComputeArgs::default(), &root).unwrap();
    assert_eq!(resolved.models.len(), 1);
    assert_eq!(resolved.models[0].path, ModelPath::Builtin);
    assert_eq!(resolved.server.port, 8000);
    assert!(
        resolved.origin.models.ends_with("models.yaml") && resolved.origin.server.ends_with("server.yaml")
    );
}

#[test]
fn options_win_over_files_and_files_over_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "models.yaml",
        "models: [{ name: a, path: 'builtin:vlinders-demo', max_model_len: 100, max_num_seqs: 5 }]\n",
    );
    write("server.yaml", "server: { port: 1000, host: 127.0.0.1 }\nlogging: { format: json }\n");
    let model = ModelArgs {
        max_model_len: Some(50),
        dtype: Some("f16".to_owned()),
        kv_cache_dtype: Some("int8".to_owned()),
        device: Some("cuda:1".to_owned()),
        ..ModelArgs::default()
    };
    let server =
        ServerArgs { port: Some(2000), log_level: Some("DEBUG".to_owned()), ..ServerArgs::default() };
    let resolved = resolve(&model, &server, &ComputeArgs::default(), folder.path()).unwrap();

    assert_eq!(resolved.models[0].max_model_len, Some(50), "option over file");
    assert_eq!(resolved.models[0].dtype, Some(Dtype::F16), "option over default");
    assert_eq!(
        resolved.models[0].kv_cache_dtype,
        Some(vlinders_runner::KvDtype::Int8),
        "option over default"
    );
    assert_eq!(resolved.models[0].max_num_seqs(), 5, "file over default");
    assert_eq!(resolved.models[0].device, vlinders_runner::DeviceChoice::Cuda(1), "option over default");
    assert_eq!(resolved.models[0].max_batched_tokens(), 8192, "what suits a GPU");
    assert_eq!(resolved.server.port, 2000, "option over file");
    assert_eq!(resolved.server.host, "127.0.0.1", "file over default");
    assert_eq!(resolved.server.log.filter, "debug");
    assert_eq!(resolved.server.log.format, LogFormat::Json);
    assert_eq!(resolved.server.workers, ServerConfig::default().workers);
}

#[test]
fn without_files_the_built_in_model_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let resolved =
        resolve(&ModelArgs::default(), &ServerArgs::default(), &ComputeArgs::default(), folder.path())
            .unwrap();
    assert_eq!(resolved.models[0].path, ModelPath::Builtin);
    assert_eq!(resolved.models[0].name, "vlinders-demo");
    assert_eq!(resolved.server, ServerConfig::default());
}

#[test]
fn a_folder_is_named_after_itself_and_paths_count_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("Qwen3-0.6B")).unwrap();
    let args = ModelArgs { folder: Some("Qwen3-0.6B".to_owned()), ..ModelArgs::default() };
    let resolved = resolve(&args, &ServerArgs::default(), &ComputeArgs::default(), folder.path()).unwrap();
    assert_eq!(resolved.models[0].name, "Qwen3-0.6B");

    let file = folder.path().join("m.yaml");
    std::fs::write(&file, "models: [{ name: q, path: Qwen3-0.6B }]\n").unwrap();
    let args = ModelArgs { models: Some(file), ..ModelArgs::default() };
    let resolved = resolve(&args, &ServerArgs::default(), &ComputeArgs::default(), Path::new("/")).unwrap();
    assert_eq!(resolved.models[0].path, ModelPath::Folder(folder.path().join("Qwen3-0.6B")));
}

#[test]
fn mistakes_of_all_layers_are_told_at_once() {
    let model = ModelArgs {
        folder: Some("builtin:vlinders-demo".to_owned()),
        max_model_len: Some(0),
        dtype: Some("int7".to_owned()),
        kv_cache_dtype: Some("fp8".to_owned()),
        ..ModelArgs::default()
    };
    let server = ServerArgs { log_level: Some("inf".to_owned()), ..ServerArgs::default() };
    let error =
        resolve(&model, &server, &ComputeArgs::default(), Path::new("/nowhere")).unwrap_err().to_string();
    for part in [
        "`--max-model-len`: found 0",
        "`--dtype`: `int7`",
        "`--kv-cache-dtype`: `fp8`",
        "write auto, float32, float16, bfloat16 or int8",
        "did you mean `info`?",
    ] {
        assert!(error.contains(part), "{part} is missing in:\n{error}");
    }
}

#[test]
fn threads_of_a_model_are_threads_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("models.yaml", "models:\n  - { name: a, path: 'builtin:vlinders-demo', num_threads: 6 }\n");
    write("server.yaml", "server: { compute_threads: 4 }\n");
    let resolve = |num_threads, compute_threads| {
        let model = ModelArgs { num_threads, ..ModelArgs::default() };
        let compute = ComputeArgs { compute_threads, ..ComputeArgs::default() };
        resolve(&model, &ServerArgs::default(), &compute, folder.path()).map_err(|error| error.to_string())
    };
    let error = resolve(None, None).unwrap_err();
    assert!(error.contains("models.yaml:2:60: `num_threads`: found 6, more than"), "{error}");
    let resolved = resolve(None, Some(6)).unwrap();
    assert_eq!((resolved.models[0].num_threads, resolved.server.compute_threads), (Some(6), Some(6)));
    assert_eq!(resolve(Some(2), Some(8)).unwrap().models[0].num_threads, Some(2));
    let error = resolve(Some(9), Some(8)).unwrap_err();
    assert!(error.contains("`--num-threads`: found 9"), "{error}");
    assert!(resolve(Some(0), Some(8)).unwrap_err().contains("`--num-threads`: found 0"));
}

#[test]
fn a_file_that_is_asked_for_must_exist() {
    let args = ModelArgs { models: Some("/nowhere/models.yaml".into()), ..ModelArgs::default() };
    let error = resolve(&args, &ServerArgs::default(), &ComputeArgs::default(), Path::new("."))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/nowhere/models.yaml: cannot be read:"), "{error}");
}
