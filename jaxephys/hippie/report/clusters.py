"""Scores and names of clusters for the report of ``experiments/hippie_embed.py``."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from jaxephys.evaluation.scores import Score
from jaxephys.hippie.estimator import Hippie
from jaxephys.schemas.unit_table import UnitTable


def score_clusters(experiment: str, model: Hippie, name: str, units: UnitTable, cluster: np.ndarray) -> list[Score]:
    """Score the reconstruction of the units of a data set, and the agreement of their clusters with their labels.

    Parameters
    ----------
    experiment : str
        Name of the experiment.
    model : Hippie
        A fitted model.
    name : str
        Name of the data set.
    units : UnitTable of n_units
        Its units.
    cluster : int array (n_units,)
        Cluster of each unit; -1 for none.

    Returns
    -------
    list of Score
        Finite scores of the first network (see `Hippie.score_table`), and ``rand``, the adjusted Rand index of units that have a label
        and a cluster.
    """
    values = model.score_table(units)[0]
    scores = {metric: value for metric, value in values.items() if metric not in ("network", "n", "loss")}
    both = (units.label != "") & (cluster >= 0)
    if both.any() and len(units.classes) > 1:
        scores["rand"] = float(adjusted_rand_score(units.label[both], cluster[both]))
    return [
        Score(experiment, name, "all", name, 0, 0, "all", metric, value, len(units))
        for metric, value in scores.items()
        if np.isfinite(value)
    ]


def cluster_names(cluster: np.ndarray) -> np.ndarray:
    """Return names of clusters whose alphabetical order is that of their numbers.

    Parameters
    ----------
    cluster : int array (n_units,)
        Cluster of each unit; -1 for none.

    Returns
    -------
    array of str (n_units,)
        Numbers with leading zeros; "none", which is sorted last.

    Examples
    --------
    >>> cluster_names(np.array([10, -1, 2])).tolist()
    ['10', 'none', '02']
    """
    digits = len(str(cluster.max()))
    return np.where(cluster < 0, "none", np.char.zfill(cluster.astype(str), digits))
