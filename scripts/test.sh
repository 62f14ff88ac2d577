#!/usr/bin/env bash
# Installs everything into .venv and runs the whole test suite; further arguments
# go to pytest: scripts/test.sh tests/estimators
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
ensure_environment test
exec "$VENV_PYTHON" -m pytest "$@"
