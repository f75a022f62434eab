"""Fixtures: clients of the servers that run.sh started, and a way to look at them from outside."""

import os
import secrets

import openai
import pytest

from server import Server

MODEL = "vlinders-demo"


@pytest.fixture(scope="session")
def server() -> Server:
    """The server under test."""
    return Server(os.environ["VLINDERS_TEST_URL"])


@pytest.fixture(scope="session")
def guarded() -> Server:
    """A second server that asks for a key and has a queue of few places."""
    return Server(os.environ["VLINDERS_TEST_GUARDED_URL"])


@pytest.fixture(scope="session")
def key() -> str:
    """A key of the guarded server."""
    return os.environ["VLINDERS_TEST_KEY"]


@pytest.fixture
def client(server):
    """The official client. It does not retry, so that each test sees the first answer."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120
    ) as client:
        yield client


@pytest.fixture
def nonce() -> str:
    """Digits that no earlier prompt began with, so that nothing of it is cached."""
    return str(secrets.randbelow(10**12)).zfill(12)


@pytest.fixture(scope="session")
def max_model_len(server) -> int:
    """Tokens that prompt and answer may have together."""
    return server.get_json(f"/v1/models/{MODEL}")["max_model_len"]


@pytest.fixture(scope="session")
def letters(server) -> dict:
    """A `logit_bias` that leaves the model nothing but single letters. It has been trained to be sure of
    its answers; among letters it is not, so that seeds and penalties show."""
    tokens = [server.tokenize(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return {str(token): 100 for [token] in tokens}


@pytest.fixture
def chat(client):
    """Asks one question, greedily unless told otherwise."""

    def ask(text, **options):
        options.setdefault("temperature", 0)
        options.setdefault("max_tokens", 32)
        return client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": text}], **options
        )

    return ask


@pytest.fixture(autouse=True)
def idle_afterwards(server):
    """No test may leave work behind: it would be a leak, and would disturb the next one."""
    yield
    server.wait_until_idle()
