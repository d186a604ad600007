"""Sparse principal components, each with a given number of non-zero loadings.

The method of Zou, Hastie and Tibshirani (J. Comput. Graph. Stat. 15, 2006). Principal components of centred data X with
S = X'X are the solution of a regression, which may be given a penalty:

    min over A, B of  |X - X B A'|^2 + ridge |B|^2 + sum_k penalty_k |b_k|_1    with  A'A = 1.

It is solved in turns. For a given A each b_k is the elastic net of X a_k on X; for a given B, A = U V' with U D V' the
singular value decomposition of S B (Procrustes). In place of a penalty a component is given a number of non-zero loadings:
the path of the elastic net, from the largest penalty down, is left where one more would enter for the first time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# S holds nothing but rounding below this share of its largest eigenvalue: loadings would never settle there.
ROUNDING = 1000 * np.finfo(float).eps
# A path takes one to three steps a column; one that takes this many goes round in circles.
STEPS = 100


@dataclass(frozen=True)
class SparseComponents:
    """Loadings of unit length, and the share of the total variance that each component adds to those before it."""

    loadings: np.ndarray  # [column, component]
    explained: np.ndarray  # [component]
    iterations: int
    converged: bool


def sparse_pca(
    x: np.ndarray,  # [row, column]
    nonzeros: Sequence[int],
    *,
    ridge: float = 1e-6,
    tolerance: float = 1.5e-3,
    iterations: int = 500,
) -> SparseComponents:
    """One component for each number of non-zero loadings; columns are centred and not scaled.

    The turns end when no loading moves by more than ``tolerance``. ``ridge`` adds to S as it is, a sum over rows.

    Columns that are copies of one another have equal loadings and enter together, so that a component may have a few more
    than its number. They stand as one on the path, with the ridge that this one then has: divided by their number.

    Deviation: the ridge is never below the rounding of S. Smooth curves have far fewer directions than columns, and the
    smallest ridge would be lost there; on recordings, whose noise is far above both, nothing changes.
    """
    x = _centred(x, len(nonzeros))
    varying = int(np.count_nonzero(x.any(axis=0)))
    for count in nonzeros:
        if not 1 <= count <= varying:
            raise ValueError(
                f"{count} non-zero loadings are asked for, and {varying} columns vary: ask for 1 to {varying}"
            )
    scatter = x.T @ x
    axes, variance = _leading(scatter, len(nonzeros))
    if variance[-1] <= ROUNDING * variance[0]:
        raise ValueError(f"{len(nonzeros)} components are asked for and the data have fewer directions: ask for fewer")
    _, first, place, copies = np.unique(x, axis=1, return_index=True, return_inverse=True, return_counts=True)
    gram = scatter[np.ix_(first, first)] + np.diag(max(ridge, ROUNDING * variance[0]) / copies)
    loadings, settled, turn = np.zeros_like(axes), False, 0
    while not settled and turn < iterations:
        targets = (scatter @ axes)[first]
        paths = [elastic_net(gram, *pair, copies) for pair in zip(targets.T, nonzeros, strict=True)]
        raw = (np.stack(paths, axis=1) / copies[:, None])[place]
        before, loadings = loadings, raw / np.linalg.norm(raw, axis=0)
        settled = bool(np.abs(loadings - before).max() <= tolerance)
        left, _, right = np.linalg.svd(scatter @ raw, full_matrices=False)
        axes, turn = left @ right, turn + 1
    loadings = _oriented(loadings)
    return SparseComponents(loadings, adjusted_variance(x, loadings), turn, settled)


def principal_components(x: np.ndarray, count: int) -> SparseComponents:
    """Ordinary principal components, in the same form."""
    x = _centred(x, count)
    axes, variance = _leading(x.T @ x, count)
    return SparseComponents(_oriented(axes), variance / np.sum(x**2), 0, True)


def adjusted_variance(x: np.ndarray, loadings: np.ndarray) -> np.ndarray:  # [component]
    """diag(R)^2 / total variance, with QR the decomposition of the scores: what each adds that those before did not have.

    Scores of sparse components are correlated, so that their plain variances would count the same variance twice.
    """
    x = x - x.mean(axis=0)
    return np.diag(np.linalg.qr(x @ loadings, mode="r")) ** 2 / np.sum(x**2)


def elastic_net(gram: np.ndarray, target: np.ndarray, nonzeros: int, copies: np.ndarray) -> np.ndarray:  # [column]
    """argmin over b of b'Gb - 2 b't + 2 h |b|_1 for the first h at which ``nonzeros`` stand and one more would enter.

    A column counts for as many as it has ``copies``.

    Least angle regression with the lasso's rule (Efron et al. 2004), on G = X'X + ridge. Every active column has the same
    correlation h with the residual. As h falls, b moves along G_AA^-1 s, with s the signs of these correlations, until a
    column outside reaches h and enters, or a coefficient crosses zero and leaves.
    """
    beta, sign, correlation = np.zeros_like(target), np.zeros_like(target), target.copy()
    active = _ActiveColumns(gram)
    first = int(np.argmax(np.abs(target)))
    height, sign[first] = abs(target[first]), np.sign(target[first])
    active.add(first, sign)
    for _ in range(STEPS * len(target)):
        positive = _times(height - correlation, 1 - active.slope, sign == 0)
        negative = _times(height + correlation, 1 + active.slope, sign == 0)
        enters = np.minimum(positive, negative)
        leaves = _times(np.abs(beta), -np.sign(beta) * active.direction, sign != 0)
        entering, leaving = int(np.argmin(enters)), int(np.argmin(leaves))
        crosses = leaves[leaving] < min(enters[entering], height)
        step = leaves[leaving] if crosses else min(enters[entering], height)
        beta += step * active.direction
        correlation -= step * active.slope
        height -= step
        if crosses:
            beta[leaving] = sign[leaving] = 0
            active.drop(leaving, sign)
        elif copies[beta != 0].sum() >= nonzeros or height <= 0:
            return beta
        else:
            sign[entering] = 1 if positive[entering] <= negative[entering] else -1
            active.add(entering, sign)
    raise ValueError(
        f"no end after {STEPS} steps a column: the columns are all but copies of each other, raise the ridge"
    )


class _ActiveColumns:
    """The active columns, made orthonormal one after the other: P'GP = 1. An entry costs two products, no inverse.

    P is the inverse of the Cholesky factor of G_AA, and the rows of G P that belong to active columns are the factor. The
    way of the coefficients is then a sum, G_AA^-1 s = P P's, to which each column adds a term.
    """

    def __init__(self, gram: np.ndarray) -> None:
        self.gram, self.order = gram, list[int]()
        self.basis = np.zeros_like(gram, order="F")  # P
        self.image = np.zeros_like(gram, order="F")  # G P
        self.direction, self.slope = np.zeros(len(gram)), np.zeros(len(gram))  # G_AA^-1 s, and G times it

    def add(self, column: int, sign: np.ndarray) -> None:
        size = len(self.order)
        shared = self.image[column, :size]
        basis = -(self.basis[:, :size] @ shared)
        basis[column] += 1
        image = self.gram[:, column] - self.image[:, :size] @ shared
        length = np.sqrt(image[column])
        self.basis[:, size], self.image[:, size] = basis / length, image / length
        self.order.append(column)
        self._extend(slice(size, size + 1), sign)

    def drop(self, column: int, sign: np.ndarray) -> None:
        """Those that came later are made orthonormal anew."""
        place = self.order.index(column)
        later = self.order[place + 1 :]
        del self.order[place:]
        self.direction[:], self.slope[:] = 0, 0
        self._extend(slice(0, place), sign)
        for other in later:
            self.add(other, sign)

    def _extend(self, some: slice, sign: np.ndarray) -> None:
        weight = self.basis[:, some].T @ sign
        self.direction += self.basis[:, some] @ weight
        self.slope += self.image[:, some] @ weight


def _times(distance: np.ndarray, speed: np.ndarray, among: np.ndarray) -> np.ndarray:
    """When each of ``among`` arrives; never if it does not approach. A distance below zero is rounding."""
    return np.divide(np.maximum(distance, 0), speed, out=np.full_like(speed, np.inf), where=among & (speed > 0))


def _leading(scatter: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first eigenvectors [column, component] and eigenvalues."""
    values, vectors = np.linalg.eigh(scatter)
    return vectors[:, ::-1][:, :count], values[::-1][:count]


def _centred(x: np.ndarray, count: int) -> np.ndarray:
    x = np.asarray(x, float)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"sparse components need finite rows x columns, not shape {x.shape} with missing values")
    if not 1 <= count <= min(len(x) - 1, x.shape[1]):
        raise ValueError(
            f"{count} components are asked for from {len(x)} rows x {x.shape[1]} columns: there is room for less"
        )
    x = np.where(np.ptp(x, axis=0) > 0, x - x.mean(axis=0), 0)  # less its mean, a constant may leave rounding
    if not x.any():
        raise ValueError(f"none of the {x.shape[1]} columns varies over the {len(x)} rows: there is nothing to explain")
    return x


def _oriented(loadings: np.ndarray) -> np.ndarray:
    """The sign of a component means nothing: its largest loading is made positive, so that two fits can be compared."""
    return loadings * np.sign(np.take_along_axis(loadings, np.abs(loadings).argmax(axis=0)[None], axis=0))
