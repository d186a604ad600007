"""The map of recordings: far apart where one predicts the other badly.

Of the transfer grid g (row: trained on, column: tested on), s_ij = (g_ij + g_ji) / 2 and d_ij = 1 / s_ij - 1, so that a
score of 1 means no distance and a ROC-AUC at chance means 1. Points are placed so that their distances come near d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import smacof


class Layout(NamedTuple):
    points: Float[np.ndarray, "recording axis"]  # of the restart with the least stress
    stress: Float[np.ndarray, "restart"]  # sum over pairs of (distance on the map - d)^2, least first
    relative_stress: float  # sqrt(least stress / sum of d^2): 0 fits exactly, above 0.2 the map misleads
    disparity: Float[np.ndarray, "restart"]  # Procrustes, of each restart from the first: 0 is the same map, 1 another


class Substitute(NamedTuple):
    """A recording that could stand for another: how alike they are, and what a model of it scores on the other."""

    name: str
    similarity: float
    score: float


def similarities(grid: Real[np.ndarray, "recording _"]) -> Float[np.ndarray, "recording recording"]:
    grid = np.asarray(grid, np.float64)
    if grid.ndim != 2 or grid.shape[0] != grid.shape[1]:
        raise ValueError(f"a transfer grid has a row and a column for each recording, not the shape {grid.shape}.")
    wrong = ~((grid > 0) & (grid <= 1))
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise ValueError(f"the score of recording {i} on {j} is {grid[i, j]}: a map needs scores above 0, up to 1.")
    return (grid + grid.T) / 2


def distances(grid: Real[np.ndarray, "recording _"]) -> Float[np.ndarray, "recording recording"]:
    """d_ij = 1 / s_ij - 1; of a recording from itself 0, however well it predicts itself."""
    apart = 1 / similarities(grid) - 1
    np.fill_diagonal(apart, 0)
    return apart


def make_layout(
    grid: Real[np.ndarray, "recording _"], dimensions: int = 3, restarts: int = 32, seed: int = 0
) -> Layout:
    """Least sum over pairs of (|x_i - x_j| - d_ij)^2 by SMACOF, from random starts.

    Each step of SMACOF lowers the stress (de Leeuw 1977), which a gradient step does not promise; but it stops in the
    nearest dip, so the best of many starts is kept. The disparity tells whether the others found the same map, whatever
    way it lies: Procrustes turns, mirrors and scales before it compares.
    """
    apart = distances(grid)
    if len(apart) < 3:
        raise ValueError(f"a map needs 3 or more recordings, not {len(apart)}.")
    rng = np.random.default_rng(seed)
    found = [
        smacof(
            apart,
            n_components=dimensions,
            init=rng.normal(size=(len(apart), dimensions)) * apart.mean(),
            n_init=1,
            max_iter=3000,
            eps=1e-9,
        )[0]
        for _ in range(restarts)
    ]
    wanted = squareform(apart, checks=False)
    stress = np.array([((pdist(np.asarray(points)) - wanted) ** 2).sum() for points in found])
    order = np.argsort(stress, kind="stable")
    best = found[order[0]]
    disparity = np.array([procrustes(best, found[place])[2] for place in order])
    return Layout(_upright(best), stress[order], float(np.sqrt(stress[order[0]] / (wanted**2).sum())), disparity)


def rank_seeds(grid: Float[np.ndarray, "recording recording"]) -> Float[np.ndarray, "recording"]:
    """Mean score of a model of this recording on the others: high means a good one to train on."""
    return _without_self(grid).mean(axis=1)


def rank_targets(grid: Float[np.ndarray, "recording recording"]) -> Float[np.ndarray, "recording"]:
    """Mean score of the models of the others on this recording: high means easy to predict."""
    return _without_self(grid.T).mean(axis=1)


def find_substitutes(
    grid: Real[np.ndarray, "recording _"], names: Sequence[str], number: int = 3
) -> dict[str, list[Substitute]]:
    """For each recording those nearest to it, by d and not by the map, which can only come near d."""
    alike, apart = similarities(grid), distances(grid)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argsort(axis=1, kind="stable")[:, : min(number, len(apart) - 1)]
    return {
        name: [Substitute(names[int(j)], float(alike[i, j]), float(grid[j, i])) for j in nearest[i]]
        for i, name in enumerate(names)
    }


def _without_self(grid: Float[np.ndarray, "recording recording"]) -> Float[np.ndarray, "recording others"]:
    """Each row without its entry on the diagonal."""
    return grid[~np.eye(len(grid), dtype=bool)].reshape(len(grid), -1)


def _upright(points: Float[np.ndarray, "recording axis"]) -> Float[np.ndarray, "recording axis"]:
    """Turned to its principal axes, the widest first, each pointing where its largest entry is positive.

    Distances leave the direction open; without this the same grid gave another picture each time.
    """
    centred = points - points.mean(axis=0)
    turned = centred @ np.linalg.svd(centred, full_matrices=False)[2].T
    return turned * np.sign(turned[np.abs(turned).argmax(axis=0), np.arange(turned.shape[1])])
