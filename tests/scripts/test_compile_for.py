"""Compiling for devices that are not there: counts, collectives, the page and bad commands."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import pytest

sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts"))

import compile_for
from compiling import instructions, pages, rows
from compiling.members import MEMBERS
from compiling.sizes import SMALL
from compiling.targets import Target
from compiling.tracing import as_on

from aevb_jax.training.sharding import make_shardings

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """HloModule jit_fit, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.9 = f32[] add(%a, %b)
}

%asks (c: (s32[], f32[4,2])) -> pred[] {
  %all-reduce.7 = u32[]{:T(128)} all-reduce(%bitcast), channel_id=1, to_apply=%sum
  ROOT %compare.2 = pred[] compare(%x, %y), direction=NE
}

%starts (p: f32[8]) -> f32[32] {
  ROOT %all-gather.5 = f32[32]{0} all-gather(%p), channel_id=5, dimensions={0}
}

%async_collective_fusion.3 (p: f32[8]) -> f32[32] {
  ROOT %all-gather.6 = f32[32]{0} all-gather(%p), channel_id=5, dimensions={0}
}

%draws (c: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %fusion.3 = f32[4,2]{1,0:T(8,128)S(1)} fusion(%p), kind=kLoop, calls=%fused
  ROOT %tuple.3 = (s32[], f32[4,2]{1,0}) tuple(%i, %fusion.3)
}

%below (c: (s32[], f32[4,2])) -> pred[] {
  %constant.4 = s32[]{:T(128)} constant(250)
  ROOT %lt.4 = pred[]{:T(512)} compare(%i, %constant.4), direction=LT
}

%moves (c: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %copy.1 = f32[4,2]{1,0} copy(%p)
  %sort.1 = f32[4,2]{1,0} sort(%copy.1), dimensions={0}, to_apply=%sum
  ROOT %tuple.1 = (s32[], f32[4,2]{1,0}) tuple(%i, %sort.1)
}

%step (c: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %parameter.1 = (s32[], f32[4,2]{1,0}) parameter(0)
  %add.1 = s32[]{:T(128)} add(%i, %one)
  %all-gather-start.1 = (f32[1,2]{1,0}, f32[4,2]{1,0}) all-gather-start(%p), dimensions={0}
  %all-gather-done.1 = f32[4,2]{1,0} all-gather-done(%all-gather-start.1)
  %all-reduce.1 = (f32[4,2]{1,0}, /*index=1*/bf16[3]{0}) all-reduce(%q, %r), to_apply=%sum
  %while.1 = (s32[], f32[4,2]{1,0}) while(%t), condition=%asks, body=%draws
  %while.2 = (s32[]) while(%t), condition=%x, body=%moves, {"known_trip_count":{"n":"10"}}
  %async-collective-start = f32[32]{0} fusion(%p), kind=kCustom, calls=%starts
  %fusion.6 = f32[32]{0} fusion(%p), kind=kCustom, calls=%async_collective_fusion.3
  %async-collective-done = f32[32]{0} fusion(%p), kind=kCustom, calls=%starts
  %custom-call.1 = f32[4,2]{1,0} custom-call(%p), custom_call_target="__cublas$gemm"
  ROOT %tuple.2 = (s32[], f32[4,2]{1,0}) tuple(%add.1, %custom-call.1)
}

%x (c: (s32[], f32[4,2])) -> pred[] {
  ROOT %compare.3 = pred[] compare(%x, %y), direction=NE
}

ENTRY %main (p: f32[4,2]) -> f32[4,2] {
  %copy.2 = f32[4,2]{1,0} copy(%p)
  ROOT %while.3 = (s32[]{:T(128)}, f32[4,2]{1,0}) while(%t), condition=%below, body=%step
}
"""


def test_launches_and_bytes_of_a_program():
  reader = instructions.Reader(PROGRAM)
  step = reader.step()
  # Two collectives and a custom call; a loop that asks, with a fusion and an all-reduce a round;
  # ten rounds of a copy and a sort; three fusions of one all-gather.
  assert step.kernels == 2 + 1 + 2 + 10 * 2 + 3 and step.open_loops == 1
  assert step.collectives == {"all-gather": (2, 32 + 128), "all-reduce": (2, 32 + 6 + 4)}
  ((loop, _),) = reader.loops()
  assert reader.trips(loop) == 250
  assert reader.whole().kernels == 1 + 250 * step.kernels


def compiled_on(num_devices, name):
  target = Target("cpu", str(num_devices))
  devices = jax.devices()[:num_devices]
  row = rows.compile_row(name, MEMBERS[name], SMALL, devices, target)
  assert not row.error, row.error
  return row


def bytes_of_gradients(name):
  """Returns the bytes of all gradients and of the bound, which every device has to know."""
  program = MEMBERS[name](SMALL, make_shardings(jax.devices()[:1]))
  leaves = jax.tree.leaves(program.arguments[0].params)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) + leaves[0].dtype.itemsize


@pytest.mark.parametrize("name", ["paper: MNIST, Adam", "estimator: iwae", "posterior: laplace"])
def test_devices_send_each_other_their_gradients_and_nothing_else(name):
  found = rows.collectives_of(compiled_on(4, name))
  assert found.keys() == {"all-reduce"}
  assert found["all-reduce"][1] == bytes_of_gradients(name)


def test_members_of_a_sweep_send_nothing():
  assert not rows.collectives_of(compiled_on(2, "sweep: MNIST, Adam"))
  assert rows.collectives_of(compiled_on(4, "sweep: MNIST, Adam"))  # two devices for each member


def test_one_device_sends_nothing():
  row = compiled_on(1, "paper: MNIST, Adam")
  assert not row.collectives and int(row.kernels) > 0 and int(row.temporary_bytes) > 0


def test_is_traced_as_where_the_devices_are():
  program = MEMBERS["article: convolutional VAE"]

  def convolutions(platform):
    with as_on(platform):
      return program(SMALL, None).lower().as_text().count("stablehlo.convolution")

  # A CPU makes products of transposed convolutions.
  assert convolutions("tpu") == convolutions("cuda") > convolutions("cpu")


def test_an_error_of_the_compiler_is_a_row():
  def make(sizes, shardings):
    raise NotImplementedError("UNIMPLEMENTED: no\nmore")

  row = rows.compile_row("x", make, SMALL, jax.devices()[:1], Target("cpu", "1"))
  assert row.error == "no" and not row.kernels
  assert pages.cells(row)[2] == "no"


def test_rows_are_appended_and_read_again(tmp_path):
  row = rows.Row("cpu", "1", "", "0", "a, b", "8", collectives="all-reduce:2:30 all-gather:1:4")
  rows.append(tmp_path / "a.csv", row)
  rows.append(tmp_path / "a.csv", row._replace(error="no"))
  assert rows.read_rows(tmp_path / "a.csv") == [row, row._replace(error="no")]
  assert rows.collectives_of(row) == {"all-reduce": (2, 30), "all-gather": (1, 4)}


def test_the_page_has_the_numbers_of_the_csv_files():
  text = compile_for.PAGE.read_text()
  assert pages.fill(text) == text, "run python scripts/compile_for.py --page"
  assert text.count("<!-- end -->") == len(pages.FILLED)


def test_the_rows_are_of_members_that_there_are():
  for of_target in pages.tables().values():
    names = [row.member for row in of_target]
    assert len(names) == len(set(names)) and not set(names) - MEMBERS.keys()


def run(*arguments, environment=None, timeout=60):
  command = [sys.executable, str(ROOT / "scripts" / "compile_for.py"), *arguments]
  environment = environment or os.environ | {"PYTHONPATH": str(ROOT)}
  how = dict(capture_output=True, text=True, timeout=timeout)
  return subprocess.run(command, env=environment, **how)


BAD = {
  "no platform": ([], "--platform= takes one of tpu, cuda, cpu"),
  "another platform": (["--platform=ipu"], "invalid choice: 'ipu'"),
  "no topology": (["--platform=tpu"], "one such as v5e:2x2"),
  "another flag": (["--topologie=4"], "unrecognized arguments: --topologie=4"),
  "no number": (["--platform=cpu", "--topology=2x2"], "--topology=2x2 is no number of devices"),
  "another card": (["--platform=cuda", "--topology=1x1x1", "--card=h1"], "--card=h1 is not desc"),
  "a minibatch": (["--platform=cpu", "--topology=3"], "--batch_size=128 cannot be shared evenly "),
  "large": (["--platform=cpu", "--topology=1", "--batch_size=99999"], "give at most 50000"),
  "no member": (["--platform=cpu", "--topology=1", "--only=vae2"], "--only=vae2: no member has"),
}


@pytest.mark.parametrize("arguments, words", BAD.values(), ids=BAD)
def test_bad_commands_are_refused_in_one_line(arguments, words):
  check_refused(run(*arguments), words)


def check_refused(result, words):
  assert result.returncode == 2 and not result.stdout
  assert words in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize("platform, plugin", [("tpu", "libtpu"), ("cuda", "jax_cuda12_plugin")])
def test_a_missing_plugin_is_named_with_its_extra(platform, plugin, tmp_path):
  (tmp_path / f"{plugin}.py").write_text("raise ImportError\n")
  environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
  result = run(f"--platform={platform}", "--topology=1x1x1", environment=environment)
  check_refused(result, f"this needs {plugin}, which")
  assert f"[{platform}]" in result.stderr


needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (the extra tpu)"
)
# The collectives of one step on four chips; None if their number depends on data.
ONE = {"all-reduce": 1}
ON_FOUR_CHIPS = {
  "paper: MNIST, Adagrad": ONE,
  "paper: MNIST, Adam": ONE,
  "paper: MNIST, L = 10": ONE,
  "paper: MNIST, bfloat16": ONE,
  "article: convolutional VAE": ONE,
  "estimator: sticking_the_landing": ONE,
  "estimator: vimco": ONE,
  "estimator: wake_sleep": ONE,
  "posterior: laplace": ONE,
  "posterior: full_gaussian": ONE,
  "posterior: mixture": ONE,
  "sweep: MNIST, Adagrad": {},
}


@needs_libtpu
@pytest.mark.long
def test_steps_on_four_chips(tmp_path):
  path = tmp_path / "rows.csv"
  arguments = ["--platform=tpu", "--topology=v5e:2x2", f"--csv={path}"]
  names = ";".join(ON_FOUR_CHIPS)
  result = run(*arguments, f"--only={names}", timeout=600)
  assert result.returncode == 0, result.stderr
  found = {row.member: row for row in rows.read_rows(path)}
  for name, expected in ON_FOUR_CHIPS.items():
    counts = rows.collectives_of(found[name])
    assert {kind: number for kind, (number, _) in counts.items()} == expected, name
    assert int(found[name].kernels) > 10 and int(found[name].temporary_bytes) < 100e6
  again = run(*arguments, "--only=paper: MNIST, Adam")
  assert again.returncode == 0 and "Adam" not in again.stdout  # the file has it


@needs_libtpu
@pytest.mark.parametrize("topology", ["v5e:3x7", "v99:2x2", "x"])
def test_a_topology_that_no_tpu_has(topology):
  result = run("--platform=tpu", f"--topology={topology}")
  assert result.returncode == 2 and not result.stdout
  assert f"error: --topology={topology} is not known" in result.stderr.splitlines()[-1]


needs_cuda = pytest.mark.skipif(
  importlib.util.find_spec("jax_cuda12_plugin") is None,
  reason="jax_cuda12_plugin is not installed (the extra cuda)",
)
# The most kernels of one step on one H100.
ON_A_CARD = {"paper: MNIST, Adagrad": 35, "paper: MNIST, Adam": 35, "estimator: iwae": 45}


@needs_cuda
@pytest.mark.long
def test_launches_of_steps_on_a_card(tmp_path):
  path = tmp_path / "rows.csv"
  names = ";".join([*ON_A_CARD, "sweep: MNIST, Adagrad"])
  arguments = ["--platform=cuda", "--topology=1x1x1", f"--csv={path}", f"--only={names}"]
  result = run(*arguments, timeout=600)
  assert result.returncode == 0, result.stderr
  kernels = {row.member: int(row.kernels) for row in rows.read_rows(path) if not row.error}
  for name, most in ON_A_CARD.items():
    assert 14 < kernels[name] <= most, name
  # 16 members need no more launches than one run, within a tenth.
  assert kernels["sweep: MNIST, Adagrad"] < 1.1 * kernels["paper: MNIST, Adagrad"]
