"""Nearest neighbors of cells in any space: how often they share a label, and how often two spaces agree on them.

`load_umap` imports UMAP, which embeds cells so that neighbors stay together.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.neighbors import NearestNeighbors

N_NEIGHBORS = 15


class MissingExtraError(ImportError, ValueError):
    """An optional dependency is not installed. As a ``ValueError`` it ends a command with its message instead of a traceback."""


def load_umap() -> type:
    """Import UMAP, an optional dependency with a large compiler.

    Returns
    -------
    type
        The class ``umap.UMAP``.

    Raises
    ------
    MissingExtraError
        If ``umap-learn`` is not installed.
    """
    try:
        from umap import UMAP
    except ImportError:
        raise MissingExtraError('umap-learn is not installed: pip install "jaxephys[umap]"') from None
    return UMAP


def nearest_neighbors(
    points: Float[np.ndarray, "cell column"], n_neighbors: int = N_NEIGHBORS
) -> Int[np.ndarray, "cell neighbor"]:
    """Return the nearest other cells of each cell by Euclidean distance.

    Parameters
    ----------
    points : array, shape (n_cells, n_dimensions)
        Coordinates of the cells.
    n_neighbors : int, default 15
        Number of neighbors of each cell.

    Returns
    -------
    array of int, shape (n_cells, n_neighbors)
        Indices of cells, the nearest first.
    """
    return NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(return_distance=False)


def neighbor_purity(
    neighbors: Int[np.ndarray, "cell neighbor"], labels: Shaped[np.ndarray, "cell"]
) -> Float[np.ndarray, "cell"]:
    """Return the share of the neighbors of each cell that have its label.

    Parameters
    ----------
    neighbors : array of int, shape (n_cells, n_neighbors)
        Result of `nearest_neighbors`.
    labels : array, shape (n_cells,)
        Label of each cell.

    Returns
    -------
    array, shape (n_cells,)
        Shares from 0 to 1.
    """
    return (labels[neighbors] == labels[:, None]).mean(axis=1)


def chance_purity(
    neighbors: Int[np.ndarray, "cell neighbor"],
    labels: Shaped[np.ndarray, "cell"],
    groups: Shaped[np.ndarray, "cell"],
    shuffles: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw"]:
    """Return the mean purity of labels shuffled within groups.

    Parameters
    ----------
    neighbors : array of int, shape (n_cells, n_neighbors)
        Result of `nearest_neighbors`.
    labels : array, shape (n_cells,)
        Label of each cell.
    groups : array, shape (n_cells,)
        Confounder: a label is only exchanged between cells of the same group.
    shuffles : int
        Number of shuffles.
    rng : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    array, shape (shuffles,)
        Mean purity of each shuffle.
    """
    return np.array(
        [neighbor_purity(neighbors, shuffle_within_groups(labels, groups, rng)).mean() for _ in range(shuffles)]
    )


def shuffle_within_groups(
    labels: Shaped[np.ndarray, "cell"], groups: Shaped[np.ndarray, "cell"], rng: np.random.Generator
) -> Shaped[np.ndarray, "cell"]:
    """Return the labels, permuted among the cells of each group.

    Parameters
    ----------
    labels, groups : array, shape (n_cells,)
        Label and group of each cell.
    rng : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    array, shape (n_cells,)
        Shuffled labels.
    """
    shuffled = np.empty_like(labels)
    shuffled[np.argsort(groups, kind="stable")] = labels[np.lexsort((rng.random(len(labels)), groups))]
    return shuffled


def neighbor_overlap(first: Int[np.ndarray, "cell neighbor"], second: Int[np.ndarray, "cell neighbor"]) -> float:
    """Return the share of the neighbors of a cell in one space that are its neighbors in another, as the mean over cells.

    Parameters
    ----------
    first, second : array of int, shape (n_cells, n_neighbors)
        Results of `nearest_neighbors` for the same cells in two spaces.

    Returns
    -------
    float
        Share from 0 to 1.
    """
    return float((first[:, :, None] == second[:, None, :]).any(axis=2).mean())
