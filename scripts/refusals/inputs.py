"""Command lines that must be refused, which hypothesis makes from the definitions of the flags.

All of them are wrong by construction, independently of the messages of the mains.
`scripts/bad_commands.py` runs them as a user would, `tests/launch/test_bad_commands.py` some of
them.
"""

import string

import hypothesis
from hypothesis import strategies as st
from refusals.definitions import Bad, Definition

MAX_COUNT = 2**31 - 1

# {place} is the directory of the command: see `bad_commands.prepare`.
NOWHERE = ("/proc/nothing/at_all", "{place}/file/below", "~nobody_of_this_name/at_all")
TOO_LONG = "{place}/" + 300 * "x"
PATHS = {
  "workdir": (*NOWHERE, TOO_LONG, "{place}/file", "{place}/full", "/dev/null"),
  "compilation_cache_dir": (*NOWHERE, TOO_LONG, "{place}/file"),
  "array_cache_dir": NOWHERE[2:],  # digits need no cache, so other paths are not used
  "manual_dir": (*NOWHERE, TOO_LONG, "{place}/file"),
  "contact_sheet": (*NOWHERE, TOO_LONG, "{place}/full", "/dev/null/sheet.png"),
}
FLAG_FILES = ("{place}/missing", "{place}/full", "{place}/binary")
DAMAGED_RUNS = ("{place}/binary_flags", "{place}/bad_flags")
COUNTS = {
  "hidden_dim": 1,
  "stage_epochs": 1,
  "samples": 1,
  "at": 0,
}  # flags that take lists of whole numbers, and the least number
ESTIMATORS = ("estimator", "estimators", "reference")
MAY_BE_EMPTY = ("compilation_cache_dir", "array_cache_dir", "contact_sheet")
MAY_BE_INFINITE = ("max_resident_mb",)
ODD = ["\n", "\t", "\r\n", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2028", "\udcff"]


def generated(main: str, found: dict) -> dict[str, st.SearchStrategy[Bad]]:
  """Returns the mistakes that the command line of a main can have, by kind."""
  flags = [Definition(**flag | {"choices": tuple(flag["choices"])}) for flag in found["flags"]]
  names = {name for name in found["names"]} | {f"no{name}" for name in found["names"]}
  ways = {kind: [way for flag in flags for way in make(flag)] for kind, make in VALUES.items()}
  ways["misspelt flag"] = [misspelt(flag, names) for flag in flags]
  ways["stray argument"] = [st.text(string.ascii_letters + " =", min_size=1).map(lambda t: [t])]
  ways["stray argument"] += [st.sampled_from([["-"], ["--", "--seed=1"], ["--=1"]])]
  ways["path"] += [st.sampled_from([[f"--flagfile={file}"] for file in FLAG_FILES])]
  if main == "evaluate":
    ways["path"] += [st.sampled_from([[f"--workdir={run}"] for run in DAMAGED_RUNS])]
  elif any(flag.name == "dataset" for flag in flags):
    ways["data set"] = [
      st.one_of(no_data_sets(), st.sampled_from(ODD_DATA_SETS)).map(of("dataset"))
    ]
    if main != "data":  # experiments.data would download it
      ways["data set"] += [st.sampled_from(UNPREPARED)]
  return {
    kind: st.one_of(some).map(lambda words, kind=kind: Bad(main, kind, tuple(words)))
    for kind, some in ways.items()
    if some
  }


def of(name: str):
  return lambda value: [f"--{name}={value}"]


def no_number(flag: Definition) -> list[st.SearchStrategy]:
  if flag.kind not in ("int", "float") and flag.name not in COUNTS:
    return []
  words = st.text(string.ascii_letters + " .+-_/:%$#", min_size=1, max_size=12)
  return [words.filter(lambda text: not is_number(text)).map(of(flag.name))]


def is_number(text: str) -> bool:
  try:
    float(text)
    return True
  except ValueError:
    return False


def fraction(flag: Definition) -> list[st.SearchStrategy]:
  if flag.kind != "int" and flag.name not in COUNTS:
    return []
  texts = st.builds("{}.{}".format, st.integers(0, 999), st.integers(0, 99))
  return [st.one_of(texts, st.integers(0, 9).map("1e{}".format)).map(of(flag.name))]


def out_of_bounds(flag: Definition) -> list[st.SearchStrategy]:
  """Makes numbers outside the bounds of a flag: stated bounds, or the bounds of a count."""
  lower, upper = COUNTS.get(flag.name, flag.lower), flag.upper
  if flag.kind == "int" or flag.name in COUNTS:
    upper, ways = MAX_COUNT if upper is None else upper, []
    if lower is not None:
      ways.append(st.integers(lower - 10**6, lower - 1))
    ways.append(st.integers(upper + 1, upper * 10**6) | st.integers(10**20, 10**400))
    return [way.map(of(flag.name)) for way in ways]
  if flag.kind != "float" or lower is None:
    return []
  return [st.floats(-1e30, lower - 1e-6, exclude_max=True).map(of(flag.name))]


def not_finite(flag: Definition) -> list[st.SearchStrategy]:
  if flag.kind not in ("int", "float") and flag.name not in COUNTS:
    return []
  infinite = [] if flag.name in MAY_BE_INFINITE else ["inf", "1e999", "Infinity"]
  return [st.sampled_from(["nan", "NaN", "-inf", *infinite]).map(of(flag.name))]


def empty(flag: Definition) -> list[st.SearchStrategy]:
  return [] if flag.name in MAY_BE_EMPTY else [st.just([f"--{flag.name}="])]


def no_choice(flag: Definition) -> list[st.SearchStrategy]:
  choices = ("ml", "map", "full_vb") if flag.name == "methods" else flag.choices
  if not choices:
    return []
  words = st.one_of(near_misses(choices), st.text(string.ascii_letters, min_size=1))
  return [words.filter(lambda text: text not in choices).map(of(flag.name))]


def no_boolean(flag: Definition) -> list[st.SearchStrategy]:
  if flag.kind != "boolean":
    return []
  words = st.sampled_from(["maybe", "ture", "2", "-1", "none", "0.0", "yess"])
  no = st.sampled_from(["true", "false", "1"]).map(of(f"no{flag.name}"))
  return [words.map(of(flag.name)), no]


def no_text(flag: Definition) -> list[st.SearchStrategy]:
  return [st.sampled_from(ODD).map(lambda odd: [f"--{flag.name}=a{odd}b"])]


def twice(flag: Definition) -> list[st.SearchStrategy]:
  if flag.name == "methods":
    return [st.sampled_from(["ml,ml", "map,full_vb,map"]).map(of(flag.name))]
  if not flag.several:
    return []
  return [st.integers(1, 10**6).map(lambda n: [f"--{flag.name}={n},{n + 1},{n}"])]


def path(flag: Definition) -> list[st.SearchStrategy]:
  return [st.sampled_from(PATHS[flag.name]).map(of(flag.name))] if flag.name in PATHS else []


def estimator(flag: Definition) -> list[st.SearchStrategy]:
  if flag.name not in ESTIMATORS or flag.choices:
    return []
  known = ("elbo_a", "elbo_b", "iwae", "dreg", "vimco", "score_function", "renyi", "miwae")
  # No name ends with this, so that none of them exists by chance.
  unknown = st.text(string.ascii_lowercase, min_size=1).map(lambda text: f"{text}_zz")
  words = st.sampled_from(
    ["iwae:", ":", "::", ".:f", "..:f", "no.module:f", "math:no_such", "math:pi", "elbo_a:beta=1"]
    + ["renyi:alpha=x", "renyi:alpha=nan", "renyi:alpha", "miwae:num_groups=0", "elbo_b:model=1"]
    + ["miwae:num_groups=1.5", "score_function:baseline=none", "elbo_a:num_samples=2", "os:abort"]
  )
  wrong = st.builds("{}:{}=1".format, st.sampled_from(known), unknown)
  return [st.one_of(unknown, words, wrong).map(of(flag.name))]


@st.composite
def near_misses(draw, words: tuple[str, ...]) -> str:
  """Draws a word with a letter left out, doubled, in the other case, or added."""
  word = draw(st.sampled_from(words))
  i = draw(st.integers(0, len(word) - 1))
  before, letter, after = word[:i], word[i], word[i + 1 :]
  forms = (before + after, before + 2 * letter + after, before + letter.swapcase() + after)
  return draw(st.sampled_from([*forms, word + "s"]))


def misspelt(flag: Definition, names: set[str]) -> st.SearchStrategy:
  """Makes names that no flag has; absl has some flags of its own."""
  words = near_misses((flag.name,)).filter(lambda name: name and name not in names)
  return words.map(lambda name: [f"--{name}=1"])


ODD_DATA_SETS = ("/", ":", "a b", "../mnist", "mnist:", "mnist/x", "mnist:9.9.9", "frey_face", "-1")
UNPREPARED = (
  ["--dataset=cifar10"],
  ["--dataset=cifar10", "--data_dir={place}/missing"],
  ["--dataset=svhn_cropped", "--data_dir={place}/file"],
  ["--dataset=mnist", "--data_dir=/proc/nothing"],
)


def no_data_sets() -> st.SearchStrategy[str]:
  """Makes names that TFDS does not have, and will not have."""
  return st.text(string.ascii_lowercase + "/:._ ", min_size=1).map(lambda text: f"{text}_zz")


VALUES = {
  "no number": no_number,
  "a fraction": fraction,
  "out of bounds": out_of_bounds,
  "not finite": not_finite,
  "empty": empty,
  "no choice": no_choice,
  "no boolean": no_boolean,
  "not text": no_text,
  "a value twice": twice,
  "path": path,
  "estimator": estimator,
}


def draw(strategy: st.SearchStrategy, number: int, seed: int) -> list:
  """Draws at most `number` different values of a strategy, the same ones for the same seed."""
  found = []

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=number,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategy)
  def collect(value):
    found.append(value)

  collect()
  return list(dict.fromkeys(found))
