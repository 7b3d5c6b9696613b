#!/bin/sh
# Make sure that the environment VENV holds exactly what LOCK pins, and Mizzen itself, editable.
#
#   scripts/venv.sh VENV LOCK [bare]      PYTHON=… in the environment names the interpreter
#
# The stamp in VENV is everything the environment was made from (this folder, since scripts in an environment hold
# absolute paths, the lock and pyproject.toml), so that a current one is recognised by comparing text: no Python is
# started and no network is touched. `bare` leaves Mizzen out: the environment of what we measure ourselves against.
set -eu

venv=$1 lock=$2 kind=${3:-full}
name=$(basename "$lock" .lock)

wanted() {
    pwd
    cat "$1"
    [ "$kind" = bare ] || cat pyproject.toml
}
current() { wanted "locks/$1.lock" | cmp -s - "$venv/.$1.stamp"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

recent='import sys; sys.exit(sys.version_info < (3, 11))'
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" -c "$recent" 2>/dev/null || fail "PYTHON=$PYTHON is not a Python of at least 3.11" \
        "it says: $("$PYTHON" --version 2>&1 | head -n 1 || true)" "fix: make PYTHON=/path/to/python3.11"
    if [ -x "$venv/bin/python" ]; then
        of='import sys; print("%d.%d" % sys.version_info[:2])'
        have=$("$venv/bin/python" -c "$of" 2>/dev/null || echo none)
        want=$("$PYTHON" -c "$of")
        [ "$have" = "$want" ] || [ "$have" = none ] || fail "$venv was made by Python $have, and PYTHON=$PYTHON is $want" \
            "fix: give it an environment of its own: make … VENV=.venv-$want PYTHON=$PYTHON"
    fi
fi

# dev.lock has everything of run.lock at the same pins, so an environment for tests can run the demo as well.
if current "$name" || { [ "$name" = run ] && current dev; }; then
    exit 0
fi

if [ -z "${PYTHON:-}" ]; then
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        # A version manager may put names on the PATH that do not run: each is asked.
        if "$candidate" -c "$recent" 2>/dev/null; then
            PYTHON=${PYTHON:-$candidate}
            if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
                PYTHON=$candidate
                break
            fi
        fi
    done
    [ -n "${PYTHON:-}" ] || fail "no Python of at least 3.11 found on the PATH" \
        "fix: install one, or name it: make PYTHON=/path/to/python3.11"
fi

# An environment that was moved or whose interpreter is gone is of no use: it is made again.
if [ -e "$venv/bin/python" ] && "$venv/bin/python" -c "" 2>/dev/null &&
    { [ ! -f "$venv/.$name.stamp" ] || [ "$(head -n 1 "$venv/.$name.stamp")" = "$(pwd)" ]; }; then
    echo "updating $venv from $lock"
else
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || fail "$PYTHON has no ensurepip, so it cannot make an environment" \
        "fix: on Debian and Ubuntu: apt-get install python3-venv" \
        "     elsewhere: name a Python that has it: make PYTHON=/path/to/python3"
    echo "making $venv with $("$PYTHON" --version) from $lock"
    "$PYTHON" -m venv --clear "$venv" || fail "$venv could not be made (see above)"
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input --quiet "$@"; }

pip install --no-deps --only-binary :all: --require-hashes --requirement "$lock" ||
    fail "the packages of $lock could not be installed (see above)" \
        "this step, once, needs the package index that pip is configured for; nothing after it does" \
        "fix: repeat the command when it can be reached; what was installed already is kept"

if [ "$kind" != bare ]; then
    # The build backend is in every lock, so that this needs neither a network nor an isolated build.
    pip install --no-deps --no-index --no-build-isolation --editable . ||
        fail "Mizzen itself could not be installed into $venv (see above)"
fi

rm -f "$venv"/.*.stamp
wanted "$lock" >"$venv/.$name.stamp"
