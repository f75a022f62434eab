"""Which models there are, and the endpoints that are not OpenAI's."""

import openai
import pytest
from conftest import MODEL


def test_list(client):
    models = client.models.list().data
    assert MODEL in [model.id for model in models]
    assert {model.object for model in models} == {"model"}


def test_retrieve(client):
    model = client.models.retrieve(MODEL)
    assert model.id == MODEL
    assert model.created > 0
    assert model.owned_by == "vlinders"


def test_retrieve_unknown(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-9")
    assert error.value.code == "model_not_found"
    assert MODEL in str(error.value)


def test_tokens_and_back(server):
    for text in ["Hello", " two  spaces ", "été 🦋 蝶", "line\nbreak", "e\u0301"]:
        assert server.detokenize(server.tokenize(text)) == text


def test_tokenize_a_conversation_counts_what_chat_counts(server, chat):
    messages = [{"role": "user", "content": "How many wings?"}]
    status, answer = server.post("/tokenize", {"model": MODEL, "messages": messages})
    assert status == 200
    assert answer["count"] == len(answer["tokens"])
    assert answer["count"] == chat("How many wings?", max_tokens=1).usage.prompt_tokens


def test_version_and_description(server):
    assert server.get_json("/version")["version"]
    description = server.get_json("/openapi.json")
    assert "/v1/chat/completions" in description["paths"]


def test_health_and_readiness(server):
    assert server.get("/health")[0] == 200
    assert server.get("/ready")[0] == 200


def test_counters_are_exact(server, chat):
    names = ["vllm:prompt_tokens_total", "vllm:generation_tokens_total"]
    before = [server.metric(name) for name in names]
    ended = server.metric("vllm:request_success_total", finished_reason="length")
    usages = [chat("Hi", max_tokens=7, extra_body={"ignore_eos": True}).usage for _ in range(3)]
    after = [server.metric(name) for name in names]
    assert after[0] - before[0] == sum(usage.prompt_tokens for usage in usages)
    assert after[1] - before[1] == 21
    assert server.metric("vllm:request_success_total", finished_reason="length") - ended == 3


def test_metrics_that_dashboards_read(server, chat):
    chat("Hi", max_tokens=4)
    text = server.get("/metrics")[1].decode()
    for name in [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:cache_config_info",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:num_preemptions_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
    ]:
        assert f"\n{name}{{" in text, name
    assert f'model_name="{MODEL}"' in text
