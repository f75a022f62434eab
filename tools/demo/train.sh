#!/usr/bin/env bash
# Re-runs the whole recipe of the demo model: environment, data, tokenizer, training, export, greedy answers.
# About 80 minutes on two idle cores. STEPS=50 PRACTICE=10 ./train.sh is a quick look.
set -euo pipefail
cd "$(dirname "$0")"

python=${PYTHON:-python3}
[ -d .venv ] || "$python" -m venv .venv
.venv/bin/pip install --quiet --requirement requirements.txt
.venv/bin/python train.py --steps "${STEPS:-4000}"
# A second, shorter course with more of what is learnt last.
.venv/bin/python train.py --resume --steps "${PRACTICE:-600}" --lr 0.006 --adam-lr 0.001 --plateau 0.3 \
    --shares counting=28,tools=20,talk=10,butterflies=18,addition=10,words=12,json=9
.venv/bin/python offline.py --count 200
.venv/bin/python greedy.py
.venv/bin/python rendered.py
