#!/usr/bin/env bash
# Checks and measures vlinders on a GPU node: no network, no compiler, no Rust; Python with torch and transformers helps.
#
#   benches/gpu/check.sh [--emulated] [--only PART,PART] [--seconds N] [FOLDER]
#
# FOLDER has what benches/gpu/build.sh made, target/gpu-check by default. Runs from the repository's folder. First the tests
# of kernels and models on the device, then ceilings, whole models, Hugging Face transformers beside them, and
# kernels one by one, all within nine minutes: each part has a limit, and one that fails says so and does not stop the others.
# Prints one table and writes gpu-check.json, with logs beside it, to $OUT, or to the working directory. Parts are
# tests, ceilings, decode, prefill, step, streams, streams_int8, streams_fp8, peers, start, ranks (where there are several GPUs),
# linear, attention and sampling. With --seconds all of them together take at most N, 510 by default.
#
# With --emulated some tests and a tiny model run on the host, without a GPU: to try the script itself.
set -Eeuo pipefail

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit "$1"
}

# Seconds for all parts together; what is begun then is ended.
budget=510
emulated=
only=
folder=
while (($#)); do
  case $1 in
    --emulated) emulated=yes ;;
    --only) only=,${2:?--only needs parts},  && shift ;;
    --seconds) budget=${2:?--seconds needs a number} && shift ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) [[ -z $folder ]] || usage 2 >&2 && folder=$1 ;;
  esac
  shift
done
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${folder:-target/gpu-check}
out=${OUT:-$PWD}
if [[ ! -f $folder/check.tar.xz ]]; then
  echo "error: $folder has no check.tar.xz: run benches/gpu/build.sh where there is Rust, and carry the folder here" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/logs" "$work/tests" "$out"
# Python unpacks it where tar has no xz.
tar -C "$work" -xJf "$folder/check.tar.xz" 2>/dev/null ||
  python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$folder/check.tar.xz" "$work"
bin=$work/bin
results=$work/results
: >"$results"
export RUST_BACKTRACE=0
# Tests write nothing beside the sources.
export PROPTEST_FAILURE_PERSISTENCE=off

say() { printf '\n=== %s (%s s)\n' "$*" "$SECONDS"; }
left() { echo $((budget - SECONDS > 1 ? budget - SECONDS : 1)); }
wanted() { [[ -z $only || $only == *,$1,* ]]; }
record() { printf '%s\n' "$1" >>"$results"; }

# part NAME LIMIT COMMAND...: lines of JSON that it prints are results, everything else is its log.
part() {
  local name=$1 limit=$2 status=0
  shift 2
  if (($(left) < 5)); then
    record "{\"part\": \"$name\", \"failed\": \"no time was left for it\"}"
    return
  fi
  if ((limit > $(left))); then limit=$(left); fi
  say "$name, at most $limit s"
  timeout --kill-after=5 "$limit" "$@" >"$work/lines" 2>"$work/logs/$name.log" || status=$?
  grep '^{' "$work/lines" >>"$results" || true
  grep -v '^{' "$work/lines" >>"$work/logs/$name.log" || true
  if ((status == 0)); then return; fi
  local reason="ended with status $status"
  if ((status == 124 || status == 137)); then reason="did not end within $limit s"; fi
  echo "FAILED: $name $reason; the end of its log:"
  tail -n 6 "$work/logs/$name.log" | cut -c 1-300
  record "{\"part\": \"$name\", \"failed\": \"$reason\"}"
}

# One test in a process of its own: what spoils a device spoils it for one test.
# shellcheck disable=SC2317 # called by xargs
one_test() {
  local binary=$1 name=$2 status=0 log
  log=$work/tests/$(basename "$binary").${name//:/_}
  timeout --kill-after=5 "$TEST_LIMIT" "$binary" --exact "$name" --test-threads 1 >"$log" 2>&1 || status=$?
  case $status in
    0) echo "ok $name" ;;
    124 | 137) echo "timeout $name" ;;
    *) echo "failed $name" ;;
  esac
}
export -f one_test
export work

# tests BINARY LIMIT PATTERN: those whose names match.
tests() {
  local name=$1 limit=$2 pattern=$3 names passed failed total
  if ((limit > $(left))); then limit=$(left); fi
  names=$("$bin/$name" --list --format terse 2>/dev/null | sed -n 's/: test$//p' | grep -E "$pattern") || true
  total=$(grep -c . <<<"$names") || true
  # shellcheck disable=SC2016 # the inner shell expands them
  timeout --kill-after=5 "$limit" xargs -P "$jobs" -I{} bash -c 'one_test "$0" "$1"' "$bin/$name" {} \
    <<<"$names" >"$work/ended" || true
  passed=$(grep -c '^ok ' "$work/ended") || true
  failed=$(grep -v '^ok ' "$work/ended") || true
  # Those that never ended have no line.
  failed+=$(comm -23 <(sort <<<"$names") <(cut -d' ' -f2 "$work/ended" | sort) | sed 's/^/\nunfinished /')
  failed=$(grep . <<<"$failed" || true)
  printf '%-16s %s of %s tests passed\n' "$name" "$passed" "$total"
  local list='' shown=0
  while read -r how test; do
    [[ -n $test ]] || continue
    # The logs have them all.
    if (((shown += 1) <= 10)); then
      printf '  %s: %s\n' "$how" "$test"
      grep -A 3 'panicked at' "$work/tests/$name.${test//:/_}" 2>/dev/null |
        grep -vE 'backtrace|^$' | cut -c 1-200 | sed 's/^/      /' || true
    fi
    list+="\"$test\", "
  done <<<"$failed"
  record "{\"tests\": \"$name\", \"passed\": $passed, \"total\": $total, \"failed\": [${list%, }]}"
}

echo "vlinders: the GPU check"
jobs=8
export TEST_LIMIT=60
device=(--device cuda)
if [[ -n $emulated ]]; then
  echo "emulated: nothing here is a measurement"
  jobs=$(nproc)
  device=(--device emulated --tiny)
  record '{"device": "emulated", "driver": "none"}'
else
  export VLINDERS_TEST_DEVICE=cuda
  TEST_LIMIT=30
  gpu=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null | head -n 1) || true
  echo "device: ${gpu:-nvidia-smi shows none}"
  record "{\"device\": \"${gpu%%,*}\", \"driver\": \"${gpu##*, }\"}"
  python3 -c 'import torch, transformers; print(f"torch {torch.__version__}, transformers {transformers.__version__}")' ||
    echo "Python has no torch or no transformers: the peers will not be measured"
  # cuBLASLt and NCCL come as Python packages where no toolkit is installed.
  packages=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null) || true
  if [[ -n $packages ]]; then
    mkdir "$work/lib"
    ln -sf "$packages/nccl/lib/libnccl.so.2" "$work/lib/libnccl.so"
    cublas=$packages/cu13/lib
    if [[ ! -d $cublas ]]; then cublas=$packages/cublas/lib; fi
    if [[ -e $cublas/libcublasLt.so.13 ]]; then ln -sf "$cublas/libcublasLt.so.13" "$work/lib/libcublasLt.so"; fi
    export LD_LIBRARY_PATH=$work/lib:$cublas:$packages/nccl/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
fi

if wanted tests; then
  say "tests on the device"
  if [[ -n $emulated ]]; then
    tests kernels 60 'gpu::(norm|activation|embedding|sample)'
    tests golden 60 'kernels_of_gpus'
    tests it 60 '^gpu::(random|weights|what)'
  else
    tests kernels 75 '(^|::)gpu::'
    tests invariance 30 'on_a_gpu'
    tests golden 30 'kernels_of_gpus'
    tests tensor_parallel 30 'on_devices'
    tests it 45 '^gpu(_sampler)?::'
  fi
fi

bench() { part "$1" "$2" "$bin/gpu" "$1" "${device[@]}"; }
peer() { part "$1" "$2" python3 benches/gpu/transformers_baseline.py "${@:3}"; }

if wanted ceilings; then bench ceilings 30; fi
if wanted decode; then bench decode 45; fi
if wanted prefill; then bench prefill 30; fi
if wanted step; then bench step 40; fi
if wanted streams; then bench streams 110; fi
if wanted streams_int8; then bench streams_int8 90; fi
if wanted streams_fp8; then bench streams_fp8 70; fi
if [[ -z $emulated ]] && wanted peers; then peer peer_batching 75 batching; fi
if wanted start; then
  start=(--vlinders "$bin/vlinders")
  if [[ -n $emulated ]]; then start+=(--tiny --device emulated); fi
  part start 80 python3 benches/gpu/first_token.py "${start[@]}"
fi
if wanted ranks; then bench ranks 90; fi
if [[ -z $emulated ]] && wanted peers; then peer peer_single 75 single; fi
if wanted linear; then bench linear 75; fi
if wanted attention; then bench attention 60; fi
if wanted sampling; then bench sampling 20; fi

say "results"
status=0
mode=$([[ -n $emulated ]] && echo emulated || echo device)
python3 benches/gpu/table.py "$mode" "$results" "$out/gpu-check.json" || status=$?
tar -C "$work" -czf "$out/gpu-check-logs.tar.gz" logs tests
exit "$status"
