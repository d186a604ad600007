"""Neighbours: who lies beside whom, in any space, and how often they are alike. No picture is needed to ask."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 15


def neighbours(points: np.ndarray, count: int = NEIGHBOURS) -> np.ndarray:  # [cell, neighbour]
    """The nearest other cells of each cell."""
    return NearestNeighbors(n_neighbors=count).fit(points).kneighbors(return_distance=False)


def purity(near: np.ndarray, label: np.ndarray) -> np.ndarray:  # [cell]
    """The share of the neighbours of each cell that have its label."""
    return (label[near] == label[:, None]).mean(axis=1)


def shuffle(label: np.ndarray, fixed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The labels, each handed to a cell that is alike in what is fixed."""
    mixed = np.empty_like(label)
    mixed[np.argsort(fixed, kind="stable")] = label[np.lexsort((rng.random(len(label)), fixed))]
    return mixed


def chance_purities(
    near: np.ndarray, label: np.ndarray, fixed: np.ndarray, shuffles: int, rng: np.random.Generator
) -> np.ndarray:  # [shuffle]
    """The mean purity of shuffled labels."""
    return np.array([purity(near, shuffle(label, fixed, rng)).mean() for _ in range(shuffles)])


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the neighbours of a cell that it has in another space, too: mean over cells."""
    return float((one[:, :, None] == other[:, None, :]).any(axis=2).mean())
