# Sourced by the run.sh of each folder: a Python of its own with what its requirements.txt names, made anew when that changes.

# venv WORK REQUIREMENTS WHAT: in WORK/venv; WHAT is told when it is made
venv() {
    local work=$1 requirements=$2 what=$3 stamp=$1/venv.stamp
    if [ -f "$stamp" ] && [ "$(cksum < "$requirements")" = "$(cat "$stamp")" ]; then
        return
    fi
    echo "$what"
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    cksum < "$requirements" > "$stamp"
}
