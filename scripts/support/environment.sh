# Sourced by the other scripts: makes sure that .venv beside pyproject.toml holds
# this package and the extras that are asked for, and puts its Python into $VENV_PYTHON.
# Set PYTHON to choose the interpreter. Needs no network once all is installed.

REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV_PYTHON="$REPOSITORY/.venv/bin/python"

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed; set PYTHON to one" >&2
  return 1
}

# ensure_environment NAME...: the extras to install, such as test
ensure_environment() {
  local extras stamp wanted python
  extras="$(IFS=,; echo "$*")"
  wanted="$(cksum <"$REPOSITORY/pyproject.toml") $REPOSITORY"
  # Without extras, an installation with any extras is good enough.
  for stamp in "$REPOSITORY"/.venv/installed-${extras:-*}; do
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
      return
    fi
  done
  if ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)" || return 1
    echo "Making a virtual environment in $REPOSITORY/.venv with $("$python" --version)"
    "$python" -m venv --clear "$REPOSITORY/.venv"
  fi
  echo "Installing aevb_jax and what it needs; this is done once"
  "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check \
    --editable "$REPOSITORY${extras:+[$extras]}"
  echo "$wanted" >"$REPOSITORY/.venv/installed-${extras:-none}"
}
