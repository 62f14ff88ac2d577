"""The mistakes that have a name: in the tables of the tests, and on the pages."""

import importlib
import sys

from refusals.definitions import ROOT, Bad

# Tests whose first parameter is a list of arguments that their main refuses.
TABLES = {
  "commands.test_command_line.test_bad_input_is_one_line": "train",
  "commands.test_sweep.test_bad_input_is_one_line": "train",
  "commands.test_mcem.test_bad_input_is_one_line": "train",
  "launch.test_cluster.test_flags_that_do_not_make_sense": "train",
  "runs.test_pixels.test_flags_that_do_not_go_with_a_data_set": "train",
  "commands.test_evaluate.test_mistakes_have_a_clear_line": "evaluate",
  "commands.test_gradients.test_bad_flags_are_one_line": "gradients",
  "commands.test_full_vb.test_a_mistake_is_one_line": "full_vb",
  "commands.test_linear_gaussian.test_a_mistake_is_one_line": "linear_gaussian",
  "commands.test_frey_face_video.test_a_mistake_is_one_line": "frey_face_video",
}

# Frey Face must be prepared before training, so that its main is not among MAINS, whose command
# lines are generated too.
# By main, the command lines that the pages, the headers of the mains or --help rule out.
DOCUMENTED = {
  "train": (
    "--posterior=bernoulli",  # needs an estimator without reparameterization
    "--posterior=bernoulli --estimator=iwae --num_samples=5",
    "--posterior=bernoulli --estimator=vimco",  # needs more than one sample
    "--posterior=bernoulli --estimator=sticking_the_landing",
    "--posterior=gaussian --prior=gamma",  # has samples where the prior has no density
    "--posterior=beta --prior=gaussian",  # their KL has no closed form
    "--posterior=iaf",
    "--prior=vamp:components=10",
    "--posterior=affine_flow --latent_dim=1 --estimator=elbo_a",
    "--posterior=dirichlet --latent_dim=1",
    "--likelihood=rayleigh",
    "--likelihood=discretized_logistic --binarization=dynamic",
    "--algorithm=mcem",  # keeps a z for every x, so dynamic binarization is refused
    "--algorithm=mcem --binarization=static --posterior=bernoulli",
    "--dataset=mnist --dequantization --binarization=none",  # needs the likelihood to be a density
    "--dataset=mnist --dequantization --likelihood=gaussian --pixel_scale=255",
    "--dataset=binarized_mnist --pixel_scale=256",
    "--dequantization --likelihood=gaussian",  # digits have 17 levels
    "--likelihood=gaussian --binarization=threshold",
    "--dataset=frey_face",  # is split in more than one way
    "--dataset=cifar10",  # only experiments.data prepares it
    "--mirror=http://127.0.0.1:9",  # digits are not downloaded
    "--dataset=mnist --mirror=my/mnist",
    "--dataset=mnist --mirror=ftp://127.0.0.1",
    "--preset=article --hidden_dim=8,8,8",
    "--preset=article --batch_size=100 --examples_at_once=32",  # 32 does not divide 100
    "--condition=class",  # only the label
    "--condition=label --model=conv",  # its networks are given x only
    "--condition=label --model=hierarchical:layers=3,2",
    "--condition=label --prior=vamp:components=10",
    "--condition=label --algorithm=mcem --binarization=static",
    "--optimizer=adagrad --num_examples=5000",  # the first 100 steps only accumulate
    "--select_step_size=1000",  # there is only one step size
    "--select_step_size=1000 --step_size=0.1,0.1",
    "--coordinator_address=auto --num_processes=2",
    "--coordinator_address=10.0.0.1 --num_processes=2 --process_id=0",
    "--process_id=1",
    "--host_timeout=30",
    "--batch_size=2000",  # more than there are images
    "--num_devices=2",
    "--hidden_dim=1000000000",  # more than fits into memory
    "--latent_dim=2147483647",
    "--num_examples=1000000000000 --batch_size=1",  # more steps than can be counted
  ),
  "data": (
    "--dataset=frey_face",
    "--dequantization",
    "--dataset=binarized_mnist --pixel_scale=255",
    "--mirror=http://127.0.0.1:9",
    "--dataset=no_such_set --contact_sheet={place}/new/sheet.png",
    "--dataset=mnist --data_dir=/proc/nothing",
  ),
  "gradients": (
    "--reference=exact",  # the model has two latents
    "--reference=exact --posterior=bernoulli --latent_dim=13 --estimators=vimco",
    "--seed=1,2",
    "--step_size=0.1,0.2",
    "--max_resident_mb=0",
    "--num_batches=1500",
    "--posterior=bernoulli --estimator=vimco --num_samples=2 --estimators=elbo_a",
    "--condition=label",
  ),
  "full_vb": (
    "--algorithm=mcem",
    "--algorithm=mcem --binarization=static",
    "--weight_prior=2",
    "--estimator=vimco --num_samples=2",
    "--posterior=bernoulli",
    "--num_data=2000",
    "--max_resident_mb=0",
    "--seed=1,2",
    "--methods=ml,em",
    "--condition=label",
  ),
  "evaluate": (
    "--workdir={place}/full",
    "--workdir={place}/missing",
    "--method=importance --chains=10",
    "--method=ais --fit=gaussian",
    "--method=bdmc --split=test",
    "--method=reciprocal --importance_samples=10",
    "--latent_dim=3",
    "--batch_size=10",
    "--preset=paper",
    "--step_size=0.1,0.2",
    "--split=train --num_points=1438",
    "--condition=label",  # comes from the run
  ),
  "linear_gaussian": (
    "--binarization=static",
    "--dequantization",
    "--latent_dim=64",
    "--batch_size=2000",
    "--max_resident_mb=0",
    "--estimator=iwae",
    "--num_examples=1000000000000 --batch_size=1",
    "--seed=1,2",
  ),
  "frey_face_video": (
    "--dataset=frey_face:random",  # its frames are not in order
    "--dataset=mnist",
    "--dataset=images:faces",  # is split at random
    "--num_frames=1",
    "--binarization=static",
    "--dequantization",
    "--num_importance_samples=1",
    "--num_examples=10",
    "--seed=1,2",
  ),
}


def named() -> list[Bad]:
  """Returns all mistakes that have a name."""
  sys.path.insert(0, str(ROOT))
  found = []
  for where, main in TABLES.items():
    module, _, test = where.rpartition(".")
    function = getattr(importlib.import_module(f"tests.{module}"), test)
    (table,) = [mark for mark in function.pytestmark if mark.name == "parametrize"]
    found += [of_test(main, case) for case in table.args[1]]
  for main, lines in DOCUMENTED.items():
    found += [Bad(main, "on the pages", tuple(line.split())) for line in lines]
  unlike = {(bad.main, bad.arguments, bad.num_devices): bad for bad in reversed(found)}
  return list(reversed(unlike.values()))


def of_test(main: str, case: tuple) -> Bad:
  """Converts a row of a table: arguments first, or values by flag; a number counts devices."""
  arguments = case[0]
  if isinstance(arguments, dict):
    arguments = [f"--{name}={value}" for name, value in arguments.items()]
  num_devices = next((cell for cell in case[1:] if isinstance(cell, int)), 1)
  # Without arguments, the default batch size is the mistake: many devices cannot share it.
  return Bad(main, "in the tests", tuple(arguments) or ("--batch_size=100",), num_devices)
