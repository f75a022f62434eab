"""Measures Vlinders and its peers on the same weights, in turn, and prints ratios of medians; standard library only.

    python3 benches/compare/compare.py --model DIR --gguf bf16=m-bf16.gguf --gguf q8=m-q8_0.gguf --gguf q4=m-q4_0.gguf \
        --llama-bench /path/to/llama-bench [--llama-server /path/to/llama-server] [--svg compare.svg] \
        [--transformers PYTHON] [--mistralrs PYTHON]

DIR is a Hugging Face folder (`make-checkpoint` writes one with random weights, `make-gguf` its GGUF file, both programs of
crates/testkit; `llama-quantize` makes the others of that); each --gguf names the same weights in a
format that both know: bf16, f16, q8 (Q8_0), q4 (Q4_0 there, four bits with minima here) or q4_k_m (both read the file).
Rounds alternate between the engines, so that a machine whose speed drifts disturbs all alike. With --llama-server the whole
servers are measured too, by `vlinders bench`. --transformers and --mistralrs name Pythons that have these packages; they
read DIR, and are asked for the formats that they have.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What our side is told for each format; bf16 and f16 are types of the checkpoint, the others round it.
OURS = {
    "bf16": [],
    "f16": ["--dtype", "f16"],
    "q8": ["--quantization", "q8"],
    "q4": ["--quantization", "q4"],
    "q4_k_m": [],
}
# What the Python peers are told, for the formats that they have.
TRANSFORMERS = {"bf16": ["--dtype", "bf16"], "f16": ["--dtype", "f16"]}
MISTRALRS = {"bf16": [], "q8": ["--quantization", "Q8_0"], "q4": ["--quantization", "Q4K"]}


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def built(*arguments) -> Path:
    """Builds with cargo and gives the executable."""
    lines = run(["cargo", *arguments, "--message-format=json"], cwd=ROOT).splitlines()
    found = [json.loads(line).get("executable") for line in lines if line.startswith("{")]
    return Path([path for path in found if path][-1])


def model_of(options, form, gguf):
    """What our side reads."""
    return gguf if form == "q4_k_m" else options.model


def python_peer(python, script, options, words, **environment) -> dict:
    command = [python, Path(__file__).with_name(script), options.model, *words, "--answer", options.answer]
    lines = run(command, env={**os.environ, **environment}).splitlines()
    return json.loads(next(line for line in reversed(lines) if line.startswith("{")))


def engine_round(options, throughput, form, gguf) -> dict:
    """Tokens a second of the engines: prefill of 512 tokens, decode from an empty context."""
    ours = {}
    for what, prompt, answer in [("prefill", 512, 2), ("decode", 4, options.answer)]:
        command = [throughput, model_of(options, form, gguf), *OURS[form], "--prompt", prompt, "--answer", answer, "--rounds", 1]
        found = json.loads(run([*command, "--threads", options.threads]))
        ours[what] = found[f"{what}_tokens_per_s"]
    command = [options.llama_bench, "-m", gguf, "-t", options.threads, "-r", 1, "-p", 512, "-n", options.answer]
    found = json.loads(run([*command, "-o", "json"]))
    peers = {"llama.cpp": {"prefill" if row["n_prompt"] else "decode": row["avg_ts"] for row in found}}
    threads = str(options.threads)
    if options.transformers and form in TRANSFORMERS:
        words = [*TRANSFORMERS[form], "--threads", threads]
        peers["transformers"] = python_peer(options.transformers, "transformers_peer.py", options, words)
    if options.mistralrs and form in MISTRALRS:
        script, words = "mistralrs_peer.py", MISTRALRS[form]
        peers["mistral.rs"] = python_peer(options.mistralrs, script, options, words, RAYON_NUM_THREADS=threads)
    return {(what, peer): (ours[what], theirs[what]) for peer, theirs in peers.items() for what in ours}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A server that is up while the block runs."""

    def __init__(self, command, port, ready):
        self.command, self.url, self.ready = [str(word) for word in command], f"http://127.0.0.1:{port}", ready

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(1200):
            try:
                with urllib.request.urlopen(self.url + self.ready, timeout=1) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, OSError):
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.log.seek(0)
        sys.exit(f"{self.command[0]} did not start:\n{self.log.read()[-2000:].decode(errors='replace')}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def served(options, vlinders, server, model) -> dict:
    """Output tokens a second at each number of streams."""
    rates = {}
    for streams in options.streams:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            command = [vlinders, "bench", "--url", server.url, "--model", model, "--concurrency", streams]
            command += ["--num-requests", streams, "--input-len", 129, "--output-len", 64, "--warmup", 1]
            run([*command, "--json", report], env={**os.environ, "NO_COLOR": "1"})
            rates[streams] = json.loads(report.read_text())["throughput"]["output_tokens_per_second"]
    return rates


def server_round(options, vlinders, form, gguf) -> dict:
    port, slots = free_port(), max(options.streams)
    command = [vlinders, "serve", model_of(options, form, gguf), "--name", "m", "--host", "127.0.0.1", "--port", port]
    command += ["--max-model-len", 512, *OURS[form]]
    with Server(command, port, "/ready") as server:
        ours = served(options, vlinders, server, "m")
    port = free_port()
    command = [options.llama_server, "-m", gguf, "--host", "127.0.0.1", "--port", port, "-t", options.threads]
    command += ["-np", slots, "-c", 512 * slots, "--alias", "m", "--no-webui"]
    with Server(command, port, "/health") as server:
        theirs = served(options, vlinders, server, "m")
    return {(f"{n} streams, served", "llama.cpp"): (ours[n], theirs[n]) for n in options.streams}


def medians(rounds) -> dict:
    """For each measure: our median, theirs, and the median of the ratios of the rounds."""
    result = {}
    for measure in rounds[0]:
        pairs = [found[measure] for found in rounds]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        result[measure] = (ours, theirs, statistics.median(a / b for a, b in pairs))
    return result


def svg(rows) -> str:
    """Bars of ratios: to the right of the line we are faster."""
    height, left, unit = 26, 300, 110
    widest = max(2.0, *(ratio for *_, ratio in rows))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + unit * widest + 80:.0f}" '
        f'height="{height * len(rows) + 40}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="16">Vlinders : peer, tokens a second</text>',
    ]
    for i, (name, _, _, ratio) in enumerate(rows):
        y = 30 + i * height
        colour = "#2a7" if ratio >= 1 else "#c63"
        out.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>')
        out.append(f'<rect x="{left}" y="{y}" width="{unit * ratio:.0f}" height="18" fill="{colour}"/>')
        out.append(f'<text x="{left + unit * ratio + 6:.0f}" y="{y + 14}">{ratio:.2f}</text>')
    bottom = 30 + height * len(rows)
    out.append(f'<path d="M{left + unit} 24V{bottom}" stroke="#333" stroke-dasharray="3 3"/></svg>')
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--gguf", action="append", required=True, metavar="FORMAT=FILE")
    parser.add_argument("--llama-bench", type=Path, required=True)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--transformers", type=Path, metavar="PYTHON", help="a Python with torch and transformers")
    parser.add_argument("--mistralrs", type=Path, metavar="PYTHON", help="a Python with mistralrs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answer", type=int, default=48, help="tokens that are decoded")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    files = dict(pair.split("=", 1) for pair in options.gguf)
    if unknown := set(files) - set(OURS):
        parser.error(f"--gguf: {', '.join(sorted(unknown))}: write one of {', '.join(OURS)}")
    throughput = built("bench", "-p", "vlinders-runner", "--bench", "throughput", "--no-run")
    vlinders = built("build", "--release", "-p", "vlinders") if options.llama_server else None
    rows = []
    print("| weights | what | peer | Vlinders | peer's | ratio |\n|---|---|---|---|---|---|")
    for form, gguf in files.items():
        rounds = []
        for _ in range(options.rounds):
            found = engine_round(options, throughput, form, gguf)
            if vlinders:
                found |= server_round(options, vlinders, form, gguf)
            rounds.append(found)
        for (measure, peer), (ours, theirs, ratio) in medians(rounds).items():
            rows.append((f"{form} {measure}, {peer}", ours, theirs, ratio))
            print(f"| {form} | {measure} | {peer} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} |", flush=True)
    if options.svg:
        options.svg.write_text(svg(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
