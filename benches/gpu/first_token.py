"""Measures how long `vlinders serve` takes from its start to its first token, with weights of 8B in the page cache.

    python3 first_token.py --vlinders PROGRAM [--tiny] [--device cuda]

Writes a checkpoint of random numbers (16 GB; --tiny: of the tiny model) to memory or to a disk, asks the server for one
token again and again until it answers, and prints a line of JSON. Standard library only.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "crates/runner/benches/gpu"
TOKENIZER = ROOT / "crates/demo/assets"
# Random bytes that are written again and again: what weights say does not matter, but bf16 must be finite numbers.
PIECE = 1 << 24


def tensors(config):
    """Names and shapes, by the names of Llama."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q, kv = (config[heads] * config["head_dim"] for heads in ("num_attention_heads", "num_key_value_heads"))
    yield "model.embed_tokens.weight", [vocab, hidden]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", [hidden]
        yield f"{prefix}.post_attention_layernorm.weight", [hidden]
        for name, rows, cols in (("q", q, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, q)):
            yield f"{prefix}.self_attn.{name}_proj.weight", [rows, cols]
        for name, rows, cols in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            yield f"{prefix}.mlp.{name}_proj.weight", [rows, cols]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [vocab, hidden]


def write_checkpoint(folder, config_file):
    config = json.loads(config_file.read_text())
    header, end = {}, 0
    for name, shape in tensors(config):
        size = 2
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Small numbers of both signs: the upper byte of a bf16 near 0.01 is 0x3c or 0xbc.
    noise = bytearray(os.urandom(PIECE))
    noise[1::2] = bytes(0x3C | byte & 0x80 for byte in noise[1::2])
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while end > 0:
            end -= file.write(memoryview(noise)[: min(PIECE, end)])
    shutil.copy(config_file, folder / "config.json")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder / name)
    return (folder / "model.safetensors").stat().st_size


def first_token(command, port):
    started = time.perf_counter()
    server = subprocess.Popen(command, stdout=sys.stderr)
    body = json.dumps({"model": "model", "prompt": [1, 2, 3], "max_tokens": 1, "temperature": 0}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"}
    )
    try:
        while server.poll() is None:
            try:
                answer = json.load(urllib.request.urlopen(request, timeout=60))
                seconds = time.perf_counter() - started
                if answer["usage"]["completion_tokens"] != 1:
                    raise SystemExit(f"no token: {answer}")
                return seconds
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise SystemExit(f"{error.code}: {error.read().decode()}") from error
            except OSError:
                pass
            time.sleep(0.01)
        raise SystemExit(f"the server ended with status {server.returncode}")
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vlinders", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    config = BENCH / ("tiny.json" if options.tiny else "llama-3-8b.json")
    room = 20 << 30
    memory = "/dev/shm"
    place = memory if os.path.isdir(memory) and shutil.disk_usage(memory).free > room else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        began = time.perf_counter()
        size = write_checkpoint(Path(folder), config)
        writing = time.perf_counter() - began
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [options.vlinders, "serve", folder, "--name", "model", "--device", options.device]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        times = [first_token(command, port) for _ in range(2)]
    # The second start finds the driver and the files warm, the first has written them.
    more = {"first_s": round(times[0], 3), "weight_bytes": size, "writing_s": round(writing, 1)}
    print(json.dumps({"what": "start to first token", "value": round(times[1], 3), "unit": "s", **more}))


if __name__ == "__main__":
    main()
