#!/usr/bin/env bash
# Installs what the tests drive, if it is not there: the Python clients and readers into target/venv, a browser, and Prometheus
# with node-exporter.
set -euo pipefail
cd "$(dirname "$0")/../.."
missing=()
if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing+=(python3-venv)
fi
command -v chromium >/dev/null || missing+=(chromium)
command -v prometheus-node-exporter >/dev/null || missing+=(prometheus-node-exporter)
# The page's own fonts are the system's, and a bare machine has none.
fc-list 2>/dev/null | grep -q . || missing+=(fonts-dejavu-core)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
# Debian 12 has Prometheus 2.42; that of the newest Debian runs here, too, unpacked beside the tests and not installed.
if [ ! -x target/prometheus/usr/bin/prometheus ]; then
    sid=$(mktemp -d)
    chmod 755 "$sid"
    mkdir -p "$sid/lists/partial" "$sid/archives/partial"
    # From where this machine has its packages.
    archive=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 '/debian/*$')
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive sid main" >"$sid/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$sid/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$sid/lists"
        -o "Dir::Cache=$sid" -o "Dir::Cache::archives=$sid/archives")
    "${apt[@]}" update
    (cd "$sid" && "${apt[@]}" download prometheus)
    dpkg -x "$sid"/prometheus_*.deb target/prometheus
    rm -rf "$sid"
fi
python3 -m venv target/venv
target/venv/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
touch target/venv/installed
