"""Scores of a classifier over padded rows, in jax.numpy.

Every score runs under `jit` and under `vmap` over a leading run axis. A row of weight 0 is padding:
whatever stands in it (NaN and inf too) changes no number. A NaN in a row that counts makes every
score nan, so that a diverged run cannot look fine; so does a table without any row that counts.
The labels of the rows that count lie in 0 .. classes - 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray

Scalar = Float[Array, ""]


def confusion(
    label: Int[AnyArray, "row"],
    predicted: Int[AnyArray, "row"],
    weight: Float[AnyArray, "row"],
    classes: int,
) -> Float[AnyArray, "class class"]:
    """Weight of the rows with truth i and prediction j, at [i, j].

    A product of two one-hot tables: unlike a scatter-add it sums in a fixed order, so that a GPU
    gives the same numbers twice. Without the precision a GPU would round the weights to TF32.
    """
    truth = jax.nn.one_hot(label, classes) * weight[:, None]
    guess = jax.nn.one_hot(predicted, classes)
    return jnp.matmul(truth.T, guess, precision=jax.lax.Precision.HIGHEST)


def accuracy(label: Int[AnyArray, "row"], predicted: Int[AnyArray, "row"], weight: Float[AnyArray, "row"]) -> Scalar:
    """Share of the weight whose prediction is right."""
    return _mean(label == predicted, weight)


def balanced_accuracy(
    label: Int[AnyArray, "row"],
    predicted: Int[AnyArray, "row"],
    weight: Float[AnyArray, "row"],
    classes: int,
) -> Scalar:
    """Mean recall over the classes with a true row, as scikit-learn; the others have no recall."""
    return _balanced_accuracy(confusion(label, predicted, weight, classes))


def class_f1(
    label: Int[AnyArray, "row"],
    predicted: Int[AnyArray, "row"],
    weight: Float[AnyArray, "row"],
    classes: int,
) -> Float[AnyArray, "class"]:
    """F1 of each class, 2 TP / (2 TP + FP + FN); 0 if absent from both truth and prediction."""
    return _class_f1(confusion(label, predicted, weight, classes))


def class_scores(
    label: Int[AnyArray, "row"],
    predicted: Int[AnyArray, "row"],
    weight: Float[AnyArray, "row"],
    classes: int,
) -> dict[str, Float[AnyArray, "class"]]:
    """Precision, recall and F1 of each class. Without a prediction there is no precision, without a true row no recall: nan."""
    table = confusion(label, predicted, weight, classes)
    hits = jnp.diag(table)
    return {"precision": hits / table.sum(axis=0), "recall": hits / table.sum(axis=1), "f1": _class_f1(table)}


def macro_f1(
    label: Int[AnyArray, "row"],
    predicted: Int[AnyArray, "row"],
    weight: Float[AnyArray, "row"],
    classes: int,
) -> Scalar:
    """Mean of `class_f1` over all classes: scikit-learn's `labels=range(classes), zero_division=0`.

    A class absent from both truth and prediction counts 0 and stays in the divisor. scikit-learn's
    default drops it; the divisor would then depend on the split and on the model, and two runs
    could not be compared.
    """
    return _class_f1(confusion(label, predicted, weight, classes)).mean()


def binary_roc_auc(
    label: Int[AnyArray, "row"], score: Float[AnyArray, "row"], weight: Float[AnyArray, "row"]
) -> Scalar:
    """P(a positive scores above a negative) + P(they tie) / 2; label 1 is positive, others are not.

    The area under the ROC polygon with one corner a distinct score: its trapezoids give tied scores
    their midrank, so it is exact. nan without a positive or without a negative row.
    """
    hits, misses = _curve(label == 1, *_clean(score, weight))
    recall = hits / hits[-1]
    height = recall - jnp.diff(recall, prepend=0.0) / 2
    return jnp.sum(jnp.diff(misses, prepend=0.0) * height) / misses[-1]


def roc_auc(label: Int[AnyArray, "row"], prob: Float[AnyArray, "row class"], weight: Float[AnyArray, "row"]) -> Scalar:
    """Macro one-vs-rest `binary_roc_auc`.

    A class without a positive or without a negative row is left out; nan if no class remains.
    """
    return _one_vs_rest(binary_roc_auc, label, prob, weight)


def binary_average_precision(
    label: Int[AnyArray, "row"], score: Float[AnyArray, "row"], weight: Float[AnyArray, "row"]
) -> Scalar:
    """sum_k (recall_k - recall_(k-1)) precision_k over the distinct scores k, highest first.

    Label 1 is positive, others are not. Steps without interpolation, as scikit-learn; tied scores
    are one step. nan without a positive row, and (where scikit-learn says 1) without a negative.
    """
    hits, misses = _curve(label == 1, *_clean(score, weight))
    found = hits + misses
    precision = hits / jnp.where(found == 0, 1.0, found)
    area = jnp.sum(jnp.diff(hits, prepend=0.0) * precision) / hits[-1]
    return jnp.where(misses[-1] == 0, jnp.nan, area)


def average_precision(
    label: Int[AnyArray, "row"], prob: Float[AnyArray, "row class"], weight: Float[AnyArray, "row"]
) -> Scalar:
    """Macro one-vs-rest `binary_average_precision`.

    A class without a positive or without a negative row is left out; nan if no class remains.
    """
    return _one_vs_rest(binary_average_precision, label, prob, weight)


def ece(
    label: Int[AnyArray, "row"],
    prob: Float[AnyArray, "row class"],
    weight: Float[AnyArray, "row"],
    bins: int = 15,
) -> Scalar:
    """Expected calibration error, sum_b share_b |accuracy_b - confidence_b|, of the top class.

    The bins are (0, 1/bins], ..., (1 - 1/bins, 1], of equal width as in Guo et al. 2017. Their
    edges are rounded once, by NumPy, so that a confidence of 1/5 is on the edge on every backend.
    """
    prob, weight = _clean(prob, weight)
    confidence = prob.max(axis=-1)
    gap = (prob.argmax(axis=-1) == label) - confidence
    edges = jnp.asarray(np.arange(1, bins) / bins, prob.dtype)
    place = jnp.searchsorted(edges, confidence)
    share = jax.nn.one_hot(place, bins) * (weight / weight.sum())[:, None]
    return jnp.abs(jnp.sum(share * gap[:, None], axis=0)).sum()


def brier(label: Int[AnyArray, "row"], prob: Float[AnyArray, "row class"], weight: Float[AnyArray, "row"]) -> Scalar:
    """Mean of sum_k (prob_k - [label = k])^2: Brier's multi-class form, from 0 to 2, not halved."""
    prob, weight = _clean(prob, weight)
    truth = jax.nn.one_hot(label, prob.shape[-1])
    return _mean(jnp.sum((prob - truth) ** 2, axis=-1), weight)


def log_loss(label: Int[AnyArray, "row"], prob: Float[AnyArray, "row class"], weight: Float[AnyArray, "row"]) -> Scalar:
    """Mean of -log prob of the true class; prob is clipped to [eps, 1 - eps], as in scikit-learn.

    The clip bounds the price of one confident error: about 16 in float32.
    """
    prob, weight = _clean(prob, weight)
    truth = jax.nn.one_hot(label, prob.shape[-1])
    eps = jnp.finfo(prob.dtype).eps
    return _mean(-jnp.log(jnp.clip(jnp.sum(prob * truth, axis=-1), eps, 1 - eps)), weight)


def classification_scores(
    label: Int[AnyArray, "row"], prob: Float[AnyArray, "row class"], weight: Float[AnyArray, "row"]
) -> dict[str, Scalar]:
    """All scores by name, of probabilities (not logits) and of their argmax as the prediction."""
    prob, weight = _clean(prob, weight)
    predicted = prob.argmax(axis=-1)
    table = confusion(label, predicted, weight, prob.shape[-1])
    return {
        "macro_f1": _class_f1(table).mean(),
        "accuracy": accuracy(label, predicted, weight),
        "balanced_accuracy": _balanced_accuracy(table),
        "roc_auc": roc_auc(label, prob, weight),
        "average_precision": average_precision(label, prob, weight),
        "ece": ece(label, prob, weight),
        "brier": brier(label, prob, weight),
        "log_loss": log_loss(label, prob, weight),
    }


def _clean(
    value: Float[AnyArray, "row ..."], weight: Float[AnyArray, "row"]
) -> tuple[Float[AnyArray, "row ..."], Float[AnyArray, "row"]]:
    """Zero the padded rows; hand a NaN in a row that counts to its weight, so to every score.

    NaN times weight 0 is NaN, so padding has to go by `where`; and a sort or an argmax would take a
    NaN for a large number.
    """
    bad = jnp.isnan(value.reshape(weight.shape[0], -1)).any(axis=1)
    real = weight != 0
    keep = (real & ~bad).reshape((-1,) + (1,) * (value.ndim - 1))
    return jnp.where(keep, value, 0.0), jnp.where(real & bad, jnp.nan, weight)


def _mean(value: Array, weight: Float[AnyArray, "row"]) -> Scalar:
    return jnp.sum(value * weight) / jnp.sum(weight)


def _balanced_accuracy(table: Float[AnyArray, "class class"]) -> Scalar:
    support = table.sum(axis=1)
    return jnp.mean(jnp.diag(table) / support, where=support != 0)


def _class_f1(table: Float[AnyArray, "class class"]) -> Float[AnyArray, "class"]:
    share = table / table.sum()  # of no rows: nan, where counts would look like absent classes
    mass = share.sum(axis=0) + share.sum(axis=1)
    return jnp.where(mass == 0, 0.0, 2 * jnp.diag(share) / jnp.where(mass == 0, 1.0, mass))


def _curve(
    positive: Bool[AnyArray, "row"], score: Float[AnyArray, "row"], weight: Float[AnyArray, "row"]
) -> tuple[Float[AnyArray, "row"], Float[AnyArray, "row"]]:
    """Weight of the positives and of the negatives scored at least as high, by falling score.

    All rows of a tie take the counts at its end: counts only rise, so the smallest count at this or
    any later end is the one wanted.
    """
    weights = jnp.where(positive, weight, 0.0), jnp.where(positive, 0.0, weight)
    fallen, *weights = jax.lax.sort((-score, *weights), num_keys=1)
    end = jnp.append(fallen[1:] != fallen[:-1], True)
    counts = [jnp.where(end, jnp.cumsum(w), jnp.inf) for w in weights]
    hits, misses = (jax.lax.cummin(c, reverse=True) for c in counts)
    return hits, misses


def _one_vs_rest(
    score: Callable[..., Scalar],
    label: Int[AnyArray, "row"],
    prob: Float[AnyArray, "row class"],
    weight: Float[AnyArray, "row"],
) -> Scalar:
    """Mean of a binary score over the classes in which it is defined.

    Whole rows are cleaned first: by class, the mean would take a NaN for an undefined class.
    """
    prob, weight = _clean(prob, weight)

    def one(k: Int[Array, ""], column: Float[AnyArray, "row"]) -> Scalar:
        return score((label == k).astype(jnp.int32), column, weight)

    return jnp.nanmean(jax.vmap(one)(jnp.arange(prob.shape[-1]), prob.T))
