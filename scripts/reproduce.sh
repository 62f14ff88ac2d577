#!/usr/bin/env bash
# Makes every figure and table of experiments/README.md, one after another:
#   scripts/reproduce.sh --budget=cpu          a night on two cores
#   scripts/reproduce.sh --budget=smoke        ten minutes, to see that all of it runs
# Further flags go to every main, such as --data_dir=DIRECTORY. All is written below
# runs/reproduce-BUDGET, or the directory in $OUT. After an interruption the same command
# resumes. At the end the page has the new pictures and numbers, except with --budget=smoke:
# git diff shows where they differ.
set -euo pipefail
if [ "${1:-}" = --help ]; then  # the comment above
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  --budget=smoke | --budget=cpu | --budget=paper) budget=${1#--budget=} ;;
  *)
    echo "error: scripts/reproduce.sh takes --budget=smoke, cpu or paper, and then flags of the mains" >&2
    exit 2
    ;;
esac
shift
if [ -z "${VENV_PYTHON:-}" ]; then
  source scripts/support/environment.sh
  ensure_environment
fi
out=${OUT:-runs/reproduce-$budget}

make() { # the main, then its flags
  local main=$1
  shift
  echo
  echo "== $main: $out/$main"
  "$VENV_PYTHON" -m "experiments.$main" --budget="$budget" --workdir="$out/$main" "$@"
}

began=$SECONDS
for figure in lower_bound manifold samples marginal_likelihood conv_vae iwae_table uses; do
  make "$figure" --runs="$out/runs" "$@"
done
for section in gradients linear_gaussian; do
  make "$section" "$@"
done
echo
echo "== families: $out/families"
"$VENV_PYTHON" -m experiments.families --workdir="$out/families"
if [ "$budget" != smoke ]; then
  "$VENV_PYTHON" scripts/page.py "$out"
fi
echo
echo "all of it is in $out, after $(((SECONDS - began) / 60)) minutes"
