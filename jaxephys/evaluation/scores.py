"""Score: one value of one metric for one run. `jaxephys.evaluation` computes scores, `jaxephys.reporting` stores and summarizes them."""

from typing import NamedTuple


class Score(NamedTuple):
    """One value of one metric for one run: a row of ``scores.csv``.

    Parameters
    ----------
    experiment : str
        Name of the experiment.
    variant : str
        Name of the model: a variant of our networks or a baseline.
    train_on : str
        Data set of the training rows.
    test_on : str
        Data set, or part of it, of the rows that the metric was computed on.
    seed : int
        Seed of the run.
    fold : int
        Index of the fold among the folds of this seed, from 0.
    split : str
        Part of the data: ``"train"``, ``"validation"``, ``"test"``, or another part such as ``"all"`` or ``"out of bag"``.
    metric : str
        Key of the metric, such as ``"macro_f1"``.
    value : float
        The value; NaN if it is undefined.
    n : int
        Number of samples (cells, units, or time bins or windows) that the metric was computed on.
    """

    experiment: str
    variant: str
    train_on: str
    test_on: str
    seed: int
    fold: int
    split: str
    metric: str
    value: float
    n: int


SCORE_COLUMNS = Score._fields
