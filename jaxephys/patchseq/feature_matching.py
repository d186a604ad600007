"""Match: the features of new cells put in the order that a trained model reads, by their names; what is odd is said.

A feature that the model knows and the table lacks is missing in every cell, which the model was trained to bear. One whose
values lie far from those of the training cells is most often in another unit (s for ms, V for mV).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxephys.schemas.feature_table import FeatureTable

FAR = 10.0  # median deviations of the training cells; species differ by a few
FEW = 3  # cells, below which a median says little
POWERS = (-6, -3, 3, 6)  # of ten, between units of one quantity


class Matched(NamedTuple):
    """The cells as the model reads them, and one sentence for everything that was done or looks wrong."""

    table: FeatureTable
    said: list[str]


def match(
    table: FeatureTable,
    families: Sequence[str],
    widths: Sequence[int],
    features: Sequence[str],
    middle: Float[np.ndarray, "column"],
    unit: Float[np.ndarray, "column"],
) -> Matched:
    """``middle`` and ``unit``: median and median deviation of each feature among the training cells."""
    known = {name: place for place, name in enumerate(table.features)}
    found = np.array([known.get(name, -1) for name in features])
    if (found < 0).all():
        raise ValueError(
            f"the table has none of the {len(features)} features of the model: it has {_some(table.features)}, "
            f"the model reads {_some(features)}"
        )
    values = np.where(found >= 0, table.values[:, found], np.nan).astype(np.float32)
    empty = np.isnan(values).all(axis=1)
    if empty.all():
        raise ValueError("no cell has a value in any feature that the model reads: build the table with more protocols")
    absent = [name for name, place in zip(features, found, strict=True) if place < 0]
    extra = [name for name in table.features if name not in set(features)]
    alone = table.cell[empty].tolist()
    said = [
        f"{len(names)} {what}: {_some(names)}"
        for names, what in (
            (absent, f"of {len(features)} features are not in the table and count as missing"),
            (extra, "features of the table are not read by the model"),
            (alone, "cells have no feature that the model reads and are left out"),
        )
        if names
    ]
    read = {"families": tuple(families), "widths": tuple(widths), "features": tuple(features)}
    kept = replace(table.rows(np.flatnonzero(~empty)), values=values[~empty], observed=None, **read)
    return Matched(kept, said + strange(kept.values, features, middle, unit))


def strange(
    values: Float[np.ndarray, "cell column"],
    features: Sequence[str],
    middle: Float[np.ndarray, "column"],
    unit: Float[np.ndarray, "column"],
) -> list[str]:
    """A sentence for each feature whose median lies further from that of the training cells than cells differ."""
    said = []
    for column, name in enumerate(features):
        own = values[:, column][~np.isnan(values[:, column])]
        if len(own) < FEW or abs(median := float(np.median(own)) - middle[column]) <= FAR * unit[column]:
            continue
        median += middle[column]
        sentence = f"{name} is {median:.3g} at the median, in training {middle[column]:.3g}"
        ratio = median / middle[column] if middle[column] else np.nan
        power = int(np.rint(np.log10(ratio))) if ratio > 0 else 0
        said.append(
            f"{sentence}: {f'is it in another unit (a factor of 1e{power})?' if power in POWERS else 'check it'}"
        )
    return said


def _some(names: Sequence[str], shown: int = 5) -> str:
    return ", ".join(map(str, names[:shown])) + (f" and {len(names) - shown} more" if len(names) > shown else "")
