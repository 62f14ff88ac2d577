"""Windows of a sequence, compared with a loop over their frames."""

import numpy as np
import pytest

from aevb_jax.data import windows

FRAMES = np.random.default_rng(0).integers(0, 256, size=(11, 2, 3, 1), dtype=np.uint8)


def by_loop(frames, num_steps, stride):
  found, start = [], 0
  while start + num_steps <= len(frames):
    pixels = []
    for t in range(num_steps):
      pixels.extend(frames[start + t].ravel())
    found.append(pixels)
    start += stride
  return np.array(found, frames.dtype)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 11])
@pytest.mark.parametrize("stride", [1, 2, 5, 20])
def test_windows_are_those_of_a_loop(num_steps, stride):
  expected = by_loop(FRAMES, num_steps, stride)
  assert len(expected) == (11 - num_steps) // stride + 1
  for frames in (FRAMES, FRAMES.reshape(11, 6), FRAMES.astype(np.float32)):
    found = windows(frames, num_steps, stride)
    assert found.dtype == frames.dtype and found.shape == (len(expected), num_steps * 6)
    np.testing.assert_array_equal(found, expected)


def test_windows_whose_stride_is_their_length_have_every_frame_once():
  tiles = windows(FRAMES, 4, 4)  # the last 3 frames fill no window
  np.testing.assert_array_equal(tiles.reshape(8, 6), FRAMES.reshape(11, 6)[:8])


def test_windows_are_a_copy():
  frames = FRAMES.copy()
  windows(frames, 1)[:] = 0
  np.testing.assert_array_equal(frames, FRAMES)


BAD = {
  "short": ((FRAMES, 12), "there are 11 frames, expected at least num_steps = 12"),
  "no steps": ((FRAMES, 0), "num_steps is 0, expected at least 1"),
  "no stride": ((FRAMES, 2, 0), "stride is 0, expected at least 1"),
  "unequal": (([np.zeros(3), np.zeros(2)], 1), "the frames differ in size"),
  "numbers": ((np.zeros(5), 2), r"have shape \(5,\), expected \(N, D\)"),
}


@pytest.mark.parametrize("arguments, words", BAD.values(), ids=BAD)
def test_what_has_no_windows_is_refused(arguments, words):
  with pytest.raises(ValueError, match=words):
    windows(*arguments)
