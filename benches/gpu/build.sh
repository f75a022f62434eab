#!/usr/bin/env bash
# Builds what benches/gpu/check.sh runs on a GPU node: tests of kernels and models, the GPU bench, and vlinders itself.
#
#   benches/gpu/build.sh [--archs 90] [FOLDER]
#
# FOLDER is target/gpu-check by default; it gets one archive, check.tar.xz, and the list of what is in it. Kernels get code
# for the architectures that are named (90 is Hopper; `90,100`; or `all`, as releases have it). Needs nvcc, which
# scripts/cuda-toolchain.sh sets up, g++ and xz. Carry FOLDER together with the repository: goldens and scripts are in it.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit "$1"
}

archs=90
folder=
while (($#)); do
  case $1 in
    --archs) archs=${2:?--archs needs a list such as 90,100} && shift ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) [[ -z $folder ]] || usage 2 >&2 && folder=$1 ;;
  esac
  shift
done
folder=$(realpath -m -- "${folder:-$root/target/gpu-check}")
if [[ $archs == all ]]; then archs=; fi
export VLINDERS_CUDA_ARCHS=$archs

cd "$root"
part=$(mktemp -d)
trap 'rm -rf "$part"' EXIT
mkdir "$part/bin"
# Tests need the emulation to be compiled; vlinders and the tests share all that they depend on.
cargo=(cargo --locked)
profile=(--profile carried --message-format json-render-diagnostics)

"${cargo[@]}" test --no-run "${profile[@]}" -p vlinders-kernels -p vlinders-models -p vlinders-runner --lib \
  --test invariance --test golden --test tensor_parallel --test it --bench gpu \
  --features vlinders-runner/cuda,vlinders-runner/emulation >"$part/messages"
"${cargo[@]}" build "${profile[@]}" -p vlinders --bin vlinders --features cuda,emulation >>"$part/messages"

python3 - "$part/messages" "$part/bin" <<'EOF'
import json, os, shutil, sys

messages, folder = sys.argv[1:]
# Name and kind of a target, and what it is carried as.
WANTED = {
    ("vlinders_kernels", "lib"): "kernels",
    ("invariance", "test"): "invariance",
    ("golden", "test"): "golden",
    ("tensor_parallel", "test"): "tensor_parallel",
    ("it", "test"): "it",
    ("gpu", "bench"): "gpu",
    ("vlinders", "bin"): "vlinders",
}
for line in open(messages):
    message = json.loads(line)
    if message["reason"] == "compiler-artifact" and message["executable"]:
        target = message["target"]
        name = WANTED.pop((target["name"], target["kind"][0]), None)
        if name:
            shutil.copy(message["executable"], os.path.join(folder, name))
sys.exit(f"not built: {', '.join(WANTED.values())}" if WANTED else 0)
EOF

mkdir -p "$folder"
(cd "$part/bin" && ls -l) | awk 'NR > 1 { printf "%10d  %s\n", $5, $9 }' >"$folder/contents"
# One dictionary for all: the binaries have most of their code in common.
tar -C "$part" -c bin | xz --lzma2=preset=6,dict=128MiB >"$folder/check.tar.xz"
cat "$folder/contents"
tracked=$(git ls-files -z | xargs -0 stat -c %s | awk '{ sum += $1 } END { print sum }')
archive=$(stat -c %s "$folder/check.tar.xz")
printf '%s: %.1f MB; with the %.1f MB of the repository %.1f MB travel\n' "$folder/check.tar.xz" \
  "$((archive / 1000))e-3" "$((tracked / 1000))e-3" "$(((archive + tracked) / 1000))e-3"
