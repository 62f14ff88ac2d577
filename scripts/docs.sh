#!/usr/bin/env bash
# Writes the documentation of the package, from its docstrings and the .md pages, to
# site/index.html, with a search of all of it: half a minute once installed.
set -euo pipefail
if [ "${1:-}" = --help ]; then  # the comment above
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/support/environment.sh
ensure_environment docs
"$VENV_PYTHON" scripts/support/docs.py site
echo "site/index.html"
