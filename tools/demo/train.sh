#!/usr/bin/env bash
# Re-runs the whole recipe of the demo model: environment, data, tokenizer, training, export, greedy answers.
# Arguments go to train.py (for example --steps 50 for a quick look).
set -euo pipefail
cd "$(dirname "$0")"

python=${PYTHON:-python3}
[ -d .venv ] || "$python" -m venv .venv
.venv/bin/pip install --quiet --requirement requirements.txt
.venv/bin/python train.py "$@"
.venv/bin/python offline.py --count 200
.venv/bin/python greedy.py
