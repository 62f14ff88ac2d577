#!/usr/bin/env bash
# Checks the code without running it: ruff checks style and format, mypy the types
# of the package. Installs both into .venv; a minute at first, then seconds.
#   scripts/check.sh    # `.venv/bin/ruff check --fix` and `.venv/bin/ruff format` repair
set -euo pipefail
if [ "${1:-}" = --help ]; then  # the comment above
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/support/environment.sh
ensure_environment check
status=0  # all checks run, whichever fails
"$VENV_PYTHON" -m ruff check . || status=1
"$VENV_PYTHON" -m ruff format --check . || status=1
"$VENV_PYTHON" -m mypy || status=1
exit "$status"
