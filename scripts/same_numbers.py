"""Compares the numbers of nine small runs at two commits, bit for bit.

  python scripts/same_numbers.py write before.json      # at one commit
  python scripts/same_numbers.py compare before.json    # at the other, on the same machine

The runs are runs of experiments.train, in the checkout that this file lies in, on the digits, and
have every kind of state that training has. It compares metrics.csv, except its column `seconds`,
and the checksums of all arrays of the last checkpoint: parameters, optimizer, keys. Two minutes
on two cores.
"""

import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = ("--num_examples=10000", "--eval_every=5000", "--hidden_dim=20")
SMALL += ("--num_importance_samples=10", "--num_devices=1", "--compilation_cache_dir=")
RUNS = {
  "adam": (),
  "adagrad": ("--preset=paper", "--optimizer=adagrad", "--num_examples=20000"),
  "mcem": ("--algorithm=mcem", "--binarization=static", "--num_importance_samples"),
  "learned_baseline": (
    "--posterior=bernoulli",
    "--estimator=score_function:baseline=learned",
    "--num_samples=3",
    "--latent_dim=5",
  ),
  "vimco": ("--posterior=bernoulli", "--estimator=vimco", "--num_samples=5", "--latent_dim=5"),
  "iaf_vamp": (
    "--posterior=iaf:hidden=8:context=8",
    "--prior=vamp:components=5",
    "--estimator=elbo_a",
  ),
  "conv": ("--model=conv", "--hidden_dim=4,8", "--batch_size=32", "--num_examples=3200"),
  "sweep": ("--seed=0,1", "--step_size=0.001,0.01", "--select_step_size=5000"),
  "streamed": ("--max_resident_mb=0", "--free_bits=0.1", "--kl_warmup=5000"),
}


def fingerprint(directory: pathlib.Path) -> dict:
  """Returns the results of the runs in and below a directory, as JSON holds them."""
  found = {}
  for path in sorted(directory.rglob("metrics.csv")):
    with open(path, newline="") as file:
      rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    found[str(path.relative_to(directory))] = rows
  for checkpoints in sorted(directory.rglob("checkpoints")):
    last = max(checkpoints.iterdir(), key=lambda path: int(path.name))
    record = json.loads((last / "record" / "record.json").read_bytes())
    found[str(checkpoints.relative_to(directory))] = dict(step=last.name, arrays=record["arrays"])
  return found


def run(name: str, workdir: pathlib.Path) -> dict:
  # JAX's persistent cache could hold a program that another commit compiled.
  command = [sys.executable, "-m", "experiments.train", *given(name), f"--workdir={workdir}"]
  environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  if done.returncode:
    sys.exit(f"error: {name} ended with status {done.returncode}\n{done.stderr}")
  return fingerprint(workdir)


def given(name: str) -> list[str]:
  """Returns the flags of a run; its own flags replace the shared ones, or remove them."""
  flags = {flag.partition("=")[0]: flag for flag in (*SMALL, *RUNS[name])}
  return [flag for flag in flags.values() if "=" in flag]


def main(arguments: list[str]) -> None:
  if "--help" in arguments:
    print(__doc__.strip())
    return
  if len(arguments) != 2 or arguments[0] not in ("write", "compare"):
    sys.exit("error: usage: python scripts/same_numbers.py write|compare FILE")
  verb, file = arguments[0], pathlib.Path(arguments[1])
  there = json.loads(file.read_text()) if verb == "compare" else {}
  here, different = {}, []
  with tempfile.TemporaryDirectory() as directory:
    for name in RUNS:
      here[name] = json.loads(json.dumps(run(name, pathlib.Path(directory, name))))
      if verb == "compare":
        same = here[name] == there.get(name)
        different += [] if same else [name]
        print(f"{name:18} {'identical' if same else 'DIFFERENT'}", flush=True)
      else:
        print(f"{name:18} {len(here[name])} files", flush=True)
  if verb == "write":
    file.write_text(json.dumps(here))
  if different:
    sys.exit(f"error: {', '.join(different)} computed other numbers than in {file}")


if __name__ == "__main__":
  main(sys.argv[1:])
