#!/usr/bin/env bash
# Re-runs the whole recipe of the demo model: environment, data, tokenizer, training, export, answers for tests.
# STEPS=50 ./train.sh is a quick look; ./train.sh --resume goes on from the latest checkpoint.
set -euo pipefail
cd "$(dirname "$0")"

python=${PYTHON:-python3}
[ -d .venv ] || "$python" -m venv .venv
.venv/bin/pip install --quiet --requirement requirements.txt
.venv/bin/python train.py --steps "${STEPS:-4000}" "$@"
.venv/bin/python offline.py --count 200
.venv/bin/python greedy.py
.venv/bin/python rendered.py
