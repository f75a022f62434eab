"""Seeds, several choices, stops and penalties."""

import pytest
from conftest import MODEL

PROMPT = "Tell me about butterflies."
FREE = {"ignore_eos": True}


def text_of(answer) -> str:
    return answer.choices[0].message.content


def test_seed_repeats(chat, letters):
    options = {"temperature": 2, "max_tokens": 24, "logit_bias": letters, "extra_body": FREE}
    answers = {seed: text_of(chat(PROMPT, seed=seed, **options)) for seed in (1, 2, 3, -5, 2**63 - 1)}
    assert len(set(answers.values())) == 5
    for seed, text in answers.items():
        assert text_of(chat(PROMPT, seed=seed, **options)) == text


def test_no_seed_varies(chat, letters):
    options = {"temperature": 2, "max_tokens": 32, "logit_bias": letters, "extra_body": FREE}
    assert len({text_of(chat(PROMPT, **options)) for _ in range(4)}) == 4


def test_zero_temperature_needs_no_seed(chat):
    assert text_of(chat(PROMPT)) == text_of(chat(PROMPT))


def test_tiny_top_p_and_top_k_are_greedy(chat, letters):
    def ask(**options):
        extra = FREE | options.pop("extra_body", {})
        return text_of(chat(PROMPT, logit_bias=letters, extra_body=extra, **options))

    greedy = ask()
    assert ask(temperature=2, seed=1) != greedy
    assert ask(temperature=2, top_p=1e-6) == greedy
    assert ask(temperature=2, extra_body={"top_k": 1}) == greedy
    assert ask(temperature=2, extra_body={"min_p": 1.0}) == greedy


def test_choices_continue_the_seed(chat, letters):
    options = {"temperature": 2, "max_tokens": 16, "logit_bias": letters, "extra_body": FREE}
    answer = chat(PROMPT, n=3, seed=40, **options)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    alone = [text_of(chat(PROMPT, seed=40 + i, **options)) for i in range(3)]
    assert [choice.message.content for choice in answer.choices] == alone
    assert len(set(alone)) == 3
    assert answer.usage.completion_tokens == 48
    assert answer.usage.prompt_tokens == chat(PROMPT, max_tokens=1).usage.prompt_tokens


def test_choices_in_a_stream(chat, letters):
    options = {"temperature": 2, "max_tokens": 16, "n": 4, "seed": 7, "logit_bias": letters}
    options["extra_body"] = FREE
    whole = chat(PROMPT, **options)
    texts, reasons = ["", "", "", ""], {}
    for chunk in chat(PROMPT, stream=True, **options):
        for choice in chunk.choices:
            assert choice.index not in reasons, "a choice goes on after its finish reason"
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == dict.fromkeys(range(4), "length")


@pytest.mark.parametrize("stream", [False, True])
def test_stop_never_leaks(chat, stream):
    """Stops that begin at every place of an answer, most of them across tokens."""
    full = text_of(chat(PROMPT, max_tokens=40, extra_body=FREE))
    assert len(full) > 20
    for start in range(1, min(len(full) - 6, 60), 4):
        stop = full[start : start + 6]
        expected = full[: full.find(stop)]
        options = {"max_tokens": 40, "stop": [stop, "never said", "\x01"], "extra_body": FREE}
        if stream:
            chunks = list(chat(PROMPT, stream=True, **options))
            texts = [c.choices[0].delta.content or "" for c in chunks]
            for i in range(len(texts)):
                assert expected.startswith("".join(texts[: i + 1]))
            text, reason = "".join(texts), chunks[-1].choices[0].finish_reason
        else:
            [choice] = chat(PROMPT, **options).choices
            text, reason = choice.message.content or "", choice.finish_reason
        assert (text, reason) == (expected, "stop")


def test_beginning_of_a_stop_is_given_back(chat):
    """Text held back because it might become a stop comes out when it does not."""
    full = text_of(chat(PROMPT, max_tokens=20, extra_body=FREE))
    stop = full[-8:] + "\x01"
    chunks = chat(PROMPT, max_tokens=20, stop=stop, stream=True, extra_body=FREE)
    chunks = list(chunks)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == full
    assert chunks[-1].choices[0].finish_reason == "length"


def test_stop_token(chat, server):
    options = {"logprobs": True, "extra_body": FREE | {"return_tokens_as_token_ids": True}}
    [choice] = chat(PROMPT, max_tokens=12, **options).choices
    ids = [int(token.token.removeprefix("token_id:")) for token in choice.logprobs.content]
    end = ids[6]
    answer = chat(PROMPT, max_tokens=12, extra_body=FREE | {"stop_token_ids": [end]})
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == ids.index(end) + 1
    assert server.detokenize(ids[: ids.index(end)]).endswith(text_of(answer) or "")


def test_logit_bias_forbids_and_forces(chat, server):
    [q] = server.tokenize("q")[:1]
    piece = server.detokenize([q])
    assert text_of(chat(PROMPT, max_tokens=5, logit_bias={str(q): 100})) == piece * 5
    options = {"logprobs": True, "extra_body": FREE | {"return_tokens_as_token_ids": True}}
    first = chat(PROMPT, max_tokens=1, **options).choices[0].logprobs.content[0].token
    banned = {first.removeprefix("token_id:"): -100}
    other = chat(PROMPT, max_tokens=1, logit_bias=banned, **options).choices[0].logprobs.content[0].token
    assert other != first


def test_penalties_change_the_answer(chat, letters):
    def ask(**extra):
        options = {"max_tokens": 40, "logit_bias": letters, "extra_body": FREE | extra}
        return text_of(chat("abcabcabc", **options))

    plain = ask()
    for penalty in ["presence_penalty", "frequency_penalty", "repetition_penalty"]:
        assert ask(**{penalty: 2}) != plain, penalty
    assert len(set(ask(frequency_penalty=2))) > len(set(plain))


def test_requests_do_not_share_state(client, chat):
    """A request with wild options leaves the next one as it was."""
    before = text_of(chat(PROMPT))
    client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": PROMPT}],
        temperature=2,
        frequency_penalty=2,
        presence_penalty=-2,
        logit_bias={"5": -100, "6": 100},
        max_tokens=8,
    )
    assert text_of(chat(PROMPT)) == before
