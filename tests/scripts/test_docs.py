"""The site of scripts/docs.sh has every module and every page, and its links lead somewhere."""

import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import aevb_jax

ROOT = pathlib.Path(__file__).parents[2]
pytest.importorskip("pdoc", reason="scripts/docs.sh installs it")


@pytest.mark.long
def test_the_site_is_whole(tmp_path):
  program = [sys.executable, ROOT / "scripts" / "support" / "docs.py", tmp_path / "site"]
  environment = os.environ | {"PYTHONPATH": str(ROOT)}
  result = subprocess.run(program, env=environment, capture_output=True, text=True)
  assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
  site = tmp_path / "site"
  for found in pkgutil.walk_packages(aevb_jax.__path__, "aevb_jax."):
    assert (site / f"{found.name.replace('.', '/')}.html").exists(), found.name
  pages = list(site.rglob("*.html"))
  for page in pages:  # links of the search start with $ and are skipped
    for link in re.findall(r'(?:href|src)="([^":#?$]+)["#?]', page.read_text()):
      assert (page.parent / link).exists(), f"{page}: {link}"
  iwae = (site / "aevb_jax/estimators/importance.html").read_text()
  assert "jaxlib" not in iwae and ">Returns:</" in iwae and ">Raises:</" in iwae
  assert any("<math" in page.read_text() for page in pages)
