"""Characters that are split over tokens arrive whole, and broken ones never break a stream."""

import json

import pytest
from conftest import MODEL

# characters of two, three and four bytes, marks that combine, and a family joined by invisible characters
TEXTS = ["é", "蝶", "🦋", "e\u0301", "나비", "👩‍👩‍👧", "🇳🇱", "ไทย"]


def forced(server, text: str) -> dict:
    """Options under which the model can say nothing but tokens of this text, in any order."""
    tokens = sorted(set(server.tokenize(text)))
    return {"logit_bias": {str(token): 100 for token in tokens}, "temperature": 2, "max_tokens": 150}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_pieces_of_characters(chat, server, text, seed):
    """Random pieces, so most of what comes is no UTF-8. The stream has to say what the whole
    text decodes to, and nothing may come early that a later byte would change."""
    options = forced(server, text) | {"seed": seed, "logprobs": True, "extra_body": {"ignore_eos": True}}
    [choice] = chat("Say it", **options).choices
    said = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
    expected = said.decode("utf-8", errors="replace")
    assert choice.message.content == expected
    pieces = [c.choices[0].delta.content or "" for c in chat("Say it", stream=True, **options)]
    assert "".join(pieces) == expected
    so_far = ""
    for piece in pieces:
        so_far += piece
        assert expected.startswith(so_far)
    # something that needs several tokens did come out whole
    if len(server.tokenize(text)) in (2, 3) and len(text) == 1:
        assert text in expected


def test_the_log_probabilities_carry_the_bytes(chat, server):
    options = forced(server, "蝶") | {"seed": 3, "logprobs": True, "extra_body": {"ignore_eos": True}}
    [choice] = chat("Say it", **options).choices
    for token in choice.logprobs.content:
        assert bytes(token.bytes).decode("utf-8", errors="replace") == token.token


@pytest.mark.parametrize("text", [*TEXTS, "Grüße aus 東京 🗼, e\u0301te\u0301!"])
def test_text_survives_the_prompt(client, server, text):
    answer = client.completions.create(model=MODEL, prompt=text, max_tokens=1, echo=True, temperature=0)
    assert answer.choices[0].text.startswith(text)
    assert server.detokenize(server.tokenize(text)) == text


def test_stop_of_several_bytes(chat, server):
    """A stop that is itself split over tokens."""
    options = forced(server, "é") | {"seed": 4, "extra_body": {"ignore_eos": True}}
    full = chat("Say it", **options).choices[0].message.content
    if "é" not in full:
        pytest.fail("150 random halves made no é")
    [choice] = chat("Say it", stop="é", **options).choices
    assert choice.message.content == full[: full.index("é")]
    assert choice.finish_reason == "stop"
    pieces = [c.choices[0].delta.content or "" for c in chat("Say it", stop="é", stream=True, **options)]
    assert "".join(pieces) == full[: full.index("é")]


def test_a_stream_is_valid_utf8_on_the_wire(server):
    """Every line by itself: no character is split between two events."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say it"}], "stream": True}
    body |= forced(server, "🦋") | {"seed": 5, "ignore_eos": True}
    status, headers, answer = server.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
    )
    assert status == 200
    assert headers["content-type"].split(";")[0] == "text/event-stream"
    events = [block for block in answer.split(b"\n\n") if block and not block.startswith(b":")]
    assert events[-1] == b"data: [DONE]"
    for event in events[:-1]:
        assert event.startswith(b"data: ")
        json.loads(event[6:].decode("utf-8"))
