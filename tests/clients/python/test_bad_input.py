"""What no client library would send. Each gets a clear answer, and nobody else notices."""

import asyncio
import collections
import json
import resource
import socket

import pytest
from conftest import MODEL

CHAT = "/v1/chat/completions"
GOOD = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}


@pytest.fixture(autouse=True)
def still_serving(server):
    """After each of these tests the server answers as before."""
    yield
    status, answer = server.post(CHAT, GOOD)
    assert status == 200, answer
    assert server.get("/health")[0] == 200
    assert server.get("/ready")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b"{}{}",
        b'{"model": "m", "messages": [}',
        b'{"model": "m",}',
        b"{'model': 'm'}",
        b"not json at all",
        b"\x00",
        b"\xff\xfe{}",
        b'{"model": "\xc3\x28"}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_malformed_json(server, body):
    status, answer = server.post(CHAT, body)
    assert status == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert len(answer["error"]["message"]) > 10


@pytest.mark.parametrize("field", ["temperature", "top_p", "presence_penalty", "repetition_penalty", "min_p"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400, "1e-999999999999"])
def test_numbers_that_are_none(server, field, value):
    body = json.dumps(GOOD)[:-1] + f', "{field}": {value}}}'
    status, answer = server.post(CHAT, body.encode())
    if value == "1e-999999999999":
        # zero, in effect; right for some fields and wrong for others
        assert status in (200, 400)
    else:
        assert status == 400, answer


@pytest.mark.parametrize("field", ["max_tokens", "n", "seed", "top_k", "min_tokens", "priority", "top_logprobs"])
@pytest.mark.parametrize("value", ["NaN", "1e400", "9" * 400, "-" + "9" * 400])
def test_whole_numbers_that_are_none(server, field, value):
    body = {k: v for k, v in GOOD.items() if k != field} | {"logprobs": True}
    body = json.dumps(body)[:-1] + f', "{field}": {value}}}'
    status, answer = server.post(CHAT, body.encode())
    assert status == 400, answer


@pytest.mark.parametrize("value", [10**18, 2**31, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("field", ["max_tokens", "n", "min_tokens", "top_logprobs"])
def test_huge_counts(server, field, value):
    status, answer = server.post(CHAT, GOOD | {"logprobs": True, field: value})
    assert status == 400, answer


def test_unknown_fields_are_harmless(server):
    assert server.post(CHAT, GOOD | {"no_such_field": {"deep": [1]}})[0] == 200


def test_nulls_are_defaults(server):
    fields = ["temperature", "top_p", "n", "stop", "seed", "logit_bias", "stream", "stream_options", "user"]
    fields += ["max_completion_tokens", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"]
    assert server.post(CHAT, GOOD | dict.fromkeys(fields))[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_other_content_types(server, kind):
    """JSON is read whatever it calls itself, or refused with an error; never anything else."""
    status, answer = server.post(CHAT, GOOD, headers={"content-type": kind})
    assert status in (200, 400, 415)
    assert status == 200 or "error" in answer


def test_ten_megabytes(server):
    body = GOOD | {"messages": [{"role": "user", "content": "a " * 5_000_000}]}
    try:
        status, answer = server.post(CHAT, body)
    except (ConnectionResetError, BrokenPipeError):
        return  # refused while we were still sending, which is as good
    assert status in (400, 413)
    assert answer["error"]["message"]


def test_ten_megabytes_without_their_length(server):
    def chunks():
        for _ in range(160):
            yield b" " * 65536

    try:
        status, _, _ = server.request("POST", CHAT, chunks(), {"content-type": "application/json"})
    except (ConnectionResetError, BrokenPipeError):
        return
    assert status in (400, 413)


def test_a_length_that_is_a_lie(server):
    with server.connect() as peer:
        peer.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{")
        peer.settimeout(2)
        answer = receive(peer)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4",))


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:24]),
)
def test_what_is_no_http(server, sent):
    with server.connect() as peer:
        peer.settimeout(2)
        try:
            peer.sendall(sent)
            answer = receive(peer)
        except (ConnectionResetError, BrokenPipeError):
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.")


def test_vanishing_in_the_middle_of_a_request(server):
    for cut in (10, 60, 120):
        with server.connect() as peer:
            body = json.dumps(GOOD).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            peer.sendall((head.encode() + body)[:cut])


def test_slow_clients_hold_nobody_up(server):
    """Requests that arrive a byte at a time stay open while others are served."""
    peers = [server.connect() for _ in range(50)]
    try:
        for peer in peers:
            peer.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-le")
        assert server.post(CHAT, GOOD)[0] == 200
    finally:
        for peer in peers:
            peer.close()


def test_a_client_that_does_not_read(server):
    """The engine never waits for a slow reader, and what it wrote is dropped with the connection."""
    body = json.dumps(GOOD | {"stream": True, "n": 4, "max_tokens": 200, "ignore_eos": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    peer.connect((server.host, server.port))
    with peer:
        peer.sendall(head.encode() + body)
        assert server.post(CHAT, GOOD)[0] == 200
        server.wait_until(lambda: server.running() == 0, "the answer is complete although nobody reads")
    server.wait_until_idle()


def test_ten_thousand_requests_at_once(server):
    """Each is served or told to come back; none hangs, none fails otherwise."""
    requests = 10_000
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    places = min(requests, files[1] - 200)
    body = json.dumps(GOOD | {"max_tokens": 2}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
    sent = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def ask(place):
        async with place:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(sent)
            answer = await reader.read()
            writer.close()
            return answer[9:12].decode()

    async def ask_all():
        place = asyncio.Semaphore(places)
        return collections.Counter(await asyncio.gather(*(ask(place) for _ in range(requests))))

    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    try:
        statuses = asyncio.run(asyncio.wait_for(ask_all(), 300))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
    assert set(statuses) <= {"200", "429"}, statuses
    assert statuses["200"] >= 1000
    server.wait_until_idle()


def receive(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except TimeoutError:
        return b""
