"""Means over pairs of data sets, one for training and one for the test, with an interval that resamples the data sets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from jaxephys.evaluation.intervals import Interval

RESAMPLES = 2000
MIN_DATA_SETS = 3  # training or test sets that an interval needs
Pair = tuple[str, str]  # trained on, tested on


def pair_interval(values: Mapping[Pair, float]) -> Interval | None:
    """Return the mean over pairs of data sets with a 95 % interval over the data sets.

    Parameters
    ----------
    values : mapping of (str, str) to float
        A score, or a difference of scores, by training and test set.

    Returns
    -------
    Interval or None
        None if there are fewer than three training or test sets, or a value is not finite.

    Notes
    -----
    Pairs share data sets and are not independent, so that data sets are resampled and not pairs: a pair counts as often as its
    training set times its test set was drawn. Where both are of one group, they are drawn together, and pairs of a data set with itself
    count only if all pairs are such pairs.

    Examples
    --------
    >>> pair_interval({("a", "a"): 0.5, ("b", "b"): 0.5, ("c", "c"): 0.5})
    Interval(estimate=0.5, low=0.5, high=0.5)
    """
    pairs, scores = list(values), np.array(list(values.values()), float)
    sources, targets = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    if min(len(sources), len(targets)) < MIN_DATA_SETS or not np.isfinite(scores).all():
        return None
    row, column = (np.array([of.index(pair[side]) for pair in pairs]) for side, of in ((0, sources), (1, targets)))
    rng = np.random.default_rng(0)
    drawn = _times_drawn(rng, len(sources))
    weight = drawn[:, row]
    if any(source != target for source, target in pairs):
        weight = weight * (drawn if sources == targets else _times_drawn(rng, len(targets)))[:, column]
    weight = weight[weight.sum(axis=1) > 0]  # without draws of one data set only
    low, high = np.quantile(weight @ scores / weight.sum(axis=1), [0.025, 0.975])
    return Interval(float(scores.mean()), float(low), float(high))


def _times_drawn(rng: np.random.Generator, count: int) -> Float[np.ndarray, "some recording"]:
    """Return how often each data set is drawn in each resample."""
    draws = rng.integers(count, size=(RESAMPLES, count))
    return (draws[:, :, None] == np.arange(count)).sum(axis=1).astype(float)
