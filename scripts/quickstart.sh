#!/usr/bin/env bash
# Installs everything into .venv, trains a VAE with two latents on scikit-learn's
# digits and draws what it learned: under a minute once installed.
#   scripts/quickstart.sh    # writes runs/quickstart
set -euo pipefail
if [ "${1:-}" = --help ]; then  # the comment above
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/support/environment.sh
ensure_environment
rm -rf runs/quickstart  # made again each time, because an older version may have written other flags there
exec "$VENV_PYTHON" -m experiments.train \
  --dataset=digits --binarization=threshold --latent_dim=2 --num_devices=1 \
  --workdir=runs/quickstart
