#!/usr/bin/env bash
# Trains in N processes that meet on this machine, as they would on N hosts, each with
# one CPU device unless JAX_NUM_CPU_DEVICES says more: a demonstration, and a test.
#   scripts/multihost.sh 2 --dataset=digits --workdir=runs/two
# Prints the output of the first, and the errors of the others after their number. Fails if
# one of them fails; an interrupt ends them all. Set VENV_PYTHON to use another Python than
# that of .venv.
set -uo pipefail
if [ "${1:-}" = --help ]; then  # the comment above
  sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]]; then
  echo "error: scripts/multihost.sh takes the number of processes, and then flags of" \
    "experiments.train" >&2
  exit 2
fi
count=$1
shift
if [ -z "${VENV_PYTHON:-}" ]; then
  source scripts/support/environment.sh
  ensure_environment || exit 1
fi
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="${JAX_NUM_CPU_DEVICES:-1}"
port=$("$VENV_PYTHON" -c '
import socket
with socket.socket() as any_port:
  any_port.bind(("", 0))
  print(any_port.getsockname()[1])')

processes=()
stop() {
  trap - INT TERM
  kill -TERM "${processes[@]}" 2>/dev/null
  wait
  exit 130
}
trap stop INT TERM

for ((id = 0; id < count; id++)); do
  command=("$VENV_PYTHON" -m experiments.train "$@" "--coordinator_address=127.0.0.1:$port"
    "--num_processes=$count" "--process_id=$id")
  if [ "$id" = 0 ]; then
    "${command[@]}" &
  else
    "${command[@]}" 2> >(sed -u "s/^/process $id: /" >&2) &
  fi
  processes+=($!)
done

status=0
for process in "${processes[@]}"; do
  wait "$process" || { code=$?; [ "$status" != 0 ] || status=$code; }
done
wait
exit "$status"
