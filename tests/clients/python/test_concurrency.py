"""Many at once, each as if it were alone."""

import asyncio

import openai
import pytest
from conftest import MODEL

STREAMS = 64


def request(i: int, letters: dict) -> dict:
    """Requests that differ in everything: prompt, length, sampling, seed."""
    sampling = [
        {"temperature": 0},
        {"temperature": 2, "seed": i, "logit_bias": letters},
        {"temperature": 1.3, "top_p": 0.9, "seed": i, "presence_penalty": 0.5},
        {"temperature": 2, "seed": i, "logit_bias": letters, "frequency_penalty": 0.4, "extra_body": {"top_k": 20}},
    ][i % 4]
    extra = {"ignore_eos": True} | sampling.pop("extra_body", {})
    text = f"Question {i}: " + "how many wings, " * (i % 7) + "what colour?"
    messages = [{"role": "user", "content": text}]
    if i % 5 == 0:
        messages.insert(0, {"role": "system", "content": "You know butterflies. " * (i % 3 + 1)})
    return {
        "model": MODEL,
        "messages": messages,
        "max_tokens": 8 + i % 17,
        "logprobs": i % 8 == 0,
        "extra_body": extra,
    } | sampling


async def answer(client, i: int, letters: dict):
    """Text, finish reason and log probabilities of one streamed answer."""
    text, reasons, logprobs = "", [], []
    async for chunk in await client.chat.completions.create(stream=True, **request(i, letters)):
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        if choice.finish_reason:
            reasons.append(choice.finish_reason)
        if choice.logprobs:
            logprobs += [(token.token, token.logprob) for token in choice.logprobs.content]
    return text, reasons, logprobs


def test_64_streams_each_as_if_alone(server, letters):
    async def compare():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120
        ) as client:
            alone = [await answer(client, i, letters) for i in range(STREAMS)]
            together = await asyncio.gather(*(answer(client, i, letters) for i in range(STREAMS)))
            backwards = await asyncio.gather(*(answer(client, i, letters) for i in reversed(range(STREAMS))))
        return alone, together, backwards[::-1]

    alone, together, backwards = asyncio.run(compare())
    for i in range(STREAMS):
        assert together[i] == alone[i], f"request {i} differs in company"
        assert backwards[i] == alone[i], f"request {i} differs in other company"
        assert alone[i][1] == ["length"]
    assert len({text for text, _, _ in alone}) > STREAMS / 2


def test_a_long_prompt_does_not_stall_streams(server, letters, max_model_len):
    """A stream that runs gets tokens while a prompt as long as the context is read."""

    async def run():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120
        ) as client:
            stream = await client.chat.completions.create(stream=True, **(request(1, letters) | {"max_tokens": 100}))
            seen, order = 0, []

            async def read():
                nonlocal seen
                async for _ in stream:
                    seen += 1
                order.append("stream")

            reader = asyncio.create_task(read())
            while seen < 3:
                await asyncio.sleep(0.001)
            tokens = [7] * (max_model_len - 2)
            await client.completions.create(model=MODEL, prompt=tokens, max_tokens=1, temperature=0)
            order.append("prompt")
            await reader
            return seen

    assert asyncio.run(run()) > 3


@pytest.mark.parametrize("streams", [200])
def test_more_streams_than_places(server, letters, streams):
    """They wait their turn, or are told to come back; every answer that begins also ends."""

    async def one(client, i):
        try:
            return (await answer(client, i, letters))[1]
        except openai.RateLimitError:
            return "refused"

    async def run():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120
        ) as client:
            return await asyncio.gather(*(one(client, i) for i in range(streams)))

    results = asyncio.run(run())
    assert all(result in (["length"], "refused") for result in results)
    assert results.count(["length"]) >= STREAMS
