"""A server that asks for a key and has few places."""

import asyncio

import openai
import pytest
from conftest import MODEL

HELLO = [{"role": "user", "content": "Hello"}]


def connect(server, key, kind=openai.OpenAI):
    return kind(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=120)


def ask(client, **options):
    return client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4, **options)


def test_right_key(guarded, key):
    assert ask(connect(guarded, key)).choices
    assert connect(guarded, key).models.list().data


@pytest.mark.parametrize("wrong", ["", "wrong", "{key}x", "{shorter}", "{upper}", "é"])
def test_wrong_keys(guarded, key, wrong):
    wrong = wrong.format(key=key, shorter=key[:-1], upper=key.upper())
    # the client sends plain ASCII only
    headers = {"authorization": f"Bearer {wrong}".encode("utf-8")}
    status, _, body = guarded.request("GET", "/v1/models", headers=headers)
    assert status == 401
    assert b'"error"' in body
    assert key.encode() not in body


def test_wrong_key_is_an_authentication_error(guarded):
    with pytest.raises(openai.AuthenticationError) as error:
        ask(connect(guarded, "wrong"))
    assert error.value.status_code == 401
    assert error.value.code == "invalid_api_key"


@pytest.mark.parametrize("header", [{}, {"authorization": "Basic abc"}, {"authorization": "Bearer"}])
def test_no_key(guarded, header):
    for path in ["/v1/models", "/v1/chat/completions", "/v1/completions"]:
        method = "GET" if path == "/v1/models" else "POST"
        status, headers, _ = guarded.request(method, path, b"{}" if method == "POST" else None, header)
        assert status == 401
        assert headers["www-authenticate"].startswith("Bearer")


def test_probes_need_no_key(guarded):
    assert guarded.get("/health")[0] == 200
    assert guarded.get("/ready")[0] == 200
    assert guarded.get("/metrics")[0] == 200


def test_more_than_the_queue_holds(guarded, key):
    """Those over the limit are told when to come back; those within it are served."""

    async def one(client, i):
        try:
            messages = [{"role": "user", "content": f"Count to {i}."}]
            answer = await client.chat.completions.create(
                model=MODEL, messages=messages, max_tokens=200, extra_body={"ignore_eos": True}
            )
            return answer.usage.completion_tokens
        except openai.RateLimitError as error:
            return error

    async def run():
        async with connect(guarded, key, openai.AsyncOpenAI) as client:
            return await asyncio.gather(*(one(client, i) for i in range(24)))

    results = asyncio.run(run())
    refused = [result for result in results if isinstance(result, openai.RateLimitError)]
    assert refused
    assert results.count(200) == 24 - len(refused) > 0
    for error in refused:
        assert error.status_code == 429
        assert int(error.response.headers["retry-after"]) >= 1
        assert error.code
    guarded.wait_until_idle()
    assert ask(connect(guarded, key)).choices


def test_retries_of_the_client_get_through(guarded, key):
    """With its own retries on, the official client needs no help against a full queue."""

    async def run():
        client = openai.AsyncOpenAI(
            base_url=f"{guarded.url}/v1", api_key=key, max_retries=10, timeout=120
        )
        async with client:
            requests = [
                client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8) for _ in range(12)
            ]
            return await asyncio.gather(*requests)

    assert len(asyncio.run(run())) == 12
