"""A map of recordings from a transfer grid: recordings that predict each other badly are far apart.

With g the transfer grid (row: trained on, column: tested on), the similarity is s_ij = (g_ij + g_ji) / 2 and the distance
d_ij = 1 / s_ij - 1, so that a score of 1 gives distance 0 and a ROC AUC at chance gives 1. Points are placed such that their
distances approximate d. Start with :func:`make_layout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from sklearn.manifold import smacof

METHODS = ("smacof", "gradient_descent")
GRADIENT_STEPS, LEARNING_RATE, SMALLEST_STEP = 10_000, 0.01, 1e-7  # of the gradient descent


class Layout(NamedTuple):
    """Positions of recordings, and how well they represent the distances.

    Parameters
    ----------
    points : float array of shape (recordings, dimensions)
        Positions from the restart with the least stress.
    stress : float array of shape (restarts,)
        Sum over pairs of ``(distance of the points - d)^2``, ascending.
    relative_stress : float
        ``sqrt(least stress / sum of d^2)``: 0 for an exact map; above 0.2 the map is misleading.
    disparity : float array of shape (restarts,)
        Procrustes disparity of each restart from the first: 0 for the same map, 1 for an unrelated one.
    """

    points: Float[np.ndarray, "recording axis"]
    stress: Float[np.ndarray, "restart"]
    relative_stress: float
    disparity: Float[np.ndarray, "restart"]


class Substitute(NamedTuple):
    """A recording that could replace another one in training.

    Parameters
    ----------
    name : str
        Name of the recording.
    similarity : float
        s of the two recordings.
    score : float
        Score on the other recording of a model trained on this one.
    """

    name: str
    similarity: float
    score: float


def make_layout(
    grid: Real[np.ndarray, "recording _"],
    dimensions: int = 3,
    restarts: int = 32,
    seed: int = 0,
    *,
    method: str = "smacof",
) -> Layout:
    """Place recordings from random starts, by SMACOF or by gradient descent.

    Parameters
    ----------
    grid : array of shape (recordings, recordings)
        Scores in (0, 1]; rows are training recordings, columns test recordings. Three recordings or more.
    dimensions : int
        Dimensions of the map.
    restarts : int
        Number of random starts.
    seed : int
        Seed of the starts, which are the same for both methods.
    method : {"smacof", "gradient_descent"}, default "smacof"
        How the stress is reduced; the paper uses gradient descent.

    Returns
    -------
    Layout
        The map with the least ``sum over pairs of (|x_i - x_j| - d_ij)^2``.

    Raises
    ------
    ValueError
        If there are fewer than three recordings, scores outside (0, 1], or the method is unknown.

    Notes
    -----
    No step of SMACOF increases the stress (de Leeuw 1977). It is a step along the negative gradient with the rate 1 / (2 n), for n
    recordings; gradient descent has a fixed rate of 0.01, or 1 / (2 n) if that is smaller. Both stop in the nearest local minimum, so
    the best of many starts is kept; the paper has one start. The disparity shows whether the other starts found the same map:
    Procrustes analysis rotates, mirrors and scales before it compares.

    Examples
    --------
    >>> import numpy as np
    >>> grid = np.array([[0.9, 0.8, 0.6], [0.8, 0.9, 0.6], [0.6, 0.6, 0.9]])
    >>> layout = make_layout(grid, dimensions=2, restarts=4)
    >>> layout.points.shape, bool(layout.relative_stress < 0.01)
    ((3, 2), True)
    """
    distance = distances(grid)
    if len(distance) < 3:
        raise ValueError(f"A map needs 3 or more recordings, not {len(distance)}.")
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")
    rng = np.random.default_rng(seed)
    starts = [rng.normal(size=(len(distance), dimensions)) * distance.mean() for _ in range(restarts)]
    if method == "smacof":
        options: dict = {"n_components": dimensions, "n_init": 1, "max_iter": 3000, "eps": 1e-9}
        maps = [smacof(distance, init=start, **options)[0] for start in starts]
    else:
        maps = list(_descend(distance, np.stack(starts)))
    target = squareform(distance, checks=False)
    stress = np.array([((pdist(np.asarray(points)) - target) ** 2).sum() for points in maps])
    order = np.argsort(stress, kind="stable")
    best = maps[order[0]]
    disparity = np.array([procrustes(best, maps[index])[2] for index in order])
    relative_stress = float(np.sqrt(stress[order[0]] / (target**2).sum()))
    return Layout(_align_to_axes(best), stress[order], relative_stress, disparity)


def similarities(grid: Real[np.ndarray, "recording _"]) -> Float[np.ndarray, "recording recording"]:
    """Compute the mean score of both directions for each pair of recordings.

    Parameters
    ----------
    grid : array of shape (recordings, recordings)
        Scores in (0, 1].

    Returns
    -------
    float array of shape (recordings, recordings)
        Symmetric similarities.

    Raises
    ------
    ValueError
        If the grid is not square, or a score lies outside (0, 1].
    """
    grid = np.asarray(grid, np.float64)
    if grid.ndim != 2 or grid.shape[0] != grid.shape[1]:
        raise ValueError(f"A transfer grid has a row and a column for each recording, not the shape {grid.shape}.")
    invalid = ~((grid > 0) & (grid <= 1))
    if invalid.any():
        i, j = np.argwhere(invalid)[0]
        raise ValueError(f"The score of recording {i} on {j} is {grid[i, j]}: a map needs scores above 0, up to 1.")
    return (grid + grid.T) / 2


def distances(grid: Real[np.ndarray, "recording _"]) -> Float[np.ndarray, "recording recording"]:
    """Compute the distances of recordings, ``1 / similarity - 1``.

    Parameters
    ----------
    grid : array of shape (recordings, recordings)
        Scores in (0, 1].

    Returns
    -------
    float array of shape (recordings, recordings)
        Symmetric distances; the diagonal is 0, however well a recording predicts itself.
    """
    distance = 1 / similarities(grid) - 1
    np.fill_diagonal(distance, 0)
    return distance


def source_quality(grid: Float[np.ndarray, "recording recording"]) -> Float[np.ndarray, "recording"]:
    """Compute how good each recording is to train on.

    Parameters
    ----------
    grid : array of shape (recordings, recordings)
        Scores; rows are training recordings.

    Returns
    -------
    float array of shape (recordings,)
        Mean score of its model on the other recordings.
    """
    return _off_diagonal_rows(grid).mean(axis=1)


def predictability(grid: Float[np.ndarray, "recording recording"]) -> Float[np.ndarray, "recording"]:
    """Compute how easy each recording is to predict.

    Parameters
    ----------
    grid : array of shape (recordings, recordings)
        Scores; columns are test recordings.

    Returns
    -------
    float array of shape (recordings,)
        Mean score on it of the models of the other recordings.
    """
    return _off_diagonal_rows(grid.T).mean(axis=1)


def find_substitutes(
    grid: Real[np.ndarray, "recording _"], names: Sequence[str], number: int = 3
) -> dict[str, list[Substitute]]:
    """Find for each recording the most similar other recordings.

    They are found by the distances themselves, because a map only approximates these.

    Parameters
    ----------
    grid : array of shape (recordings, recordings)
        Scores in (0, 1].
    names : sequence of str
        Names of the recordings.
    number : int
        Substitutes per recording, at most all others.

    Returns
    -------
    dict of str to list of Substitute
        By name of the recording, the most similar first.
    """
    similarity, distance = similarities(grid), distances(grid)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argsort(axis=1, kind="stable")[:, : min(number, len(distance) - 1)]
    return {
        name: [Substitute(names[int(j)], float(similarity[i, j]), float(grid[j, i])) for j in nearest[i]]
        for i, name in enumerate(names)
    }


def _descend(
    distance: Float[np.ndarray, "recording recording"], points: Float[np.ndarray, "restart recording axis"]
) -> Float[np.ndarray, "restart recording axis"]:
    """Move the points of all restarts along the negative gradient of the stress until they rest."""
    rate = min(LEARNING_RATE, 1 / (2 * len(distance)))
    for _ in range(GRADIENT_STEPS):
        difference = points[:, :, None] - points[:, None]
        length = np.linalg.norm(difference, axis=-1)
        excess = (length - distance) / np.maximum(length, 1e-12)
        step = rate * 2 * (excess[..., None] * difference).sum(axis=2)
        points = points - step
        if np.abs(step).max() < SMALLEST_STEP:
            break
    return points


def _off_diagonal_rows(grid: Float[np.ndarray, "recording recording"]) -> Float[np.ndarray, "recording others"]:
    """Return each row without its entry on the diagonal."""
    return grid[~np.eye(len(grid), dtype=bool)].reshape(len(grid), -1)


def _align_to_axes(points: Float[np.ndarray, "recording axis"]) -> Float[np.ndarray, "recording axis"]:
    """Rotate points to their principal axes, the widest first, such that the largest entry of each axis is positive.

    Distances do not determine the orientation; without this step the same grid would give a different figure each time.
    """
    centered = points - points.mean(axis=0)
    rotated = centered @ np.linalg.svd(centered, full_matrices=False)[2].T
    return rotated * np.sign(rotated[np.abs(rotated).argmax(axis=0), np.arange(rotated.shape[1])])
