"""The comparison of a run with the record of the checkpoint that it resumes from."""

import pathlib

import pytest

from aevb_jax.errors import CheckpointError
from aevb_jax.runs import resume, texts
from aevb_jax.runs.config import Config, replace
from aevb_jax.training import code

CONFIG = replace(Config(), seed=3, latent_dim=7)


def origin(config=CONFIG, **changed):
  return resume.make_origin(config)._replace(code=code.about_code() | changed)


def test_the_same_run_has_nothing_to_say():
  assert resume.compare(dict(step=5, **origin().record()), 5, origin()) == []
  older = dict(step=5, flags=texts.flags_text(CONFIG), git_commit="abc")
  assert resume.compare(older, 5, origin()) == []
  elsewhere = replace(CONFIG, data_dir="/elsewhere", on_nonfinite="skip")
  assert resume.compare(dict(step=5, **origin().record()), 5, origin(elsewhere)) == []


@pytest.mark.parametrize(
  "other, words",
  [
    (replace(CONFIG, seed=0), "there: --seed=3; here: --seed=0"),
    (replace(CONFIG, binarization="static"), "here: --binarization=static"),
    (replace(CONFIG, hidden_dim=(500, 500)), "here: --hidden_dim=500,500"),
  ],
)
def test_another_configuration_is_refused(other, words):
  with pytest.raises(CheckpointError, match=words):
    resume.compare(dict(step=5, **origin().record()), 5, origin(other))


def test_a_checkpoint_of_another_step_is_refused():
  with pytest.raises(CheckpointError, match="its checkpoint 6 was saved as step 5"):
    resume.compare(dict(step=5, **origin().record()), 6, origin())


def test_code_versions_and_generator_are_told():
  saved = dict(step=5, **origin().record())
  saved |= dict(code="other", versions=saved["versions"] | dict(jax="0.0.1"), generator="rbg")
  edited, version, generator = resume.compare(saved, 5, origin())
  assert edited == "its code was edited"
  assert version.startswith("jax was 0.0.1 and is ")
  assert generator.startswith("the random generator was rbg and is threefry2x32")


def test_the_code_is_every_file_of_the_package_and_the_users(tmp_path, monkeypatch):
  package, own = tmp_path / "package", tmp_path / "my_estimator.py"
  (package / "room").mkdir(parents=True)
  for file in (package / "top.py", package / "room" / "module.py", own):
    file.write_text("x = 1\n")
  monkeypatch.setattr(code, "PACKAGE", pathlib.Path(package))
  before = code.about_code([own])
  assert code.about_code([own]) == before != code.about_code()
  for file in (package / "top.py", package / "room" / "module.py", own):
    file.write_text("x = 2\n")
    assert code.changes(before, code.about_code([own])) == ["its code was edited"]
    file.write_text("x = 1\n")
