"""Labels of units in one call: embedding, kernel classifier, and abstention where a label is not certain. See :func:`label_units`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy.special import softmax

from jaxephys.evaluation.calibration import conformal_sets, conformal_thresholds
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.feature_views import compute_feature_views
from jaxephys.hippie.probes import join_blocks, make_probe
from jaxephys.schemas.unit_sources import as_unit_table
from jaxephys.schemas.unit_table import UnitTable

MIN_PER_CLASS = 2  # labelled units, so that each has another one of its class


class UnitLabels(NamedTuple):
    """Labels of units.

    Parameters
    ----------
    unit : array of str (n_units,)
        Names of the units.
    label : array of str (n_units,)
        The most probable class, also where ``abstained`` is set.
    probability : array (n_units,)
        Its probability.
    abstained : bool array (n_units,)
        True where the label is not certain: another class cannot be excluded, the unit is unlike all classes, or it has no curve.
    classes : array of str (n_classes,)
        Names of the classes, sorted.
    class_probability : array (n_units, n_classes)
        Probability of each class; the rows sum to 1.
    """

    unit: Shaped[np.ndarray, "row"]
    label: Shaped[np.ndarray, "row"]
    probability: Float[np.ndarray, "row"]
    abstained: Bool[np.ndarray, "row"]
    classes: Shaped[np.ndarray, "class"]
    class_probability: Float[np.ndarray, "row class"]


def label_units(
    model: Hippie,
    reference: Any,
    units: Any,
    labels: Sequence[str] | Shaped[np.ndarray, "some"] | None = None,
    *,
    coverage: float = 0.9,
    feature_views: bool = True,
    technology: str | None = None,
    network: int = 0,
) -> UnitLabels:
    """Label units by a classifier on their embeddings, which abstains where it is not certain.

    Parameters
    ----------
    model : Hippie
        A fitted or loaded estimator.
    reference : UnitTable of n_reference, SpikeInterface analyzer, or path
        Labelled units, at least two of each class; unlabelled ones in it are ignored. See `UnitTable.from_spikeinterface`.
    units : UnitTable of n_units, SpikeInterface analyzer, or path
        Units to label.
    labels : array of str (n_reference,), optional
        Classes of the reference, "" where unknown. By default those of its table.
    coverage : float, default 0.9
        Probability, within every class, that the set of classes that are not excluded contains the class of a unit. A larger coverage
        abstains more often.
    feature_views : bool, default True
        Give the classifier views of the curves besides the embedding (`jaxephys.hippie.feature_views`), except those whose width differs
        between the two tables because their curves have unequal numbers of samples.
    technology : str, optional
        Recording technology of all units; by default that of the tables.
    network : int, default 0
        Index of the network that embeds.

    Returns
    -------
    UnitLabels
        Label, probability and abstention of each unit.

    Raises
    ------
    ValueError
        If the reference has fewer than two classes, or a class of one unit.

    Notes
    -----
    The classifier is the kernel probe (`jaxephys.hippie.probes`). Its prediction for each unit of the reference from all others, which
    has a closed form, gives the threshold of each class at this coverage (conformal prediction). A unit is labelled without
    abstention if its most probable class is the only one above its threshold. The coverage holds for units like those of the reference:
    units of another laboratory may be unlike all of them, and units of one session resemble each other more than new ones.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxephys import Hippie
    >>> from jaxephys.hippie.synthetic import make_synthetic_units
    >>> units = make_synthetic_units(60)
    >>> model = Hippie(4, width=2, trunk="dense", seeds=2, max_epochs=2, progress=False).fit(units)
    >>> labels = label_units(model, units.rows(np.arange(45)), units.rows(np.arange(45, 60)))
    >>> labels.label.shape, labels.probability.shape, labels.abstained.dtype
    ((15,), (15,), dtype('bool'))
    """
    known, query = as_unit_table(reference), as_unit_table(units)
    texts = known.label if labels is None else np.asarray(labels).astype(str)
    if len(texts) != len(known):
        raise ValueError(f"{len(texts)} labels do not fit {len(known)} units: give one for each unit of the reference")
    labelled = np.flatnonzero(texts != "")
    texts = texts[labelled]
    classes, counts = np.unique(texts, return_counts=True)
    if len(classes) < 2 or counts.min() < MIN_PER_CLASS:
        found = ", ".join(f"{name} ({count})" for name, count in zip(classes, counts, strict=True)) or "no label"
        raise ValueError(
            f"the reference has {found}: give at least {MIN_PER_CLASS} labelled units of each of two classes"
        )
    known = known.rows(labelled)
    tables = (known, query)
    blocks = [{"embedding": model.embed(table, technology=technology, network=network)} for table in tables]
    common = np.all(
        [table.present.any(axis=0) for table in tables], axis=0
    )  # curves that some units of both tables have
    if feature_views and common.any():
        for found_blocks, table in zip(blocks, tables, strict=True):
            found_blocks |= compute_feature_views(_common_curves(table, common))
    first, second = blocks
    # Curves of unequal numbers of samples have some views of unequal width, which cannot be compared.
    equal = [name for name in first if second[name].shape[1] == first[name].shape[1]]
    (rows, widths), (query_rows, _) = (join_blocks({name: some[name] for name in equal}) for some in blocks)
    probe = make_probe("kernel", widths=widths).fit(rows, texts)
    classifier: Any = probe[-1]
    left_out = softmax(classifier.sharpness_ * classifier.left_out_, axis=1)
    thresholds = conformal_thresholds(left_out, np.searchsorted(classes, texts), coverage)
    probability = np.asarray(probe.predict_proba(query_rows))
    best, sets = probability.argmax(axis=1), conformal_sets(probability, thresholds)
    certain = (sets.sum(axis=1) == 1) & sets[np.arange(len(sets)), best] & query.present.any(axis=1)
    return UnitLabels(query.name, classes[best], probability.max(axis=1), ~certain, classes, probability)


def _common_curves(units: UnitTable, common: Bool[np.ndarray, "modality"]) -> dict[str, Float[np.ndarray, "cell _"]]:
    """The raw curves, with NaN in place of curves of other modalities than the common ones, so that views have equal widths."""
    pairs = zip(units.raw.items(), common, strict=True)
    return {name: curves if shared else np.full_like(curves, np.nan) for (name, curves), shared in pairs}
