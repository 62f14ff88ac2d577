#!/usr/bin/env bash
# Makes every figure and table of experiments/README.md, one after another:
#   scripts/reproduce.sh --budget=cpu          a day on two cores
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
  make_as "$1" "$@"
}

make_as() { # the directory of the results, the main, then its flags
  local directory=$1 main=$2
  shift 2
  echo
  echo "== $main: $out/$directory"
  "$VENV_PYTHON" -m "experiments.$main" --budget="$budget" --workdir="$out/$directory" "$@"
}

began=$SECONDS
for figure in lower_bound manifold samples marginal_likelihood conv_vae iwae_table uses analogies; do
  make "$figure" --runs="$out/runs" "$@"
done
case $budget in
  smoke) table=(--samples=1) ;;
  cpu) table=(--samples=1,50 --stages=4) ;; # 40 epochs
  paper) table=(--samples=1,50) ;;
esac
make_as iwae_layers iwae_table --layers=1,2 "${table[@]}" --runs="$out/runs" "$@"
for section in gradients linear_gaussian semi_supervised frey_face_video; do
  make "$section" "$@"
done
echo
echo "== families: $out/families"
"$VENV_PYTHON" -m experiments.families --workdir="$out/families"
if [ "$budget" != smoke ]; then
  "$VENV_PYTHON" scripts/page.py "$out"
  # A run draws with all digits of its numbers; committed pictures have those of their tables.
  "$VENV_PYTHON" -m experiments.plots --redraw=experiments/results
fi
echo
echo "all of it is in $out, after $(((SECONDS - began) / 60)) minutes"
