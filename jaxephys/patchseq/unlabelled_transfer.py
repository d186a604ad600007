"""Transfer of classes to a species without labels: ``transfer_without_labels``.

A classifier trained on mouse cells fails on human ones because whole classes have moved: human cells of every subclass sag
more and rest at a higher potential, which resembles Sst of the mouse. The arrangement of the classes has moved less. So the
classes of the target species are Gaussians that EM fits to its unlabelled cells, while their offsets from one another are
regularized towards those of the source species:

    mu_k = (sum_i q_ik x_i + nu (m_k + c)) / (n_k + nu),   m_k = mean of source class k - mean over source classes,
    c = mean over classes of the class means,  n_k = sum_i q_ik
    W = half the source's covariance within classes + half the target's, a tenth of it replaced by a sphere
    q_ik ~ (n_k + n / K) N(x_i; mu_k, W)

Each species is scaled by its own cells. No label of the target species is used. Its cells are used all at once, so that the
prediction for one cell depends on the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from jaxephys.patchseq.preprocessing import apply_scale, fit_signed_log, row_span_basis

REGULARIZATION = 50 / 704  # pseudo-cells per class for each cell of the target species
SHRINKAGE = 0.1
TOLERANCE = 1e-4  # mean change of the probabilities at which the iterations end
MAX_ITERATIONS = 200

Means = Float[np.ndarray, "class column"]


@dataclass(frozen=True)
class UnlabelledTransfer:
    """Result of a transfer without target labels.

    Parameters
    ----------
    probability : array of shape (cell, class)
        Class probabilities of the target cells.
    means : array of shape (class, column)
        Class means of the target species, scaled, in the directions that all cells span.
    initial_probability : array of shape (cell, class)
        Predictions of the logistic regression trained on the source species, from which EM starts.
    iterations : int
        Number of iterations of EM.
    converged : bool
        Whether the probabilities changed by less than 1e-4 in the last iteration.
    """

    probability: Float[np.ndarray, "cell class"]
    means: Means
    initial_probability: Float[np.ndarray, "cell class"]
    iterations: int
    converged: bool


def transfer_without_labels(
    source: Float[np.ndarray, "some column"],
    codes: Int[np.ndarray, "some"],
    target: Float[np.ndarray, "cell column"],
    regularization: float = REGULARIZATION,
) -> UnlabelledTransfer:
    """Classify the cells of a species without labels from the labelled cells of another species.

    Parameters
    ----------
    source : array of shape (source cell, column)
        Features of the source species, NaN where a value is missing.
    codes : array of int, shape (source cell,)
        Class of each source cell.
    target : array of shape (cell, column)
        The same features of the target species; other units are allowed, since each species is scaled by its own cells.
    regularization : float, default 50 / 704
        Pseudo-cells per class and target cell that hold the class offsets at those of the source. Large values keep the
        offsets of the source, small ones follow the target cells.

    Returns
    -------
    UnlabelledTransfer
        Probabilities, class means and convergence.
    """
    x, y = (np.asarray(apply_scale(values, fit_signed_log(values)), np.float64) for values in (source, target))
    basis = row_span_basis(np.concatenate([x, y]))
    x, y = (x, y) if basis is None else (x @ basis, y @ basis)
    n_classes = int(codes.max()) + 1
    model = LogisticRegression(C=0.3, class_weight="balanced", max_iter=2000).fit(x, codes)
    q = initial = model.predict_proba(y)
    one_hot = np.eye(n_classes)[codes]
    source_means = one_hot.T @ x / one_hot.sum(axis=0)[:, None]
    offsets = source_means - source_means.mean(axis=0)
    # Every source class has the same weight, since shares differ between species; in the target every cell has.
    differences = x - source_means[codes]
    members = [codes == code for code in range(n_classes)]
    scatters = [differences[member].T @ differences[member] / member.sum() for member in members]
    source_covariance = np.mean(scatters, axis=0)
    pseudo_cells, means = regularization * len(y), source_means
    for iteration in range(1, MAX_ITERATIONS + 1):
        count, total = q.sum(axis=0)[:, None], q.T @ y
        center = (total / np.maximum(count, 1e-9)).mean(axis=0)
        means = (total + pseudo_cells * (offsets + center)) / (count + pseudo_cells)
        differences = y[:, None] - means
        target_covariance = np.einsum("ck,cki,ckj->ij", q, differences, differences) / len(y)
        covariance = 0.5 * source_covariance + 0.5 * target_covariance
        sphere = SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        precision = np.linalg.inv((1 - SHRINKAGE) * covariance + sphere)
        prior = np.log(q.sum(axis=0) + len(y) / n_classes)
        norms = np.einsum("ki,ij,kj->k", means, precision, means)
        before, q = q, softmax(y @ precision @ means.T - norms / 2 + prior, axis=1)
        if np.abs(q - before).mean() < TOLERANCE:
            return UnlabelledTransfer(q, means, initial, iteration, True)
    return UnlabelledTransfer(q, means, initial, MAX_ITERATIONS, False)
