"""SIGTERM: nobody new comes in, everybody inside finishes, and the process ends well."""

import openai
import pytest
from conftest import MODEL

from server import Process


def connect(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60)


def start_stream(server, **options):
    return connect(server).chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe a chrysalis."}],
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
        **options,
    )


def test_running_answers_finish():
    with Process() as server:
        stream = start_stream(server, max_tokens=300)
        chunks = [next(stream) for _ in range(3)]
        server.terminate()
        server.wait_until(lambda: not is_ready(server), "readiness goes off", seconds=5)
        with pytest.raises((openai.APIConnectionError, openai.InternalServerError)):
            connect(server).chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Too late?"}], max_tokens=1
            )
        chunks += list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
        assert server.process.wait(timeout=20) == 0


def test_the_grace_time_ends():
    """Answers that take longer end with an error, never silently cut, and the exit is still clean."""
    with Process("--shutdown-grace", "200ms") as server:
        streams = [start_stream(server, n=8) for _ in range(8)]
        for stream in streams:
            next(stream)
        server.terminate()
        for stream in streams:
            reasons, failed = [], False
            try:
                for chunk in stream:
                    reasons += [c.finish_reason for c in chunk.choices if c.finish_reason]
            except openai.APIError:
                failed = True
            assert failed or len(reasons) == 8
        assert server.process.wait(timeout=20) == 0


def test_at_rest_it_ends_at_once():
    with Process() as server:
        server.terminate()
        assert server.process.wait(timeout=5) == 0


def is_ready(server) -> bool:
    try:
        return server.get("/ready")[0] == 200
    except OSError:
        return False
