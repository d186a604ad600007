"""Feature matching: bring new cells into the columns that a trained model expects, by the names of the features.

A feature that the table lacks is missing in every cell, which models of this package accept. A feature whose values differ
greatly from those of the training cells is most often in another unit (s for ms, V for mV) and leads to a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxephys.schemas.feature_table import FeatureTable

UNUSUAL_DEVIATIONS = 10.0  # median deviations of the training cells; species differ by a few
MIN_CELLS = 3  # a median of fewer cells is not compared
UNIT_POWERS = (-6, -3, 3, 6)  # powers of ten between units of one quantity


class MatchedFeatures(NamedTuple):
    """New cells in the columns of a model.

    Parameters
    ----------
    table : FeatureTable of n_cells
        The cells that have a value in at least one feature of the model.
    messages : list of str
        One sentence for each change and each suspicious feature; empty where the table fits.
    """

    table: FeatureTable
    messages: list[str]


def match_features(
    table: FeatureTable,
    families: Sequence[str],
    widths: Sequence[int],
    features: Sequence[str],
    typical: Float[np.ndarray, "column"],
    spread: Float[np.ndarray, "column"],
) -> MatchedFeatures:
    """Reorder the columns of a table by name, and report what is missing, unused or suspicious.

    Parameters
    ----------
    table : FeatureTable of n_cells
        New cells.
    families, widths : sequence
        Names and widths of the families of the model.
    features : sequence of str
        Names of the columns of the model, in order.
    typical, spread : array of shape (column,)
        Median and median absolute deviation of each feature among the training cells.

    Returns
    -------
    MatchedFeatures
        The cells with the columns of the model, and messages.

    Raises
    ------
    ValueError
        If the table has none of the features, or no cell has a value in any of them.
    """
    column_of = {name: column for column, name in enumerate(table.features)}
    columns = np.array([column_of.get(name, -1) for name in features])
    if (columns < 0).all():
        raise ValueError(
            f"the table has none of the {len(features)} features of the model: it has {_shortened(table.features)}, "
            f"the model reads {_shortened(features)}"
        )
    values = np.where(columns >= 0, table.values[:, columns], np.nan).astype(np.float32)
    empty = np.isnan(values).all(axis=1)
    if empty.all():
        raise ValueError("no cell has a value in any feature that the model reads: build the table with more protocols")
    absent = [name for name, column in zip(features, columns, strict=True) if column < 0]
    unused = [name for name in table.features if name not in set(features)]
    messages = [
        f"{len(names)} {text}: {_shortened(names)}"
        for names, text in (
            (absent, f"of {len(features)} features are not in the table and count as missing"),
            (unused, "features of the table are not read by the model"),
            (table.cell[empty].tolist(), "cells have no feature that the model reads and are left out"),
        )
        if names
    ]
    matched = replace(
        table.rows(np.flatnonzero(~empty)),
        values=values[~empty],
        observed=~np.isnan(values[~empty]),
        families=tuple(families),
        widths=tuple(widths),
        features=tuple(features),
    )
    return MatchedFeatures(matched, messages + _unusual_features(matched, typical, spread))


def _unusual_features(cells: FeatureTable, typical: np.ndarray, spread: np.ndarray) -> list[str]:
    """Report features whose median differs from that of the training cells by more than cells differ.

    A sentence suggests another unit where the factor is a power of ten.
    """
    messages = []
    for column in np.flatnonzero(cells.observed.sum(axis=0) >= MIN_CELLS):
        median, usual = float(np.nanmedian(cells.values[:, column])), float(typical[column])
        if abs(median - usual) <= UNUSUAL_DEVIATIONS * spread[column]:
            continue
        ratio = median / usual if usual else np.nan
        power = int(np.rint(np.log10(ratio))) if ratio > 0 else 0
        advice = f"is it in another unit (a factor of 1e{power})?" if power in UNIT_POWERS else "check it"
        messages.append(f"{cells.features[column]} is {median:.3g} at the median, in training {usual:.3g}: {advice}")
    return messages


def _shortened(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(map(str, names[:shown])) + (f" and {len(names) - shown} more" if len(names) > shown else "")
