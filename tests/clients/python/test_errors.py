"""Mistakes of a client come back as the typed exceptions of the official client."""

import openai
import pytest
from conftest import MODEL

HELLO = [{"role": "user", "content": "Hello"}]


def refused(client, kind=openai.BadRequestError, **changes):
    """The error of a chat request that is right but for these changes."""
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 4} | changes
    body = {name: value for name, value in body.items() if value is not None}
    with pytest.raises(kind) as error:
        # as `extra_body`, so that the client's own checks do not stand in the way
        extra = {k: v for k, v in body.items() if k not in ("model", "messages", "stream")}
        answer = client.chat.completions.create(
            model=body["model"],
            messages=body["messages"],
            stream=body.get("stream", False),
            extra_body=extra,
        )
        if body.get("stream"):
            list(answer)
    return error.value


def test_unknown_model(client):
    error = refused(client, openai.NotFoundError, model="gpt-9")
    assert error.status_code == 404
    assert error.code == "model_not_found"
    assert error.param == "model"
    assert "gpt-9" in error.message
    assert MODEL in error.message


def test_unknown_model_of_a_completion(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="gpt-9", prompt="x")
    assert MODEL in error.value.message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "hot"),
        ("temperature", -0.1),
        ("temperature", 1e30),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", -7),
        ("min_p", 2),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 2.5),
        ("max_tokens", "many"),
        ("max_tokens", 10**30),
        ("max_completion_tokens", 0),
        ("n", 0),
        ("n", -1),
        ("n", 10**6),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", [""]),
        ("stop", 5),
        ("stop", [1]),
        ("presence_penalty", 3),
        ("frequency_penalty", -3),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1),
        ("top_logprobs", 1000),
        ("top_logprobs", -1),
        ("seed", "x"),
        ("seed", 1.5),
        ("logit_bias", {"nothing": 1}),
        ("logit_bias", {"4000000000": 1}),
        ("logit_bias", {"1": 1000}),
        ("logit_bias", [1]),
        ("stop_token_ids", [-1]),
        ("stream_options", "yes"),
        ("messages", "hello"),
        ("response_format", {"type": "no such form"}),
    ],
)
def test_wrong_values_name_their_field(client, field, value, stream):
    changes = {field: value}
    if field == "top_logprobs":
        changes["logprobs"] = True
    error = refused(client, stream=stream, **changes)
    assert error.status_code == 400
    assert error.type == "invalid_request_error"
    assert (error.param or "").split("[")[0].split(".")[0] == field
    assert error.code
    assert len(error.message) > 10


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([], "messages"),
        ([{"role": "narrator", "content": "Night."}], "messages[0].role"),
        ([{"content": "who says this?"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0]"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([*HELLO, {"role": "user", "content": [{"type": "text"}]}], "messages[1].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages[0].content"),
        (["hello"], "messages[0]"),
        ([None], "messages[0]"),
    ],
)
def test_wrong_messages_name_their_place(client, messages, place):
    error = refused(client, messages=messages)
    assert (error.param or "").startswith(place)


def test_top_logprobs_need_logprobs(client):
    assert refused(client, top_logprobs=3).param == "top_logprobs"


def test_prompt_too_long_says_both_numbers(client, server, max_model_len):
    [token] = server.tokenize("a")[:1]
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model=MODEL, prompt=[token] * max_model_len, max_tokens=1)
    assert error.value.code == "context_length_exceeded"
    assert str(max_model_len) in error.value.message
    assert str(max_model_len) in error.value.message.replace(str(max_model_len), "", 1) or (
        str(max_model_len + 1) in error.value.message
    )


def test_conversation_too_long(client, max_model_len):
    error = refused(client, messages=[{"role": "user", "content": "wing " * max_model_len}])
    assert error.code == "context_length_exceeded"
    assert error.param == "messages"
    assert str(max_model_len) in error.message


def test_answer_too_long_for_the_context(client, server, max_model_len):
    [token] = server.tokenize("a")[:1]
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model=MODEL, prompt=[token] * 10, max_tokens=max_model_len)
    assert str(max_model_len) in error.value.message


@pytest.mark.parametrize("prompt", [[], [[]], [-1], [4_000_000_000], ["a", 1], {"a": 1}, 5])
def test_wrong_prompts(client, prompt):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model=MODEL, prompt="", extra_body={"prompt": prompt})
    assert (error.value.param or "").startswith("prompt")


def test_missing_fields(server):
    status, answer = server.post("/v1/chat/completions", {"model": MODEL})
    assert (status, answer["error"]["param"]) == (400, "messages")
    status, answer = server.post("/v1/completions", {"model": MODEL})
    assert (status, answer["error"]["param"]) == (400, "prompt")


def test_unknown_address(client, server):
    with pytest.raises(openai.NotFoundError):
        client.post("/no/such/thing", cast_to=object, body={})
    status, answer = server.post("/v1/no/such/thing", {})
    assert status == 404
    assert set(answer["error"]) == {"message", "type", "param", "code"}


def test_wrong_method(server):
    status, headers, body = server.request("GET", "/v1/chat/completions")
    assert status == 405
    assert "POST" in headers["allow"]
    assert b'"error"' in body


def test_an_error_before_a_stream_is_no_stream(server):
    body = {"model": MODEL, "messages": [], "stream": True}
    status, answer = server.post("/v1/chat/completions", body)
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
