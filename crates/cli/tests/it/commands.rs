//! `chat`, `bench` and `check` beside a running server.

use serde_json::Value;

use crate::process::{Server, http, output, vlinders};

#[test]
fn one_question_gets_its_answer_on_standard_output() {
    let server = Server::start();
    let mut chat = server.client("chat");
    let (output, out, err) = output(chat.args(["-m", "What is 47 + 38?", "--temperature", "0"]));
    assert!(output.status.success(), "{err}");
    assert_eq!(out, "47 + 38 = 85.\n");
}

#[test]
fn a_question_to_a_model_that_is_not_served_names_those_that_are() {
    let server = Server::start();
    let (output, out, err) = output(server.client("chat").args(["--model", "gpt-9", "-m", "Hello!"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(out.trim().is_empty(), "{out}");
    assert!(err.contains("404") && err.contains("vlinders-demo"), "{err}");
}

#[test]
fn a_load_test_counts_every_request_and_draws_a_picture() {
    let server = Server::start();
    let args = ["--num-requests", "20", "--concurrency", "4", "--input-len", "24", "--output-len", "5-9"];
    let files = ["--json", "run.json", "--svg", "run.svg"];
    let (output, out, err) = output(server.client("bench").args(args).args(files));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("20 ok, 0 failed"), "{out}");

    let json = std::fs::read_to_string(server.folder().join("run.json")).unwrap();
    let run: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(run["requests_ok"], 20);
    assert_eq!(
        run["prompt_tokens"],
        20 * 24,
        "calibrated prompts have exactly the length that was asked for"
    );
    let requests = run["requests"].as_array().unwrap();
    for request in requests {
        let output = request["output_tokens"].as_u64().unwrap();
        assert!((5..=9).contains(&output), "{request}");
        assert!(request["ttft"].as_f64().unwrap() <= request["e2e"].as_f64().unwrap(), "{request}");
    }
    let total: u64 = requests.iter().map(|request| request["output_tokens"].as_u64().unwrap()).sum();
    assert_eq!(run["output_tokens"], total);
    let svg = std::fs::read_to_string(server.folder().join("run.svg")).unwrap();
    assert!(svg.trim_end().ends_with("</svg>") && svg.contains("time to first token"));
}

/// What a server has answered once it answers faster, so a run must not ask what the one before asked.
#[test]
fn each_run_asks_something_new_unless_a_seed_is_given() {
    let server = Server::start();
    let run = |options: &[&str]| {
        let args = ["--num-requests", "3", "--warmup", "0", "--output-len", "1", "--input-len", "64"];
        let files = ["--json", "run.json", "--svg", "run.svg"];
        let (output, out, err) = output(server.client("bench").args(args).args(files).args(options));
        assert!(output.status.success(), "{err}");
        let read = |name: &str| std::fs::read_to_string(server.folder().join(name)).unwrap();
        let run: Value = serde_json::from_str(&read("run.json")).unwrap();
        let seed = run["settings"]["seed"].as_u64().unwrap();
        for text in [&out, &err, &read("run.svg")] {
            assert!(text.contains(&format!("seed {seed}")), "{text}");
        }
        (seed, run["cached_tokens"].as_u64().unwrap())
    };
    let (first, cached) = run(&[]);
    assert_eq!(cached, 0);
    let (second, cached) = run(&[]);
    assert_eq!((first == second, cached), (false, 0));
    let (again, cached) = run(&["--seed", &first.to_string()]);
    assert_eq!(again, first);
    assert_eq!(cached, 3 * 48, "all whole blocks but the one with the last token");
}

/// What serving costs beside computing can be read off the metrics.
#[tokio::test]
async fn time_in_and_around_the_model_is_exported() {
    let server = Server::start();
    let body = serde_json::json!({
        "model": vlinders_demo::MODEL_NAME, "prompt": "wings", "max_tokens": 20, "ignore_eos": true, "n": 8,
    });
    let url = format!("{}/v1/completions", server.url);
    let answer = http().post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = http().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
    };
    let part = |series: &str, part: &str| {
        value(&format!(
            "vlinders_step_seconds_{series}{{model_name=\"vlinders-demo\",engine=\"0\",part=\"{part}\"}}"
        ))
    };
    // The last token may be read before its step is counted.
    assert!(part("count", "model") >= 19.0);
    assert!(part("count", "scheduling") >= 19.0);
    assert!(part("sum", "model") > 0.0 && part("sum", "scheduling") > 0.0);
    assert!(value("vlinders_http_cpu_seconds_total") > 0.0);
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let server = Server::start();
    let args =
        ["--num-requests", "10", "--rate", "200", "--warmup", "0", "--output-len", "2", "--api", "chat"];
    let (output, out, err) = output(server.client("bench").args(args).args(["--input-len", "8"]));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("10 ok, 0 failed"), "{out}");
}

#[test]
fn the_built_in_model_checks_out() {
    let folder = tempfile::tempdir().unwrap();
    let (output, out, err) = output(vlinders(folder.path()).args(["check", "--json"]));
    assert!(output.status.success(), "{out}\n{err}");
    let models: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(models[0]["name"], "vlinders-demo");
    assert_eq!(models[0]["ok"], true);
    assert_eq!(models[0]["model"]["architecture"], "LlamaForCausalLM");
}

#[test]
fn a_cache_of_eight_bits_is_named_and_counted_with_its_scales() {
    let folder = tempfile::tempdir().unwrap();
    let mut check = vlinders(folder.path());
    check.args(["check", "--kv-cache-dtype", "int8"]);
    let (_, shown, err) = output(&mut check);
    assert!(shown.contains(" for each token as int8; "), "{shown}\n{err}");
    let (_, out, _) = output(check.arg("--json"));
    let models: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(models[0]["model"]["kv_cache_dtype"], "int8");
    // Keys and values of five layers and two heads: a byte for each of 32 numbers, and an f32.
    assert_eq!(models[0]["model"]["kv_bytes_per_token"], 5 * 2 * 2 * (32 + 4));
}

/// The settings that `check` calls the largest are those that a server gets, and no larger ones.
#[test]
fn the_largest_settings_that_fit_are_named_and_true() {
    let folder = tempfile::tempdir().unwrap();
    // So little of the memory that other processes move the result by less than the model's own limits.
    let check = |options: &[&str]| {
        let mut command = vlinders(folder.path());
        command.args(["check", "--json", "--memory-fraction", "0.001"]).args(options);
        let (_, out, _) = output(&mut command);
        serde_json::from_str::<Value>(&out).unwrap()[0].take()
    };
    let found = check(&[]);
    let number = |found: &Value, name: &str| found["model"][name].as_u64().unwrap();
    let (len, seqs) = (number(&found, "largest_max_model_len"), number(&found, "largest_max_num_seqs"));
    let block = 16;
    assert_eq!(seqs, len / number(&found, "max_model_len").next_multiple_of(block));
    assert!(seqs >= number(&found, "full_sequences"), "{found}");

    let twice = (2 * len).to_string();
    let refused = check(&["--max-model-len", &twice]);
    assert_eq!(refused["ok"], false);
    assert!(
        refused["problems"][0].as_str().unwrap().contains("the largest max_model_len that fits is"),
        "{refused}"
    );
    let crowded = check(&["--max-num-seqs", &(2 * seqs + 64).to_string()]);
    assert_eq!((&crowded["ok"], number(&crowded, "full_sequences") < 2 * seqs), (&Value::Bool(true), true));
}

#[test]
fn each_model_has_the_memory_that_those_before_it_leave() {
    let folder = tempfile::tempdir().unwrap();
    let model = |name: &str| format!("  - {{ name: {name}, path: 'builtin:vlinders-demo' }}\n");
    std::fs::write(folder.path().join("models.yaml"), format!("models:\n{}{}", model("a"), model("b")))
        .unwrap();
    let (_, out, _) = output(vlinders(folder.path()).args(["check", "--json"]));
    let models: Value = serde_json::from_str(&out).unwrap();
    let number = |i: usize, name: &str| models[i]["model"][name].as_u64().unwrap();
    let taken = number(0, "weight_bytes") + number(0, "kv_bytes");
    assert_eq!(number(1, "available_bytes"), number(0, "available_bytes") - taken, "{models}");
}
