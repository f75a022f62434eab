#!/usr/bin/env bash
# Sets up the nvcc that compiles the GPU kernels, where no CUDA toolkit is installed.
#
#   scripts/cuda-toolchain.sh [--cuda 13.0] [DIR]
#
# DIR is target/cuda by default, where the build looks for it; it gets bin/nvcc, include, lib64 and nvvm, as a toolkit has
# them. The wheels are those of scripts/cuda-VERSION.txt, verified by their hashes: 105 MB to load, 270 MB when unpacked.
# Says at once that it is done when DIR has them already. There are no libraries for linking: nothing of ours is
# linked against CUDA. Needs Python with pip (or with venv), and g++.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
  printf 'error: %s\n' "$@" >&2
  exit 1
}

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit "$1"
}

cuda=13.0
dir=
while (($#)); do
  case $1 in
    --cuda) cuda=${2:?--cuda needs a version} && shift ;;
    --cuda=*) cuda=${1#*=} ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) [[ -z $dir ]] || usage 2 >&2 && dir=$1 ;;
  esac
  shift
done
wheels=$root/scripts/cuda-$cuda.txt
if [[ ! -f $wheels ]]; then
  [[ $cuda != 12.* ]] || die "the wheels of CUDA 12 hold ptxas but no nvcc: install the CUDA $cuda toolkit and set CUDA_HOME"
  die "there is no scripts/cuda-$cuda.txt, so CUDA $cuda is not one that this script can set up"
fi

dir=$(realpath -m -- "${dir:-$root/target/cuda}")
part=$dir.part
# What DIR was made from: other wheels, or another version of this script, make it anew.
made_from=$(cat "${BASH_SOURCE[0]}" "$wheels" | sha256sum)
made_from="CUDA $cuda ${made_from%% *}"

complete() { [[ -x $dir/bin/nvcc && $(cat "$dir/made-from" 2>/dev/null) == "$made_from" ]]; }

finish() {
  printf 'CUDA %s is in %s\n' "$cuda" "$dir"
  printf 'export CUDA_HOME=%q\n' "$dir"
  exit 0
}

# Prints how to call pip: the system's, or else one in an environment below $part.
find_pip() {
  if python3 -m pip --version >&2; then
    echo python3
  elif python3 -m venv "$part/venv" >&2; then
    echo "$part/venv/bin/python3"
  else
    die "Python has neither pip nor venv (Debian, Ubuntu: apt-get install python3-venv)"
  fi
}

if complete; then finish; fi
command -v python3 >/dev/null || die "python3 is missing (Debian, Ubuntu: apt-get install python3-venv)"
[[ -n ${NVCC_CCBIN:-} ]] || command -v g++ >/dev/null ||
  die "nvcc needs g++, which is missing (Debian, Ubuntu: apt-get install g++)"
if [[ -d $dir && ! -f $dir/made-from && -n $(ls -A "$dir") ]]; then
  die "$dir exists and was not made by this script: remove it, or name another folder"
fi

# One at a time; what an interrupted call left behind is thrown away.
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
if complete; then finish; fi
trap 'rm -rf "$part"' EXIT
rm -rf "$part"
mkdir "$part"

python=$(find_pip 2>"$part/log") || { cat "$part/log" >&2 && exit 1; }
echo "loading the wheels of scripts/cuda-$cuda.txt"
PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check --no-input --retries 2 \
  --no-deps --no-compile --only-binary :all: --require-hashes --requirement "$wheels" --target "$part/wheels" >&2 ||
  die "pip did not get the wheels of scripts/cuda-$cuda.txt and said why above." \
    "Without network, install the CUDA toolkit by other means and set CUDA_HOME."

home=$part/home
mv "$part/wheels/nvidia/cu${cuda%%.*}" "$home"
mkdir "$home/licenses"
for info in "$part"/wheels/*.dist-info; do
  cp "$info/licenses/License.txt" "$home/licenses/$(basename "$info" .dist-info).txt"
done
ln -s lib "$home/lib64"

printf '#include <cuda_bf16.h>\nextern "C" __global__ void probe(__nv_bfloat16 *x) { *x = 1.0f; }\n' >"$part/probe.cu"
"$home/bin/nvcc" --cubin -arch=sm_90 -o "$part/probe.cubin" "$part/probe.cu" >&2 ||
  die "the nvcc that was set up does not work here and said why above"

# A complete folder takes the place of an older one; nobody sees half of it.
echo "$made_from" >"$home/made-from"
if [[ -e $dir ]]; then mv -T "$dir" "$part/old"; fi
mv -T "$home" "$dir"
finish
