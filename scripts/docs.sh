#!/usr/bin/env bash
# Writes a site of the package's docstrings, with a search, and of the .md pages: half
# a minute once installed. The site loads nothing from elsewhere.
#   scripts/docs.sh    # writes site/index.html
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
