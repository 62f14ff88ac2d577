"""Portraits of reparameterizable families: density, transform, samples, pathwise derivative."""

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aevb_jax.families.base import distribution
from aevb_jax.figures import STYLE
from aevb_jax.types import Eta, Family, Key

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

COLORS = ("#56b4e9", "#0072b2", "#332288")
SAMPLES = "#e69f00"
COLUMNS = ("density p(z)", "transform z = g(ε)", "samples", "derivative ∂z/∂η")


class Portrait(NamedTuple):
  """A family to draw: one dimension, or two numbers of a family in several dimensions.

  Attributes:
    title: the name of the family, and the parameter that changes.
    group: the construction that the family belongs to.
    family: the family of its members.
    etas: three members; samples and derivatives are of the second.
    labels: the labels of the three members.
    keep: the part of the probability that the panels show.
  """

  title: str
  group: str
  family: Family
  etas: Sequence[Eta]
  labels: Sequence[str]
  keep: float = 0.98


class Drawn(NamedTuple):
  """Draws of a member, in the order of `noise`, and their derivatives with respect to η."""

  noise: np.ndarray | None  # (n,), if ε is one number
  z: np.ndarray  # (n, J)
  derivatives: dict[str, np.ndarray]  # derivatives of z_1, by parameter, (n, …)


def draw(key: Key, family: Family, etas: Sequence[Eta], n: int) -> list[Drawn]:
  """Draws n samples of each member, with the pathwise derivative of each."""

  def one(eta: Eta, key: Key) -> tuple:
    noise = family.noise(key)
    z, pullback = jax.vjp(lambda eta: family.transform(eta, noise), eta)
    return noise, z, pullback(jnp.zeros_like(z).at[0].set(1))[0]

  of_all = jax.jit(jax.vmap(jax.vmap(one, (None, 0))))
  together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *etas)
  drawn = jax.tree.map(np.asarray, of_all(together, jax.random.split(key, (len(etas), n))))
  members = [jax.tree.map(operator.itemgetter(i), drawn) for i in range(len(etas))]
  return [
    Drawn(noise[:, 0] if _is_number(noise) else None, z, slopes._asdict())
    for noise, z, slopes in members
  ]


def _is_number(noise: np.ndarray) -> bool:
  return noise.dtype != np.uint32 and noise.shape[1:] == (1,)


def draw_families(portraits: Sequence[Portrait], draws: Sequence[Sequence[Drawn]]) -> "Figure":
  """Draws every family in a row of four panels, two families side by side.

  Args:
    portraits: families in one dimension; in two, such as an ellipse; or on the simplex of three.
    draws: for each portrait the draws of its three members.
  """
  import matplotlib.pyplot as plt

  rows = -(-len(portraits) // 2)
  with plt.style.context(STYLE):
    figure = plt.figure(figsize=(15, 1.75 * rows + 0.4))
    halves = figure.subfigures(1, 2, wspace=0.02)
    for half, start in zip(halves, (0, rows)):
      axes = half.subplots(rows, 4, squeeze=False)
      for panels, portrait, drawn in zip(axes, portraits[start:], draws[start:]):
        in_several = portrait.family.mean(portrait.etas[0]).size > 1
        (_draw_several if in_several else _draw_one)(panels, portrait, drawn)
        panels[0].set_ylabel(f"{portrait.title}\n{portrait.group}", fontsize=7)
        for panel in panels:
          panel.tick_params(labelsize=5)
      for panel, title in zip(axes[0], COLUMNS):
        panel.set_title(title)
      for panels in axes[len(portraits[start:]) :]:
        for panel in panels:
          panel.set_visible(False)
  return figure


def _draw_one(panels: "Sequence[Axes]", portrait: Portrait, draws: Sequence[Drawn]) -> None:
  """Draws the four panels of a family in one dimension."""
  family, outside = portrait.family, (1 - portrait.keep) / 2
  ends = np.array([np.quantile(drawn.z, [outside, 1 - outside]) for drawn in draws])
  low, high = ends[:, 0].min(), ends[:, 1].max()
  margin = 0.06 * (high - low)
  grid = np.linspace(low - margin, high + margin, 800)
  log_prob = jax.jit(jax.vmap(lambda eta, z: family.log_prob(eta, z[None]), (None, 0)))
  for eta, color, drawn, label in zip(portrait.etas, COLORS, draws, portrait.labels):
    density = np.exp(log_prob(eta, jnp.asarray(grid)))
    panels[0].plot(grid, np.where(np.isfinite(density), density, np.nan), color=color, label=label)
    z = drawn.z[:, 0]
    if drawn.noise is None:  # sorted z by rank, as a monotone g of one number ε has it
      noise, z = (np.arange(len(z)) + 0.5) / len(z), np.sort(z)
    else:
      order = np.argsort(drawn.noise)
      noise, z = drawn.noise[order], z[order]
    seen = (z > grid[0]) & (z < grid[-1])
    panels[1].plot(noise[seen], z[seen], color=color)
  peak = _top(log_prob, portrait, grid)
  panels[0].set(ylim=(0, 1.05 * peak), xlim=(grid[0], grid[-1]))
  panels[0].legend(fontsize=5, handlelength=0.8)
  panels[1].set_xlabel("ε" if draws[0].noise is not None else "rank of the draw", fontsize=6)
  _draw_samples(panels, portrait, draws[1], log_prob)
  for panel in (panels[0], panels[2], panels[3]):
    panel.set_xlabel("z", fontsize=6, labelpad=0)


def _draw_samples(
  panels: "Sequence[Axes]", portrait: Portrait, drawn: Drawn, log_prob: Callable
) -> None:
  """Draws the second member's samples beside its density, and the derivatives of some."""
  eta, outside = portrait.etas[1], (1 - portrait.keep) / 2
  z = drawn.z[:, 0]
  low, high = np.quantile(z, [outside, 1 - outside])
  margin = 0.06 * (high - low)
  inside = (z > low - margin) & (z < high + margin)
  bins = np.linspace(low - margin, high + margin, 41)
  counts, _ = np.histogram(z, bins)
  panels[2].stairs(counts / len(z) / np.diff(bins), bins, fill=True, color=SAMPLES, alpha=0.6)
  fine = np.linspace(bins[0], bins[-1], 400)
  density = np.exp(log_prob(eta, jnp.asarray(fine)))
  panels[2].plot(fine, np.where(np.isfinite(density), density, np.nan), color=COLORS[1])
  panels[2].set_ylim(0, 1.3 * counts.max() / len(z) / np.diff(bins)[0])
  few = np.flatnonzero(inside)[:400]
  for (name, slopes), color in zip(drawn.derivatives.items(), ("#cc79a7", "#009e73")):
    panels[3].plot(z[few], slopes[few, 0], ".", ms=1.5, color=color, label=name.replace("_", " "))
  panels[3].legend(fontsize=5, handlelength=0.4, markerscale=3)


def _top(log_prob: Callable, portrait: Portrait, grid: np.ndarray) -> float:
  """Returns the height that shows all densities, except one that diverges at an end."""
  tops = []
  for eta in portrait.etas:
    density = np.exp(log_prob(eta, jnp.asarray(grid)))
    density = density[np.isfinite(density)]
    tops.append(min(density.max(), 6 * np.quantile(density, 0.9)))
  return max(tops)


def _draw_several(panels: "Sequence[Axes]", portrait: Portrait, draws: Sequence[Drawn]) -> None:
  """Draws two numbers of z: both of an ellipse, or the first two of three that add up to 1."""
  family, z = portrait.family, draws[1].z
  on_simplex = family.widest.kind == "simplex"
  if on_simplex:
    low, high = np.full(2, 0.0), np.full(2, 1.0)
  else:
    low, high = np.quantile(z[:, :2], [0.01, 0.99], axis=0)
  first, second = np.meshgrid(*(np.linspace(a, b, 120) for a, b in zip(low, high)))
  points = np.stack([first.ravel(), second.ravel()], axis=1)
  if on_simplex:
    points = np.column_stack([points, 1 - points.sum(axis=1)])
  for eta, color in zip(portrait.etas, COLORS):
    q = distribution(family, eta)
    log_p = np.array(jax.vmap(q.log_prob)(jnp.asarray(points, z.dtype))).reshape(first.shape)
    log_p[~np.isfinite(log_p)] = np.nan
    levels = np.nanquantile(log_p, [0.5, 0.7, 0.85, 0.95])
    panels[0].contour(
      first, second, log_p, np.unique(levels), colors=color, linewidths=0.7, linestyles="solid"
    )
  for label, color in zip(portrait.labels, COLORS):
    panels[0].plot([], [], color=color, label=label)
  panels[0].legend(fontsize=5, handlelength=0.8, frameon=True, framealpha=0.9)
  few = slice(0, 400)
  for drawn, color in zip(draws, COLORS):
    panels[1].plot(*drawn.z[few, :2].T, ".", ms=1, color=color)
  panels[2].plot(*z[:2000, :2].T, ".", ms=1, color=SAMPLES, alpha=0.6)
  name, slopes = list(draws[1].derivatives.items())[-1]
  panels[3].plot(z[few, 0], slopes[few].reshape(400, -1)[:, 0], ".", ms=1.5, color="#cc79a7")
  panels[3].set_xlabel("z₁", fontsize=6, labelpad=0)
  label = f"∂z₁/∂{name.replace('_', ' ')}₁"
  panels[3].plot([], [], ".", color="#cc79a7", label=label)
  panels[3].legend(fontsize=5, handlelength=0.4)
  for panel in panels[:3]:
    panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    panel.set_xlabel("z₁", fontsize=6, labelpad=0)
