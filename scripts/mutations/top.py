"""Errors in the modules of aevb_jax that lie in no folder."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation("prepare: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "data/builders"),
  Mutation("cache: no lock", "locks", "fcntl.LOCK_EX", "fcntl.LOCK_SH", "data/array_cache"),
  Mutation(
    "a lock of a directory that was moved away",
    "locks",
    "      if is_at(file, path):",
    "      if True:",
    "runs/directory",
  ),
  Mutation(
    "files: written through links",
    "disk",
    "  pathlib.Path(path).unlink(missing_ok=True)\n"
    '  return open(path, mode.replace("w", "x"), opener=_opener',
    "  return open(path, mode",
    "runs/directory",
  ),
  Mutation("manifold: upside down", "figures", "quantiles[::-1]", "quantiles"),
  Mutation(
    "names: arguments after colons are lost",
    "names",
    "    arguments[key] = _value(value)\n",
    "    pass\n",
  ),
  Mutation(
    "names: a function gets nothing that its signature names",
    "names",
    "for key, value in offered.items() if accepts(function, key)",
    "for key, value in offered.items() if False",
  ),
  Mutation("names: an error loses the caller's line", "names", "places[:3]", "places[:1]"),
]
