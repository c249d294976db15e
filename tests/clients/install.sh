#!/usr/bin/env bash
# Installs the Python clients and readers of the tests into target/venv, if they are not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv
fi
python3 -m venv target/venv
target/venv/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
touch target/venv/installed
