"""Counts in the text of a compiled program: kernels, and what devices send each other."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = (
  "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
  "ragged-all-to-all", "collective-broadcast",
)  # fmt: skip
# Instructions that only name, group or place what is there, or wait for another instruction.
FREE = {
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "domain",
  "opt-barrier", "partition-id", "replica-id", "add-dependency", "async-update",
  "get-dimension-size",
}  # fmt: skip
ALWAYS = {"fusion", "custom-call", "copy", "copy-start"}  # even if the result is a scalar
MARKERS = ("Sharding", "SPMD", "AllocateBuffer", "AssumeGatherIndicesInBound")  # custom calls
BYTES = {
  "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4,
  "s64": 8, "u64": 8, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
CALLED = re.compile(
  r"\b(?:calls|to_apply|body|condition|called_computations|branch_computations|true_computation"
  r"|false_computation)=\{?(%?[\w.\-]+(?:, ?%[\w.\-]+)*)"
)
DESCENDED = ("while", "conditional", "call", "async-start")
BESIDE = "async_collective_fusion"  # a computation, on TPUs
TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


class Instruction(NamedTuple):
  """One line of a computation."""

  name: str
  result: str  # its type
  opcode: str
  text: str  # what follows the opcode

  @property
  def called(self) -> list[str]:
    return [n.strip().lstrip("%") for names in CALLED.findall(self.text) for n in names.split(",")]

  @property
  def is_kernel(self) -> bool:
    """Reports if the device is given something to do; scalars are computed on the way to it."""
    if self.opcode in FREE or self.opcode.endswith("-done") or self.opcode in DESCENDED:
      return False
    if self.opcode == "custom-call" and any(f'target="{m}' in self.text for m in MARKERS):
      return False
    if self.opcode in ALWAYS or self.collective:
      return True
    return max(map(num_elements, arrays(self.result)), default=0) > 1

  @property
  def collective(self) -> str | None:
    name = self.opcode.removesuffix("-start")
    return name if name in COLLECTIVES else None

  @property
  def sent_bytes(self) -> int:
    """The bytes of the result of a collective, on one device."""
    found = arrays(self.result)
    if self.opcode.endswith("-start") and self.collective != "all-reduce":
      found = [array for array in found if array[1]]  # without numbers that mark a context
      found = found[len(found) // 2 :]  # the operands come first
    return int(sum(num_elements(a) * BYTES.get(a[0], 4) for a in found))


class Counts(NamedTuple):
  """The launches and collectives of a computation.

  Attributes:
    kernels: launches, with the rounds of inner loops if their number is known.
    collectives: by kind, the number and the bytes.
    open_loops: inner loops whose number of rounds depends on data; a round counts once.
  """

  kernels: int
  collectives: dict[str, tuple[int, int]]
  open_loops: int


def arrays(type_: str) -> list[tuple[str, str]]:
  return ARRAY.findall(type_)


def num_elements(array: tuple[str, str]) -> int:
  return math.prod(int(n) for n in array[1].split(",") if n)


def read(text: str) -> tuple[dict[str, list[Instruction]], str]:
  """Reads the computations of a program, by name, and the name of the one that it starts with."""
  computations, current, entry = {}, [], ""
  for line in text.splitlines():
    if found := HEAD.match(line):
      current = computations.setdefault(found[1], [])
      entry = found[1] if line.startswith("ENTRY") else entry
    elif (found := LINE.match(line)) and (instruction := parse(found[1], found[2])):
      current.append(instruction)
  return computations, entry


def parse(name: str, text: str) -> Instruction | None:
  """Splits "f32[3]{0} add(%a, %b), ..." into the type, the opcode and the rest."""
  end = closing(text) if text.startswith("(") else text.find(" ")
  found = re.match(r"\s*([\w\-]+)\(", text[end:])
  return Instruction(name, text[:end], found[1], text[end + found.end() :]) if found else None


def closing(text: str) -> int:
  """Returns the position after the parenthesis that closes the first one."""
  depth = 0
  for i, character in enumerate(text):
    depth += (character == "(") - (character == ")")
    if not depth:
      return i + 1
  return len(text)


class Reader:
  """Counts the instructions of one program."""

  def __init__(self, text: str):
    self.computations, self.entry = read(text)

  def loops(self) -> Iterator[tuple[Instruction, str]]:
    """Yields the loops of the entry computation, each with the name of its body."""
    todo = [self.entry]
    while todo:
      for instruction in self.computations[todo.pop()]:
        if instruction.opcode == "while":
          yield instruction, self.part(instruction, "body")
        elif instruction.opcode in ("call", "async-start"):
          todo += instruction.called

  def part(self, loop: Instruction, which: str) -> str:
    return re.search(rf"\b{which}=%?([\w.\-]+)", loop.text)[1]

  def trips(self, loop: Instruction) -> int | None:
    """Returns the number of rounds of a loop; None if it is not known."""
    if found := TRIPS.search(loop.text):
      return int(found[1])
    # On TPUs a loop with a fixed number of rounds has the condition `index < constant`.
    condition = self.computations[self.part(loop, "condition")]
    done = [instruction for instruction in condition if instruction.opcode not in FREE]
    limits = [int(i.text.split(")")[0]) for i in condition if is_number(i)]
    fixed = len(done) == 1 and done[0].opcode == "compare" and "direction=LT" in done[0].text
    return limits[0] if fixed and len(limits) == 1 else None

  def sent_by(self, instruction: Instruction) -> list[Instruction]:
    """Returns the collectives that an instruction starts.

    A TPU sends beside its fusions. Such a collective is named in the fusion that starts it, in each
    of those that it runs beside, and in the one that waits for it; only the start counts.
    """
    if instruction.opcode != "fusion":
      return [instruction] if instruction.collective else []
    if instruction.name.startswith("async-collective-done"):
      return []
    names = [name for name in instruction.called if not name.startswith(BESIDE)]
    parts = [self.computations.get(name, []) for name in names]
    return [inner for part in parts for i in part for inner in self.sent_by(i)]

  def count(self, name: str) -> Counts:
    """Counts what one round of a computation launches."""
    kernels, collectives, open_loops = 0, {}, 0
    for instruction in self.computations[name]:
      parts, rounds = [], 1
      if instruction.opcode == "while":
        trips = self.trips(instruction)
        rounds, open_loops = trips or 1, open_loops + (trips is None)
        # Where devices ask each other whether to go on, they do it in the condition.
        parts = [self.part(instruction, "body"), self.part(instruction, "condition")]
      elif instruction.opcode in DESCENDED:
        parts = instruction.called
      elif instruction.is_kernel:
        kernels += 1
        for sent in self.sent_by(instruction):
          add(collectives, str(sent.collective), (1, sent.sent_bytes))
      for part in parts:
        inner = self.count(part)
        kernels, open_loops = kernels + rounds * inner.kernels, open_loops + inner.open_loops
        for kind, (number, size) in inner.collectives.items():
          add(collectives, kind, (rounds * number, rounds * size))
    return Counts(kernels, collectives, open_loops)

  def step(self) -> Counts:
    """Counts what the body of the largest loop launches: one training step of `fit`."""
    counts = [self.count(body) for _, body in self.loops()]
    return max(counts, key=lambda c: c.kernels, default=Counts(0, {}, 0))

  def whole(self) -> Counts:
    """Counts what the program launches."""
    return self.count(self.entry)


def is_number(instruction: Instruction) -> bool:
  return instruction.opcode == "constant" and bool(re.match(r"\d+\)", instruction.text))


def add(total: dict[str, tuple[int, int]], kind: str, more: tuple[int, int]) -> None:
  number, size = total.get(kind, (0, 0))
  total[kind] = number + more[0], size + more[1]
