#!/usr/bin/env bash
# Installs everything into .venv and runs the whole test suite; further arguments
# go to pytest: scripts/test.sh tests/estimators
set -euo pipefail
if [ "${1:-}" = --help ]; then  # the comment above
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/support/environment.sh
ensure_environment test
exec "$VENV_PYTHON" -m pytest "$@"
