#!/usr/bin/env bash
# Fetches the peers that `cargo bench --bench subjects -- peers` measures, if they are not there: unpacked, not installed.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/clients/install.sh # Prometheus
if [ ! -x target/peers/usr/bin/victoria-metrics ]; then
    folder=$(mktemp -d)
    chmod 755 "$folder"
    (cd "$folder" && apt-get download -qq victoria-metrics)
    dpkg -x "$folder"/victoria-metrics_*.deb target/peers
    rm -rf "$folder"
fi
