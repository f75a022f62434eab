//! The series that dashboards and autoscalers read, with exact values.

use serde_json::json;

use crate::support::{TestServer, chat_body, read};

const LABELS: &str = "{model_name=\"parrot\",engine=\"0\"}";

#[tokio::test]
async fn every_name_is_there_before_the_first_request() {
    let server = TestServer::start().await;
    let text = server.metrics().await;
    // Histograms without values show with the first one.
    let mut names: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .filter(|series| {
            !series.contains("_http_") && !series.contains("_bucket") && !series.contains("build_info")
        })
        .collect();
    names.sort_unstable();
    insta::assert_snapshot!(names.join("\n"));
}

#[tokio::test]
async fn counts_are_exact() {
    let server = TestServer::start().await;
    for _ in 0..2 {
        server.chat("the same text", json!({ "n": 2 })).await;
    }
    server.chat("cut", json!({ "max_tokens": 2 })).await;
    server.until_idle().await;
    let value = async |name: &str| server.metric(&format!("{name}{LABELS}")).await;
    // Two marks and a trailing one around each text.
    assert_eq!(value("vllm:prompt_tokens_total").await, (4 * 16 + 6) as f64);
    assert_eq!(value("vllm:generation_tokens_total").await, (4 * 14 + 2) as f64);
    assert_eq!(value("vlinders_generation_tokens_total").await, (4 * 14 + 2) as f64);
    assert_eq!(value("vllm:prefix_cache_queries_total").await, (4 * 16 + 6) as f64);
    assert_eq!(value("vllm:num_requests_running").await, 0.0);
    assert_eq!(value("vllm:num_requests_waiting").await, 0.0);
    assert_eq!(value("vllm:num_preemptions_total").await, 0.0);
    for prefix in ["vllm:", "vlinders_"] {
        let ended = |reason: &str| {
            format!(
                "{prefix}request_success_total{{model_name=\"parrot\",engine=\"0\",finished_reason=\"{reason}\"}}"
            )
        };
        assert_eq!(server.metric(&ended("stop")).await, 4.0);
        assert_eq!(server.metric(&ended("length")).await, 1.0);
        assert_eq!(server.metric(&ended("abort")).await, 0.0);
        for (name, count) in [
            ("time_to_first_token_seconds", 5),
            ("inter_token_latency_seconds", 4 * 13 + 1),
            ("request_time_per_output_token_seconds", 5),
            ("e2e_request_latency_seconds", 5),
            ("request_queue_time_seconds", 5),
            ("request_inference_time_seconds", 5),
            ("request_prefill_time_seconds", 5),
            ("request_decode_time_seconds", 5),
        ] {
            assert_eq!(value(&format!("{prefix}{name}_count")).await, f64::from(count), "{name}");
            let all = format!("{prefix}{name}_bucket{{model_name=\"parrot\",engine=\"0\",le=\"+Inf\"}}");
            assert_eq!(server.metric(&all).await, f64::from(count), "{name}");
        }
        assert_eq!(value(&format!("{prefix}request_generation_tokens_sum")).await, 58.0);
        assert_eq!(value(&format!("{prefix}request_prompt_tokens_sum")).await, 70.0);
        let fed = value(&format!("{prefix}iteration_tokens_total_sum")).await;
        assert!(fed > 58.0, "{fed}");
    }
}

#[tokio::test]
async fn time_waited_for_requests_belongs_to_no_step() {
    let server = TestServer::start().await;
    server.gate.close();
    let running = server.send("/v1/chat/completions", &chat_body("x", json!({ "stream": true }))).await;
    server.until("it runs", |stats| stats.running == 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    server.gate.set_open();
    running.text().await.unwrap();
    server.until_idle().await;
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    server.chat("y", json!({})).await;
    let sum = async |part: &str| {
        server
            .metric(&format!(
                "vlinders_step_seconds_sum{{model_name=\"parrot\",engine=\"0\",part=\"{part}\"}}"
            ))
            .await
    };
    let (model, scheduling) = (sum("model").await, sum("scheduling").await);
    assert!(model >= 0.25, "the model was held back in its step: {model}");
    assert!(scheduling < 0.25, "the pause between the requests is no scheduling: {scheduling}");
}

#[tokio::test]
async fn gauges_follow_the_engine() {
    let server = TestServer::with(|_, sizes| sizes.max_num_seqs = 2).await;
    server.gate.close();
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(server.send("/v1/chat/completions", &chat_body("12345", json!({ "stream": true }))).await);
    }
    server.until("all are there", |stats| stats.running + stats.waiting == 5).await;
    server.gate.allow(1);
    server.until("two run", |stats| stats.running == 2 && stats.waiting == 3).await;
    let value = async |name: &str| server.metric(&format!("{name}{LABELS}")).await;
    assert_eq!(value("vllm:num_requests_running").await, 2.0);
    assert_eq!(value("vllm:num_requests_waiting").await, 3.0);
    assert_eq!(server.metric("vlinders_requests_in_flight").await, 5.0);
    let used = server.engine.stats().blocks_used as f64;
    assert!(used >= 4.0);
    assert_eq!(value("vllm:kv_cache_usage_perc").await, used / 512.0);
    assert_eq!(value("vllm:gpu_cache_usage_perc").await, used / 512.0);
    drop(open);
    server.gate.set_open();
    server.until_idle().await;
    assert_eq!(value("vllm:num_requests_running").await, 0.0);
    assert_eq!(value("vllm:num_requests_waiting").await, 0.0);
    assert_eq!(value("vllm:kv_cache_usage_perc").await, 0.0);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let server = TestServer::start().await;
    server.chat("x", json!({})).await;
    read(server.send("/v1/chat/completions", &json!({})).await).await;
    read(server.send("/some/where", &json!({})).await).await;
    for (route, status) in [("/v1/chat/completions", 200), ("/v1/chat/completions", 400), ("none", 404)] {
        let series =
            format!("vlinders_http_requests_total{{route=\"{route}\",method=\"POST\",status=\"{status}\"}}");
        assert_eq!(server.metric(&series).await, 1.0, "{series}");
    }
}
