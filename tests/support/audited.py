"""Runs a main, and ends it as soon as it unpickles something or opens a connection.

python tests/support/audited.py experiments.train --workdir=...
"""

import os
import runpy
import sys

FORBIDDEN = ("pickle.find_class", "socket.connect", "socket.getaddrinfo")


def audit(event: str, args: tuple) -> None:
  if event in FORBIDDEN:
    sys.stderr.write(f"{event} {args}\n")
    os._exit(99)  # an exception could be swallowed


if __name__ == "__main__":
  sys.addaudithook(audit)
  sys.argv = sys.argv[1:]
  runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
