"""Raw curves of units -> what the network reads: one function for training, for embedding and for the command line.

    wave, acg   x
    isi         log(1 + x)
    each        scaled to [-1, 1] in its own row, 2 (x - min) / (max - min + 1e-8) - 1, and resampled linearly

"train" scales, then resamples, as the published training did; "card" resamples, then scales, as the published model card
says for embedding. The two differ wherever a peak falls between two new samples: a saved model keeps the stamp of its
own, and a model is given nothing else. A row without information (missing, or constant) is absent, and says -1 throughout.

A logarithm makes little of densities, whose rows sum to one, and much of counts, so that a network trained on one kind
reads the other wrongly. "common" therefore gives every unit the same number of intervals before the logarithm, and both
kinds, short and long recordings alike, come out the same. "stored", as published, takes them as they stand in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxephys.hippie.network.cvae import ABSENT, LENGTHS

VERSION = 1
ORDERS = ("train", "card")
INTERVALS = ("common", "stored")
NOMINAL = 10_000.0  # intervals of a unit under "common": bins of one in ten thousand are still seen, noise below is not
TINY = 1e-8  # of the published scaling


@dataclass(frozen=True)
class Preparation:
    """The choices. Models are saved with the ``stamp`` and refuse another version's."""

    order: str = "train"
    intervals: str = "common"
    lengths: tuple[tuple[str, int], ...] = tuple(LENGTHS.items())

    def __post_init__(self) -> None:
        for value, allowed in ((self.order, ORDERS), (self.intervals, INTERVALS)):
            if value not in allowed:
                raise ValueError(f"the preparation {value!r} is unknown: choose one of {', '.join(allowed)}")
        for name, length in self.lengths:
            if name not in LENGTHS or length < 1:
                raise ValueError(f"there is no modality {name!r} of {length} samples: choose from {', '.join(LENGTHS)}")

    @property
    def stamp(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def of_stamp(cls, stamp: Mapping[str, Any]) -> Preparation:
        """The inverse; lists, which JSON makes of tuples, are tuples again."""
        told = dict(stamp)
        if (version := told.pop("version", None)) != VERSION:
            raise ValueError(
                f"the model was trained on preparation version {version}, this is {VERSION}: train it again"
            )
        return cls(**{**told, "lengths": tuple((str(name), int(length)) for name, length in told["lengths"])})


DEFAULT = Preparation()


class Prepared(NamedTuple):
    curves: dict[str, Float[np.ndarray, "cell _"]]
    present: Bool[np.ndarray, "cell modality"]  # in the order of the curves


def prepare(raw: Mapping[str, Float[np.ndarray, "cell _"]], preparation: Preparation = DEFAULT) -> Prepared:
    """``raw`` has a row a unit in each modality that the preparation names; a unit without one has a row of NaN."""
    missing = [name for name, _ in preparation.lengths if name not in raw]
    if missing:
        raise ValueError(f"the units have no {missing[0]}: they have {', '.join(raw)}")
    present = np.stack([informative(raw[name]) for name, _ in preparation.lengths], axis=1)
    curves = {}
    for place, (name, length) in enumerate(preparation.lengths):
        seen = present[:, place]
        curves[name] = np.full((len(seen), length), ABSENT, np.float32)
        if seen.any():
            curves[name][seen] = _shaped(
                _levelled(name, raw[name][seen].astype(float), preparation), length, preparation
            )
    return Prepared(curves, present)


def informative(rows: Float[np.ndarray, "cell _"]) -> Bool[np.ndarray, "cell"]:
    """Finite and not constant. A modality of no columns is one that no unit has."""
    if not rows.shape[1]:
        return np.zeros(len(rows), bool)
    return np.isfinite(rows).all(axis=1) & (rows.max(axis=1) > rows.min(axis=1))


def interval_scale(rows: Float[np.ndarray, "cell _"]) -> str:
    """What stands in a table of intervals: "counts" (whole numbers, some above 1), "density", or "mixed", row by row."""
    known = rows[informative(rows)]
    whole = (known == np.round(known)).all(axis=1)  # a row of a single interval is whole as either kind
    counts, density = (known[whole] > 1).any(), not whole.all()
    return "mixed" if counts and density else "density" if density else "counts"


def resample(rows: Float[np.ndarray, "cell _"], length: int) -> Float[np.ndarray, "cell _"]:
    """Linear, cell centres: new sample i lies at old position ``(i + 1/2) old / new - 1/2``; outside, the end stands.

    Deviation from good practice, as published: no smoothing before fewer samples are taken.
    """
    old = rows.shape[1]
    place = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
    left = np.floor(place).astype(int)
    share = place - left
    return rows[:, left] * (1 - share) + rows[:, np.minimum(left + 1, old - 1)] * share


def _levelled(name: str, rows: np.ndarray, preparation: Preparation) -> np.ndarray:
    if name != "isi":
        return rows
    if preparation.intervals == "common":
        rows = NOMINAL * rows / rows.sum(axis=1, keepdims=True)
    elif interval_scale(rows) == "mixed":
        raise ValueError("isi has counts in some rows and densities in others: prepare it with intervals='common'")
    return np.log1p(rows)


def _shaped(rows: np.ndarray, length: int, preparation: Preparation) -> np.ndarray:
    if preparation.order == "train":
        return resample(_spread(rows), length)
    return _spread(resample(rows, length))


def _spread(rows: np.ndarray) -> np.ndarray:
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    return 2 * (rows - low) / (high - low + TINY) - 1
