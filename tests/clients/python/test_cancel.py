"""A client that leaves takes its work with it, at once."""

import json
import time

import pytest
from conftest import MODEL

# what the server has to free sequences and blocks, counted from the moment the client is gone
AT_ONCE = 0.1


@pytest.fixture
def long_answer(client, server, max_model_len):
    """Starts a stream that would go on for as long as the context lasts."""

    def start(text="Tell me everything about moths.", **options):
        return client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": text}],
            temperature=1,
            stream=True,
            extra_body={"ignore_eos": True},
            **options,
        )

    return start


def freed_at_once(server, begin) -> None:
    """`begin` starts requests and returns how to leave them; the gauges then have to be back within
    `AT_ONCE`. A busy machine may hold up one attempt, but not three."""
    times = []
    for _ in range(3):
        leave = begin()
        assert server.running() > 0, "the answer was over before it could be cancelled"
        assert server.kv_usage() > 0
        leave()
        times.append(server.wait_until_idle())
        if times[-1] <= AT_ONCE:
            return
    pytest.fail(f"freed only after {min(times) * 1000:.0f} ms")


def test_closing_a_stream(long_answer, server):
    def begin():
        stream = long_answer()
        for _ in range(3):
            next(stream)
        return stream.close

    freed_at_once(server, begin)


def test_closing_many_streams(long_answer, server):
    def begin():
        streams = [long_answer(f"Tell me about moth number {i}.") for i in range(16)]
        for stream in streams:
            next(stream)
        assert server.running() > 1
        return lambda: [stream.close() for stream in streams]

    freed_at_once(server, begin)


def test_closing_a_stream_of_several_choices(long_answer, server):
    def begin():
        stream = long_answer(n=4)
        next(stream)
        return stream.close

    freed_at_once(server, begin)


def test_leaving_before_a_whole_answer(server):
    """Not streaming: there is nothing to read yet, and the server still notices."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Go on"}], "ignore_eos": True}
    body = json.dumps(body | {"n": 4, "temperature": 1}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"

    def begin():
        peer = server.connect()
        peer.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        server.wait_until(lambda: server.running() == 4, "all choices are running")
        return peer.close

    freed_at_once(server, begin)


def test_leaving_the_queue(long_answer, server):
    """Requests that still wait for a place go too, and those that stay are served."""
    streams = [long_answer(f"Moth number {i}?", max_tokens=100) for i in range(100)]
    keep, leave = streams[:4], streams[4:]
    for stream in leave:
        stream.close()
    for stream in keep:
        chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
    server.wait_until_idle()


def test_over_and_over(long_answer, server):
    """Nothing is lost with time."""
    for i in range(30):
        stream = long_answer(f"{i}")
        next(stream)
        stream.close()
    server.wait_until_idle()


def test_others_go_on(long_answer, chat, server):
    """A cancel in the same batch does not touch the answer of a neighbour."""
    options = {"max_tokens": 64, "extra_body": {"ignore_eos": True}, "stream": True}
    alone = [c.choices[0].delta.content for c in chat("Describe a wing.", **options)]
    neighbour = long_answer()
    next(neighbour)
    stream = chat("Describe a wing.", **options)
    texts = [next(stream).choices[0].delta.content for _ in range(3)]
    neighbour.close()
    texts += [c.choices[0].delta.content for c in stream]
    assert "".join(text or "" for text in texts) == "".join(text or "" for text in alone)


def test_aborted_requests_do_not_count_as_successes(long_answer, server):
    def successes():
        return server.metric("vllm:request_success_total", finished_reason="stop") + server.metric(
            "vllm:request_success_total", finished_reason="length"
        )

    before = successes()
    stream = long_answer()
    next(stream)
    stream.close()
    server.wait_until_idle()
    time.sleep(0.05)
    assert successes() == before
