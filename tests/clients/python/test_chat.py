"""Chat completions, whole and streamed."""

import math

import pytest
from conftest import MODEL

QUESTION = "What does a peacock butterfly eat?"


def test_whole_answer(chat):
    answer = chat(QUESTION)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.system_fingerprint
    [choice] = answer.choices
    assert (choice.index, choice.message.role) == (0, "assistant")
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")


def test_usage_adds_up(chat):
    usage = chat(QUESTION, max_tokens=5, extra_body={"ignore_eos": True}).usage
    assert usage.completion_tokens == 5
    assert usage.prompt_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + 5
    assert 0 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens


def test_stream_says_the_same(chat):
    whole = chat(QUESTION)
    chunks = list(chat(QUESTION, stream=True))
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert len({c.id for c in chunks}) == 1
    assert {c.system_fingerprint for c in chunks} == {whole.system_fingerprint}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(c.choices[0].delta.role is None for c in chunks[1:])
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == [
        whole.choices[0].finish_reason
    ]
    assert chunks[-1].choices[0].finish_reason is not None
    assert all(c.usage is None for c in chunks)


def test_stream_comes_in_pieces(chat):
    options = {"max_tokens": 24, "extra_body": {"ignore_eos": True}}
    texts = [c.choices[0].delta.content for c in chat(QUESTION, stream=True, **options)]
    assert len([text for text in texts if text]) > 4


def test_stream_with_usage(chat):
    whole = chat(QUESTION)
    chunks = list(chat(QUESTION, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert all(c.usage is None for c in chunks[:-1])


def test_cached_tokens_are_counted(chat, server, nonce):
    text = nonce + " wings" * 120
    first, second = chat(text, max_tokens=8), chat(text, max_tokens=8)
    assert first.usage.prompt_tokens_details.cached_tokens < 32
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert second.usage.prompt_tokens / 2 < cached < second.usage.prompt_tokens
    assert first.choices[0].message.content == second.choices[0].message.content
    assert server.kv_usage() == 0


def test_max_completion_tokens(chat):
    answer = chat(QUESTION, max_tokens=None, max_completion_tokens=3, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_min_tokens(chat):
    answer = chat(QUESTION, max_tokens=40, extra_body={"min_tokens": 40})
    assert answer.usage.completion_tokens == 40


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(chat, stream):
    options = {"max_tokens": 12, "logprobs": True, "top_logprobs": 4}
    options["extra_body"] = {"ignore_eos": True, "skip_special_tokens": False}
    if stream:
        chunks = list(chat(QUESTION, stream=True, **options))
        tokens = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
    else:
        [choice] = chat(QUESTION, **options).choices
        tokens, text = choice.logprobs.content, choice.message.content
    assert len(tokens) == 12
    for token in tokens:
        tops = [top.logprob for top in token.top_logprobs]
        assert len(tops) == 4
        assert tops == sorted(tops, reverse=True)
        assert sum(math.exp(top) for top in tops) <= 1.0001
        # greedy: the token taken is the likeliest
        assert token.token == token.top_logprobs[0].token
        assert token.logprob == tops[0] <= 0
    assert text == b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace")


def test_logprobs_without_alternatives(chat):
    [choice] = chat(QUESTION, logprobs=True, max_tokens=4).choices
    assert all(token.top_logprobs == [] for token in choice.logprobs.content)
    assert chat(QUESTION, max_tokens=4).choices[0].logprobs is None


def test_logprobs_ignore_sampling_options(chat):
    """They are of the model's own distribution, before bias, penalties and temperature."""

    def first(**options):
        answer = chat(QUESTION, max_tokens=1, logprobs=True, top_logprobs=5, **options)
        token = answer.choices[0].logprobs.content[0]
        return [(top.token, top.logprob) for top in token.top_logprobs]

    plain = first()
    assert first(temperature=2, seed=3, presence_penalty=2) == plain
    assert first(temperature=0.3, top_p=0.2, seed=4, logit_bias={"10": 100}) == plain


def test_logprob_of_a_token_that_was_forced(chat, server):
    [token] = server.tokenize("q")[:1]
    answer = chat(QUESTION, max_tokens=3, logprobs=True, logit_bias={str(token): 100})
    for entry in answer.choices[0].logprobs.content:
        assert bytes(entry.bytes) == server.detokenize([token]).encode()
        assert entry.logprob < -0.01


def test_tokens_as_ids(chat, server):
    options = {"ignore_eos": True, "return_tokens_as_token_ids": True, "skip_special_tokens": False}
    [choice] = chat(QUESTION, logprobs=True, max_tokens=6, extra_body=options).choices
    names = [token.token for token in choice.logprobs.content]
    assert all(name.startswith("token_id:") for name in names)
    assert choice.message.content == server.detokenize([int(name[9:]) for name in names])


def test_text_parts_are_joined(client):
    def ask(content):
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=16
        )
        return answer.choices[0].message.content, answer.usage.prompt_tokens

    assert ask([{"type": "text", "text": QUESTION}]) == ask(QUESTION)


def test_conversation_with_system(client):
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "You know butterflies."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": QUESTION},
        ],
        temperature=0,
        max_tokens=16,
    )
    assert answer.choices[0].message.content


def test_helper_that_gathers_a_stream(client):
    """The client's own stream helper, which is stricter about the order of events."""
    with client.chat.completions.stream(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=16
    ) as stream:
        texts = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.current_completion_snapshot
    assert "".join(texts) == final.choices[0].message.content
    assert final.choices[0].finish_reason in ("stop", "length")
