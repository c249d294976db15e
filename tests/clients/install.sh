#!/usr/bin/env bash
# Installs what the tests drive, if it is not there: the Python clients and readers into target/venv, and a browser.
set -euo pipefail
cd "$(dirname "$0")/../.."
missing=()
if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing+=(python3-venv)
fi
command -v chromium >/dev/null || missing+=(chromium)
# The page's own fonts are the system's, and a bare machine has none.
fc-list 2>/dev/null | grep -q . || missing+=(fonts-dejavu-core)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
python3 -m venv target/venv
target/venv/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
touch target/venv/installed
