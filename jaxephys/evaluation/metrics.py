"""Metrics of a classifier over weighted and padded rows, in jax.numpy.

`classification_scores` returns all metrics of a model; the others are its parts, and `class_scores` those of each class. All run under
``jit``, and under ``vmap`` over a leading run axis.

Rows of weight 0 are padding and change no result, even if they contain NaN or infinity. A NaN in a row of positive weight makes every
metric NaN, so that a diverged run is visible; so does a table without a row of positive weight. Except for the treatment of padding
and of absent classes, which is documented with each function, results are those of scikit-learn.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray

Scalar = Float[Array, ""]
Codes = Int[AnyArray, "row"]
Probabilities = Float[AnyArray, "row class"]
Column = Float[AnyArray, "row"]  # one number per row, such as its weight
Confusion = Float[AnyArray, "class class"]


def classification_scores(codes: Codes, probability: Probabilities, weight: Column) -> dict[str, Scalar]:
    """Return all metrics of class probabilities and of the most probable class as the prediction.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    dict of str to scalar
        Keys ``macro_f1``, ``accuracy``, ``balanced_accuracy``, ``roc_auc``, ``average_precision``, ``ece``, ``brier`` and
        ``log_loss``. See the functions of these names.

    Examples
    --------
    >>> import numpy as np
    >>> probability = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]], np.float32)
    >>> scores = classification_scores(np.array([0, 1, 1]), probability, np.ones(3, np.float32))
    >>> f"{scores['accuracy']:.3f} {scores['balanced_accuracy']:.3f}"
    '0.667 0.750'
    """
    probability, weight = _clean(probability, weight)
    predicted = probability.argmax(axis=-1)
    table = confusion(codes, predicted, weight, probability.shape[-1])
    return {
        "macro_f1": _class_f1(table).mean(),
        "accuracy": accuracy(codes, predicted, weight),
        "balanced_accuracy": _balanced_accuracy(table),
        "roc_auc": roc_auc(codes, probability, weight),
        "average_precision": average_precision(codes, probability, weight),
        "ece": ece(codes, probability, weight),
        "brier": brier(codes, probability, weight),
        "log_loss": log_loss(codes, probability, weight),
    }


def class_scores(codes: Codes, predicted: Codes, weight: Column, n_classes: int) -> dict[str, Float[AnyArray, "class"]]:
    """Return precision, recall and F1 of each class.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    predicted : array of int, shape (n_rows,)
        Predicted classes.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.
    n_classes : int
        Number of classes.

    Returns
    -------
    dict of str to array, shape (n_classes,)
        Keys ``precision`` (NaN for a class that is never predicted), ``recall`` (NaN for a class without a true row) and ``f1``
        (0 for a class that is neither).
    """
    table = confusion(codes, predicted, weight, n_classes)
    hits = jnp.diag(table)
    return {"precision": hits / table.sum(axis=0), "recall": hits / table.sum(axis=1), "f1": _class_f1(table)}


def confusion(codes: Codes, predicted: Codes, weight: Column, n_classes: int) -> Confusion:
    """Return the confusion matrix.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    predicted : array of int, shape (n_rows,)
        Predicted classes.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.
    n_classes : int
        Number of classes.

    Returns
    -------
    array, shape (n_classes, n_classes)
        Total weight of the rows of true class i and predicted class j at [i, j].

    Notes
    -----
    The matrix is a product of two one-hot tables. Unlike a scatter-add, it sums in a fixed order, so that a GPU gives the same numbers
    in every run. The precision keeps a GPU from rounding the weights to TF32.
    """
    truth = jax.nn.one_hot(codes, n_classes) * weight[:, None]
    guess = jax.nn.one_hot(predicted, n_classes)
    return jnp.matmul(truth.T, guess, precision=jax.lax.Precision.HIGHEST)


def accuracy(codes: Codes, predicted: Codes, weight: Column) -> Scalar:
    """Return the share of the total weight whose prediction is correct.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    predicted : array of int, shape (n_rows,)
        Predicted classes.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    scalar
        Accuracy from 0 to 1.
    """
    return _mean(codes == predicted, weight)


def balanced_accuracy(codes: Codes, predicted: Codes, weight: Column, n_classes: int) -> Scalar:
    """Return the mean recall of the classes that have a true row.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    predicted : array of int, shape (n_rows,)
        Predicted classes.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.
    n_classes : int
        Number of classes.

    Returns
    -------
    scalar
        Balanced accuracy from 0 to 1.
    """
    return _balanced_accuracy(confusion(codes, predicted, weight, n_classes))


def macro_f1(codes: Codes, predicted: Codes, weight: Column, n_classes: int) -> Scalar:
    """Return the mean F1 of all classes.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    predicted : array of int, shape (n_rows,)
        Predicted classes.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.
    n_classes : int
        Number of classes.

    Returns
    -------
    scalar
        Macro F1 from 0 to 1.

    Notes
    -----
    F1 of a class is 2 TP / (2 TP + FP + FN). A class that is absent from both truth and prediction counts 0, as in scikit-learn with
    ``labels=range(n_classes), zero_division=0``. Its default drops such a class, so that the divisor depends on the split and the
    model and two runs cannot be compared.
    """
    return _class_f1(confusion(codes, predicted, weight, n_classes)).mean()


def roc_auc(codes: Codes, probability: Probabilities, weight: Column) -> Scalar:
    """Return the mean one-vs-rest area under the ROC curve.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    scalar
        Mean of `binary_roc_auc` over the classes that have a positive and a negative row; NaN if there is none.
    """
    return _one_vs_rest(binary_roc_auc, codes, probability, weight)


def binary_roc_auc(codes: Codes, score: Column, weight: Column) -> Scalar:
    """Return the area under the ROC curve of a binary score.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        1 for positive rows; any other value is negative.
    score : array, shape (n_rows,)
        Score of the positive class, in any unit.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    scalar
        Probability that a positive row scores higher than a negative one, plus half the probability of a tie. NaN without a
        positive or without a negative row.

    Notes
    -----
    The ROC polygon has one corner per distinct score. Its trapezoids give tied scores their mid-rank, so the area is exact.
    """
    hits, misses = _curve(codes == 1, *_clean(score, weight))
    recall = hits / hits[-1]
    height = recall - jnp.diff(recall, prepend=0.0) / 2
    return jnp.sum(jnp.diff(misses, prepend=0.0) * height) / misses[-1]


def average_precision(codes: Codes, probability: Probabilities, weight: Column) -> Scalar:
    """Return the mean one-vs-rest average precision.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    scalar
        Mean of `binary_average_precision` over the classes that have a positive and a negative row; NaN if there is none.
    """
    return _one_vs_rest(binary_average_precision, codes, probability, weight)


def binary_average_precision(codes: Codes, score: Column, weight: Column) -> Scalar:
    """Return the average precision of a binary score.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        1 for positive rows; any other value is negative.
    score : array, shape (n_rows,)
        Score of the positive class, in any unit.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    scalar
        Average precision from 0 to 1. NaN without a positive row, and without a negative row, where scikit-learn returns 1.

    Notes
    -----
    The sum over the distinct scores, highest first, of (recall_k - recall_(k-1)) precision_k, without interpolation.
    """
    hits, misses = _curve(codes == 1, *_clean(score, weight))
    found = hits + misses
    precision = hits / jnp.where(found == 0, 1.0, found)
    area = jnp.sum(jnp.diff(hits, prepend=0.0) * precision) / hits[-1]
    return jnp.where(misses[-1] == 0, jnp.nan, area)


def ece(codes: Codes, probability: Probabilities, weight: Column, bins: int = 15) -> Scalar:
    """Return the expected calibration error of the most probable class.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.
    bins : int, default 15
        Number of confidence bins of equal width.

    Returns
    -------
    scalar
        Sum over the bins of ``share |accuracy - mean confidence|``, from 0 to 1.

    Notes
    -----
    The bins are (0, 1/bins], ..., (1 - 1/bins, 1], as in Guo et al. (2017). NumPy rounds their edges once, so that a confidence of 1/5
    is on the edge on every backend.
    """
    probability, weight = _clean(probability, weight)
    confidence = probability.max(axis=-1)
    gap = (probability.argmax(axis=-1) == codes) - confidence
    edges = jnp.asarray(np.arange(1, bins) / bins, probability.dtype)
    bin_index = jnp.searchsorted(edges, confidence)
    share = jax.nn.one_hot(bin_index, bins) * (weight / weight.sum())[:, None]
    return jnp.abs(jnp.sum(share * gap[:, None], axis=0)).sum()


def brier(codes: Codes, probability: Probabilities, weight: Column) -> Scalar:
    """Return the Brier score.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    scalar
        Mean of sum_k (p_k - [k is the true class])^2, from 0 to 2: the multi-class form, which is not halved.
    """
    probability, weight = _clean(probability, weight)
    truth = jax.nn.one_hot(codes, probability.shape[-1])
    return _mean(jnp.sum((probability - truth) ** 2, axis=-1), weight)


def log_loss(codes: Codes, probability: Probabilities, weight: Column) -> Scalar:
    """Return the mean negative log probability of the true class, in nats.

    Parameters
    ----------
    codes : array of int, shape (n_rows,)
        True classes, from 0 to n_classes - 1.
    probability : array, shape (n_rows, n_classes)
        Class probabilities.
    weight : array, shape (n_rows,)
        Weight of each row; 0 for padding.

    Returns
    -------
    scalar
        Log loss. Probabilities are clipped to [eps, 1 - eps] as in scikit-learn, so that one wrong confident prediction costs at
        most about 16 in float32.
    """
    probability, weight = _clean(probability, weight)
    truth = jax.nn.one_hot(codes, probability.shape[-1])
    eps = jnp.finfo(probability.dtype).eps
    return _mean(-jnp.log(jnp.clip(jnp.sum(probability * truth, axis=-1), eps, 1 - eps)), weight)


def _clean(value: Float[AnyArray, "row ..."], weight: Column) -> tuple[Float[AnyArray, "row ..."], Column]:
    """Set padding rows to 0, and the weight of a row that contains NaN to NaN, so that every metric becomes NaN.

    NaN times a weight of 0 is NaN, so padding needs `where`; a sort or an argmax would treat NaN as a large number.
    """
    bad = jnp.isnan(value.reshape(weight.shape[0], -1)).any(axis=1)
    real = weight != 0
    keep = (real & ~bad).reshape((-1,) + (1,) * (value.ndim - 1))
    return jnp.where(keep, value, 0.0), jnp.where(real & bad, jnp.nan, weight)


def _mean(value: Array, weight: Column) -> Scalar:
    return jnp.sum(value * weight) / jnp.sum(weight)


def _balanced_accuracy(table: Confusion) -> Scalar:
    support = table.sum(axis=1)
    return jnp.mean(jnp.diag(table) / support, where=support != 0)


def _class_f1(table: Confusion) -> Float[AnyArray, "class"]:
    share = table / table.sum()  # NaN if there are no rows, which counts would not show
    mass = share.sum(axis=0) + share.sum(axis=1)
    return jnp.where(mass == 0, 0.0, 2 * jnp.diag(share) / jnp.where(mass == 0, 1.0, mass))


def _curve(positive: Bool[AnyArray, "row"], score: Column, weight: Column) -> tuple[Column, Column]:
    """Return the weight of positives and of negatives with at least a score, for the scores in falling order.

    All rows of a tie get the weights at its end: weights only rise, so the smallest weight at this or any later end of a tie is
    the right one.
    """
    weights = jnp.where(positive, weight, 0.0), jnp.where(positive, 0.0, weight)
    fallen, *weights = jax.lax.sort((-score, *weights), num_keys=1)
    end = jnp.append(fallen[1:] != fallen[:-1], True)
    counts = [jnp.where(end, jnp.cumsum(w), jnp.inf) for w in weights]
    hits, misses = (jax.lax.cummin(c, reverse=True) for c in counts)
    return hits, misses


def _one_vs_rest(score: Callable[..., Scalar], codes: Codes, probability: Probabilities, weight: Column) -> Scalar:
    """Return the mean of a binary metric over the classes for which it is defined.

    Whole rows are cleaned first: otherwise the mean would treat a NaN in a row as an undefined class.
    """
    probability, weight = _clean(probability, weight)

    def one(k: Int[Array, ""], column: Column) -> Scalar:
        return score((codes == k).astype(jnp.int32), column, weight)

    return jnp.nanmean(jax.vmap(one)(jnp.arange(probability.shape[-1]), probability.T))
