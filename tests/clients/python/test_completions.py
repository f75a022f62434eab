"""The older endpoint, which takes text or tokens as they are."""

import pytest
from conftest import MODEL

PROMPT = "Butterflies have four wings and six"


@pytest.fixture
def complete(client):
    def ask(prompt, **options):
        options.setdefault("temperature", 0)
        options.setdefault("max_tokens", 8)
        extra = {"ignore_eos": True} | options.pop("extra_body", {})
        return client.completions.create(model=MODEL, prompt=prompt, extra_body=extra, **options)

    return ask


def test_text(complete):
    answer = complete(PROMPT)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8


def test_stream_says_the_same(complete):
    whole = complete(PROMPT, max_tokens=20)
    chunks = list(complete(PROMPT, max_tokens=20, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason] == ["length"]


def test_tokens_are_the_same_as_their_text(complete, server):
    extra = {"add_special_tokens": False}
    tokens = server.tokenize(PROMPT)
    by_tokens = complete(tokens)
    by_text = complete(PROMPT, extra_body=extra)
    assert by_tokens.choices[0].text == by_text.choices[0].text
    assert by_tokens.usage.prompt_tokens == by_text.usage.prompt_tokens == len(tokens)


def test_many_prompts(complete):
    prompts = [PROMPT, "One, two,", "The caterpillar"]
    answer = complete(prompts)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.text for choice in answer.choices] == [complete(p).choices[0].text for p in prompts]


def test_many_prompts_of_tokens_and_many_choices(complete, server):
    prompts = [server.tokenize(PROMPT), server.tokenize("One, two,")]
    answer = complete(prompts, n=2, temperature=1.2, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    again = complete(prompts, n=2, temperature=1.2, seed=5)
    assert [c.text for c in again.choices] == [c.text for c in answer.choices]
    assert answer.usage.completion_tokens == 32


def test_many_prompts_in_a_stream(complete):
    prompts = [PROMPT, "One, two,"]
    texts = ["", ""]
    for chunk in complete(prompts, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in complete(prompts).choices]


def test_echo(complete):
    plain = complete(PROMPT).choices[0].text
    assert complete(PROMPT, echo=True).choices[0].text == PROMPT + plain
    chunks = complete(PROMPT, echo=True, stream=True)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == PROMPT + plain


def test_logprobs(complete):
    logprobs = complete(PROMPT, logprobs=3).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 8
    for token, logprob, tops in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs):
        assert len(tops) in (3, 4)
        assert max(tops.values()) == logprob == tops[token]
    assert logprobs.text_offset == sorted(logprobs.text_offset)


def test_echo_with_logprobs_scores_the_prompt(complete, server):
    tokens = server.tokenize(PROMPT)
    options = {"logprobs": 1, "extra_body": {"skip_special_tokens": False}}
    plain = complete(tokens, **options).choices[0]
    echoed = complete(tokens, echo=True, **options).choices[0]
    scores = echoed.logprobs.token_logprobs
    assert len(scores) == len(tokens) + 8
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])
    assert scores[len(tokens) :] == plain.logprobs.token_logprobs
    assert "".join(echoed.logprobs.tokens) == echoed.text
    for token, offset in zip(echoed.logprobs.tokens, echoed.logprobs.text_offset):
        assert echoed.text[offset:].startswith(token)


def test_prompt_scores_agree_with_generation(complete, server):
    """What the model generated scores the same when it comes back as a prompt."""
    tokens = server.tokenize(PROMPT)
    extra = {"return_tokens_as_token_ids": True}
    generated = complete(tokens, logprobs=0, extra_body=extra).choices[0].logprobs
    ids = [int(name.removeprefix("token_id:")) for name in generated.tokens]
    scored = complete(tokens + ids, logprobs=0, echo=True, max_tokens=1).choices[0].logprobs
    assert scored.token_logprobs[len(tokens) : len(tokens) + 8] == generated.token_logprobs


def test_stop(complete):
    full = complete(PROMPT, max_tokens=30).choices[0].text
    stop = full[5:11]
    choice = complete(PROMPT, max_tokens=30, stop=stop).choices[0]
    assert (choice.text, choice.finish_reason) == (full[: full.find(stop)], "stop")


def test_fills_the_context_to_the_last_token(complete, server, max_model_len):
    [token] = server.tokenize("a")[:1]
    answer = complete([token] * (max_model_len - 1), max_tokens=1)
    assert answer.usage.total_tokens == max_model_len


def test_without_a_limit_it_ends_at_the_context(complete, server, max_model_len):
    [token] = server.tokenize("a")[:1]
    answer = complete([token] * (max_model_len - 20), max_tokens=None)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens <= max_model_len
