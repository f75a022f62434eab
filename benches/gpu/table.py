"""Makes the table of benches/gpu/check.sh, and its JSON file, of the lines that its parts printed.

    python3 table.py device|emulated RESULTS JSON

Ends with status 1 when a part or a test failed or a target was missed. Standard library only.
"""

import json
import sys

# Bytes that a copy moves count twice, read and written, and a step of decoding reads its weights once.
DECODE_SHARE = 0.85


def ratio(a, b):
    return a / b if a is not None and b else None


def targets(value, more):
    """Rows of what, value, target, unit, whether less is better. None is: not measured."""
    copy, product = value("copy"), value("product")
    single, fp8 = value("decode 1 stream bf16"), value("decode 1 stream fp8")
    read = more("decode 1 stream bf16", "weights_read")
    many, step, device = value("decode 256 streams"), value("step 256 streams"), value("device step 256 streams")
    ceiling = copy * 1e9 / read if copy and read else None
    host = ratio(step - device, step) if step and device else None
    both, prefill = value("decode 1 stream fp8+fp8"), value("prefill 8192 fp8+fp8")
    # Where the device multiplies numbers of eight bits.
    eight_bits = [
        ("  and weights and activations of eight bits", value("decode 256 streams fp8+fp8, int8 cache"), 12_000, "tokens/s", False),
        ("fp8 with fp8 activations against bf16, 1 stream", ratio(both, single), 1.7, "x", False),
        ("  the same, prefill 8192", ratio(prefill, value("prefill 8192")), 1, "x", False),
    ]

    def against_peers(streams):
        """Ours of the length that the peer had time for, at what a token took on the way to our full length."""
        peers = value(f"transformers {streams} streams")
        first, rest = (more(f"decode {streams} streams", field) for field in ("first_s", "rest_s"))
        if not peers or not rest:
            return None
        answer, full = more(f"transformers {streams} streams", "answer"), more(f"decode {streams} streams", "answer")
        return ratio(streams * answer / (first + rest * (answer - 1) / max(full - 1, 1)), peers)

    return [
        ("decode, 1 stream, bf16", single, ceiling and DECODE_SHARE * ceiling, "tokens/s", False),
        ("  share of copy bandwidth / weight bytes", ratio(single, ceiling), DECODE_SHARE, "", False),
        ("decode, 256 streams, bf16", many, 12_000, "tokens/s", False),
        ("  with keys and values of eight bits", value("decode 256 streams int8 cache"), 12_000, "tokens/s", False),
        ("  against transformers continuous batching", against_peers(256), 3, "x", False),
        ("  the same with 32 streams", against_peers(32), 3, "x", False),
        ("prefill 8192, share of bf16 matrix product", ratio(value("prefill 8192"), product), 0.6, "", False),
        ("fp8 against bf16, 1 stream", ratio(fp8, single), 1.7, "x", False),
        ("host time of a decode step, 256 streams", host, 0.05, "of step", True),
        ("process start to first token, 8B", value("start to first token"), 10, "s", True),
    ] + [row for row in eight_bits if row[1] is not None]


def shown(number):
    if number is None:
        return "not measured"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def details(measured, value):
    """All numbers, those of one kernel for different numbers of tokens in one line; shares of their ceiling in brackets."""
    lines = {}
    for row in measured.values():
        name, at, size = row["what"].partition(" n=")
        share = ratio(row["value"], value(row.get("of", "")))
        text = shown(row["value"]) + ("" if share is None else f" ({share:.2f})")
        lines.setdefault((name, row["unit"]), []).append(f"{size}: {text}" if at else text)
    for (name, unit), texts in lines.items():
        print(f"{name}, {unit}".ljust(38), "  ".join(texts))
    print()


def line(what, value, target, share, ok):
    print(f"{what:48} {value:>12} {target:>20} {share:>6}  {ok}")


def main():
    mode, results, path = sys.argv[1:]
    with open(results) as file:
        rows = [json.loads(text) for text in file if text.strip()]
    measured = {row["what"]: row for row in rows if "what" in row}
    is_device = mode == "device"

    def value(what):
        return measured[what]["value"] if is_device and what in measured else None

    def more(what, field):
        return measured.get(what, {}).get(field) if is_device else None

    failures = [f"{row['part']}: {row['failed']}" for row in rows if "part" in row]
    device = next((row for row in rows if "device" in row), {})
    if is_device:
        details(measured, value)
    elif measured:
        print(f"{len(measured)} numbers of a tiny model on an emulated device mean nothing and are left out\n")
    print(f"{device.get('device') or 'no device'}, driver {device.get('driver') or 'unknown'}\n")
    line("what", "value", "target", "ratio", "")
    for row in rows:
        if "tests" in row:
            ok = row["passed"] == row["total"] > 0
            if not ok:
                failures.append(f"tests of {row['tests']}: {', '.join(row['failed']) or 'none ran'}")
            line(f"tests: {row['tests']}", str(row["passed"]), str(row["total"]), "", "ok" if ok else "FAILED")
    rated = []
    for what, found, target, unit, less in targets(value, more):
        share = ratio(found, target)
        ok = None if share is None else share <= 1 if less else share >= 1
        rated.append({"what": what.strip(), "value": found, "target": target, "unit": unit, "ok": ok})
        mark = {None: "", True: "ok", False: "missed"}[ok]
        sign = "<=" if less else ">="
        goal = "not measured" if target is None else f"{sign} {shown(target)} {unit}".strip()
        line(what, shown(found), goal, "" if share is None else f"{share:.2f}", mark)
    answer = more("decode 256 streams", "answer")
    if answer and answer != more("decode 256 streams", "asked"):
        print(f"\nanswers of 256 streams were shortened to {answer} tokens, to fit the time")
    for streams in (32, 256):
        answer = more(f"transformers {streams} streams", "answer")
        if answer:
            print(f"\ntransformers: {streams} prompts of 1000 with answers of {answer} tokens, against ours of that length")
    for failure in failures:
        print(f"\nFAILED: {failure}")
    missed = [row["what"] for row in rated if row["ok"] is False]
    report = {"mode": mode, **device, "targets": rated, "failures": failures, "results": rows}
    with open(path, "w") as file:
        json.dump(report, file, indent=1)
    print(f"\nwritten: {path}")
    return 1 if failures or missed else 0


if __name__ == "__main__":
    sys.exit(main())
