"""Errors in the data: files, minibatches, pixels as data points."""

from mutations.mutation import Mutation

MUTATIONS = [
  Mutation("binarize: half the probability", "data/preprocess", "<< 16", "<< 15"),
  Mutation(
    "binarize: same bits for neighbours",
    "data/preprocess",
    "((size + 1) // 2,), jnp.uint32)",
    "((size + 1) // 2,), jnp.uint32) & 0xFFFF0000",
  ),
  Mutation("threshold: not above a half", "data/preprocess", "> 0.5)", ">= 0.5)"),
  Mutation("dequantize: by 255", "data/preprocess", "dtype) + u) / 256", "dtype) + u) / 255"),
  Mutation("bits per dim: sign", "data/preprocess", "return -log_p / (", "return log_p / ("),
  Mutation(
    "order: same in every epoch",
    "data/minibatches",
    "jax.random.fold_in(key, epoch)",
    "jax.random.fold_in(key, 0)",
  ),
  Mutation("order: always swaps", "data/minibatches", "swap == 1", "swap >= 0"),
  Mutation("order: off by one", "data/minibatches", "index > offset", "index >= offset"),
  Mutation(
    "order: partners do not agree", "data/minibatches", "jnp.maximum(index, partner)", "index"
  ),
  Mutation("stream: starts over", "data/minibatches", "int(start) + np", "0 + np"),
  Mutation(
    "stream: all processes read the same",
    "data/minibatches",
    "slice(process_index * share, (process_index + 1) * share)",
    "slice(0, share)",
  ),
  Mutation(
    "download: not checked",
    "data/downloads",
    "if wrong := mismatch(file, partial):",
    "if wrong := None:",
  ),
  Mutation(
    "cache: not checked", "data/array_cache", '_sha256(path) != expected["sha256"]', "False"
  ),
  Mutation("cache: of another source", "data/array_cache", 'or index["source"] != source', ""),
  Mutation("cache: altered index", "data/array_cache", 'index.pop("checksum") != ', "'' == "),
  Mutation("omniglot: rows for columns", "data/builders", ".transpose(0, 2, 1)", ""),
  Mutation("frey face: columns for rows", "data/builders", "frames.T.reshape", "frames.reshape"),
  Mutation(
    "npz: not checked",
    "data/npz",
    "if left or checksum != entry.member.CRC:",
    "if left:",
    "data/arrays",
  ),
  Mutation(
    "npz: mapped beside its place",
    "data/npz",
    "start + entry.header, entry.shape)",
    "start, entry.shape)",
    "data/arrays",
  ),
  Mutation(
    "npz: columns for rows",
    "data/npz",
    "stored and not entry.by_columns and",
    "stored and",
    "data/arrays",
  ),
  Mutation(
    "npz: blocks do not join",
    "data/npz",
    "array[start:stop] = np.frombuffer",
    "array[: stop - start] = np.frombuffer",
    "data/arrays",
  ),
  Mutation(
    "own arrays: pixels 0 and 1 of 255 levels",
    "data/image_data",
    "up_to=2) == 1:",
    "up_to=2) == 0:",
    "data/arrays",
  ),
  Mutation(
    "own arrays: more pixels than labels",
    "data/image_data",
    "if len(array) != sizes[split]:",
    "if len(array) > sizes[split]:",
    "data/arrays",
  ),
  Mutation(
    "folder: a split by another order",
    "data/folders",
    'f"{order_seed}/{file.name}"',
    'f"{order_seed}/{folder}/{file.name}"',
    "data/folders",
  ),
  Mutation(
    "folder: labels of the unsorted",
    "data/folders",
    "for file in files[part] if file.label",
    "for file in sorted(files)[part] if file.label",
    "data/folders",
  ),
  Mutation(
    "folder: times are not looked at",
    "data/folders",
    "(f.name, f.size, f.mtime)",
    "(f.name, f.size)",
    "data/folders",
  ),
  Mutation("cache: pages are kept", "data/array_cache", "base.madvise(mmap.MADV_DONTNEED)", "pass"),
  Mutation(
    "windows: the last one is missing",
    "data/arrays",
    "np.arange(0, len(frames) - num_steps + 1, stride)",
    "np.arange(0, len(frames) - num_steps, stride)",
    "data/windows",
  ),
]
