"""The page of flags agrees with the definitions of the flags."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "experiments" / "flags" / "README.md"


def test_its_tables_are_those_of_the_definitions():
  command = [sys.executable, "scripts/flags_page.py", "--check"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
  assert result.returncode == 0, result.stderr


def test_every_main_is_in_the_tables():
  named = {
    main
    for cell in re.findall(r"^\| `--\w+` \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    for main in cell.split(", ")
  }
  mains = {
    path.stem
    for path in (ROOT / "experiments").glob("*.py")
    if "command.run(main)" in path.read_text()
  }
  assert named == mains | {"plots"}
