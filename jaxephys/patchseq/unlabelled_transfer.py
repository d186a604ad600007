"""Tethered: classes carried from one species to another of which no cell is labelled, on features that both share.

A classifier trained on mouse cells fails on human ones because whole classes have moved: human cells of every subclass
sag more and rest higher, which looks like Sst of the mouse. Their arrangement has moved less. So the classes of the new
species are Gaussians, fitted to its unlabelled cells by EM, while their offsets from one another are tethered to those of
the species that is known:

    mu_k = (sum_i q_ik x_i + nu (m_k + c)) / (n_k + nu),   m_k = mean of known class k - mean over classes,
    c = mean over classes of the class means,  n_k = sum_i q_ik
    W = half the known species' covariance within classes + half the new one's, a tenth of it drawn to a sphere
    q_ik ~ (n_k + n / K) N(x_i; mu_k, W)

Each species is scaled by its own cells. No label of the new species is used anywhere; its cells are, all at once, so what
is predicted for one depends on the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from jaxephys.patchseq.preprocessing import fit_signed_log, scaled, span_of

TETHER = 50 / 704  # pseudo-cells a class for each cell of the new species
SPHERE = 0.1
SETTLED = 1e-4  # mean change of the probabilities at which the iterations end
ITERATIONS = 200

Means = Float[np.ndarray, "class column"]
Covariance = Float[np.ndarray, "column column"]


@dataclass(frozen=True)
class Tethered:
    """What was found: probabilities of the new species' cells, and where its classes lie."""

    probability: Float[np.ndarray, "cell class"]
    means: Means
    start: Float[np.ndarray, "cell class"]  # of the classifier trained on the known species alone
    iterations: int
    settled: bool


def carry_over(
    known: Float[np.ndarray, "some column"],
    codes: Int[np.ndarray, "some"],
    new: Float[np.ndarray, "cell column"],
    tether: float = TETHER,
) -> Tethered:
    """Classes of the ``new`` species' cells from the labelled cells of the ``known`` one. NaN where a value is missing."""
    x, y = (np.asarray(scaled(values, fit_signed_log(values)), np.float64) for values in (known, new))
    basis = span_of(np.concatenate([x, y]))
    x, y = (x, y) if basis is None else (x @ basis, y @ basis)
    classes = int(codes.max()) + 1
    model = LogisticRegression(C=0.3, class_weight="balanced", max_iter=2000).fit(x, codes)
    q = start = model.predict_proba(y)
    own = np.eye(classes)[codes]
    centres = own.T @ x / own.sum(axis=0)[:, None]
    offsets, shape = centres - centres.mean(axis=0), _within_evenly(x, own, centres)
    strength, means = tether * len(y), centres
    for iteration in range(1, ITERATIONS + 1):
        means = _means(y, q, offsets, strength)
        spread = 0.5 * shape + 0.5 * _within(y, q, means)
        spread = (1 - SPHERE) * spread + SPHERE * np.trace(spread) / len(spread) * np.eye(len(spread))
        before, q = q, _posterior(y, q, means, spread)
        if np.abs(q - before).mean() < SETTLED:
            return Tethered(q, means, start, iteration, True)
    return Tethered(q, means, start, ITERATIONS, False)


def _means(y: Float[np.ndarray, "cell column"], q: Float[np.ndarray, "cell class"], offsets: Means, nu: float) -> Means:
    count, total = q.sum(axis=0)[:, None], q.T @ y
    centre = (total / np.maximum(count, 1e-9)).mean(axis=0)
    return (total + nu * (offsets + centre)) / (count + nu)


def _within(y: Float[np.ndarray, "cell column"], q: Float[np.ndarray, "cell class"], means: Means) -> Covariance:
    """Covariance within classes, each cell counted once."""
    apart = y[:, None] - means
    return np.einsum("ck,cki,ckj->ij", q, apart, apart) / len(y)


def _within_evenly(
    x: Float[np.ndarray, "some column"], own: Float[np.ndarray, "some class"], centres: Means
) -> Covariance:
    """The mean of the covariances of the classes: each class counts once, for their shares differ between species."""
    apart = x - own @ centres
    each = [(apart[member].T @ apart[member]) / member.sum() for member in own.T.astype(bool)]
    return np.mean(each, axis=0)


def _posterior(
    y: Float[np.ndarray, "cell column"], q: Float[np.ndarray, "cell class"], means: Means, spread: Covariance
) -> Float[np.ndarray, "cell class"]:
    precision = np.linalg.inv(spread)
    prior = np.log(q.sum(axis=0) + len(y) / q.shape[1])
    return softmax(y @ precision @ means.T - np.einsum("ki,ij,kj->k", means, precision, means) / 2 + prior, axis=1)
