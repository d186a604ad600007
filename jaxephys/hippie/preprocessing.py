"""Preprocessing: raw curves of units to the inputs of the network, by one function for training, embedding and command line.

    wave, acg   x
    isi         log(1 + x)
    each        scaled to [-1, 1] row by row, 2 (x - min) / (max - min + 1e-8) - 1, and resampled linearly

The order "train" scales, then resamples, as the published training did. The order "card" resamples, then scales, as the published
model card describes for embedding. The two differ wherever a peak falls between two new samples, so a saved model stores its own
settings. A curve without information (missing or constant) is absent and becomes -1 throughout.

`prepare` is what networks are trained on. `preprocess_waveform`, `preprocess_isi` and `preprocess_acg` are the three functions of the
published model card, for arrays that go to `jaxephys.hippie.inference.HippieInference.get_embeddings`.

The logarithm hardly changes densities, whose rows sum to one, but strongly changes counts, so that a network trained on one kind reads
the other wrongly. The setting "common" therefore scales every unit to the same number of intervals before the logarithm; then
densities and counts, and short and long recordings, give the same result. "stored", as published, uses the values of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxephys.hippie.network.cvae import ABSENT, LENGTHS
from jaxephys.schemas.unit_table import informative

VERSION = 1
ORDERS = ("train", "card")
INTERVALS = ("common", "stored")
NOMINAL_INTERVALS = 10_000.0  # of a unit under "common": bins of one in 10,000 remain visible, noise below does not
EPSILON = 1e-8  # of the published scaling


@dataclass(frozen=True)
class Preparation:
    """Settings of the preprocessing. A saved model stores them.

    Parameters
    ----------
    order : {"train", "card"}
        Scale before resampling ("train") or after it ("card").
    intervals : {"common", "stored"}
        Scale inter-spike-interval histograms to a common number of intervals, or use them as stored.
    lengths : tuple of (str, int)
        Modalities and the number of samples to which each is resampled.

    Raises
    ------
    ValueError
        If a setting is unknown.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values, with the version of the preprocessing.

        Returns
        -------
        dict
            The fields and ``version``.
        """
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Preparation:
        """Restore the settings from the output of `to_dict`.

        Parameters
        ----------
        config : mapping
            The fields and ``version``. JSON turns tuples into lists; they become tuples again.

        Returns
        -------
        Preparation
            The settings.

        Raises
        ------
        ValueError
            If the model was trained on another version of the preprocessing.
        """
        values = dict(config)
        if (version := values.pop("version", None)) != VERSION:
            raise ValueError(
                f"the model was trained on preparation version {version}, this is {VERSION}: train it again"
            )
        return cls(**{**values, "lengths": tuple((str(name), int(length)) for name, length in values["lengths"])})


DEFAULT = Preparation()


class PreparedCurves(NamedTuple):
    """Inputs of the network.

    Parameters
    ----------
    curves : dict of arrays (n_units, length)
        Curves by modality, between -1 and 1; -1 throughout where a unit has none.
    present : bool array (n_units, n_modalities)
        Which curves each unit has, in the order of ``curves``.
    """

    curves: dict[str, Float[np.ndarray, "cell _"]]
    present: Bool[np.ndarray, "cell modality"]


def prepare(raw: Mapping[str, Float[np.ndarray, "cell _"]], preparation: Preparation = DEFAULT) -> PreparedCurves:
    """Preprocess the raw curves of units.

    Parameters
    ----------
    raw : mapping of str to array (n_units, n_columns)
        Raw curves by modality (``UnitTable.raw``): waveforms on any scale, counts or densities of inter-spike intervals, counts or
        rates of autocorrelograms. A unit without a curve has a row of NaN.
    preparation : Preparation
        Settings; their modalities must be in ``raw``.

    Returns
    -------
    PreparedCurves
        Scaled and resampled curves, and which are present.

    Raises
    ------
    ValueError
        If a modality is not in ``raw``, or intervals are to be used as stored but mix counts and densities.
    """
    missing = [name for name, _ in preparation.lengths if name not in raw]
    if missing:
        raise ValueError(f"the units have no {missing[0]}: they have {', '.join(raw)}")
    present = np.stack([informative(raw[name]) for name, _ in preparation.lengths], axis=1)
    curves = {}
    for index, (name, length) in enumerate(preparation.lengths):
        rows = present[:, index]
        curves[name] = np.full((len(rows), length), ABSENT, np.float32)
        if not rows.any():
            continue
        values = raw[name][rows].astype(float)
        if name == "isi":
            values = _log_intervals(values, preparation)
        if preparation.order == "train":
            curves[name][rows] = resample(_scale_rows(values), length)
        else:
            curves[name][rows] = _scale_rows(resample(values, length))
    return PreparedCurves(curves, present)


def preprocess_waveform(waveform: np.ndarray, length: int = LENGTHS["wave"]) -> np.ndarray:
    """Preprocess mean waveforms as the published model card does: resample, then scale each to [-1, 1].

    Parameters
    ----------
    waveform : array (n_samples,) or (n_units, n_samples)
        One waveform, or one in each row, in any unit of voltage.
    length : int, default 50
        Number of samples of the result.

    Returns
    -------
    float32 array (length,) or (n_units, length)
        Waveforms between -1 and 1. A constant waveform becomes -1 throughout, and one with a missing value NaN throughout.

    Raises
    ------
    ValueError
        If ``waveform`` has no samples, or more than two axes.

    Examples
    --------
    >>> preprocess_waveform(np.array([0.0, -80.0, 20.0, 10.0]), length=4).tolist()
    [0.6000000238418579, -1.0, 1.0, 0.800000011920929]
    """
    rows = np.asarray(waveform, float)
    if rows.ndim not in (1, 2) or rows.shape[-1] == 0:
        raise ValueError(f"the curves have the shape {rows.shape}: give one curve, or one in each row")
    return _scale_rows(resample(np.atleast_2d(rows), length)).astype(np.float32).reshape(*rows.shape[:-1], length)


def preprocess_isi(isi: np.ndarray, length: int = LENGTHS["isi"]) -> np.ndarray:
    """Preprocess inter-spike-interval histograms as the published model card does: log(1 + x), resample, scale each to [-1, 1].

    Parameters
    ----------
    isi : array (n_bins,) or (n_units, n_bins)
        One histogram, or one in each row; the model was trained on counts. A missing value counts as 0.
    length : int, default 100
        Number of samples of the result.

    Returns
    -------
    float32 array (length,) or (n_units, length)
        Histograms between -1 and 1.

    Examples
    --------
    >>> preprocess_isi(np.array([0.0, np.e - 1, np.nan]), length=3).tolist()
    [-1.0, 1.0, -1.0]
    """
    return preprocess_waveform(np.log1p(np.nan_to_num(np.asarray(isi, float))), length)


def preprocess_acg(acg: np.ndarray, length: int = LENGTHS["acg"]) -> np.ndarray:
    """Preprocess autocorrelograms as the published model card does: resample, then scale each to [-1, 1].

    Parameters
    ----------
    acg : array (n_lags,) or (n_units, n_lags)
        One autocorrelogram, or one in each row; 201 lags of 1 ms in the published layout. A missing value counts as 0.
    length : int, default 100
        Number of samples of the result.

    Returns
    -------
    float32 array (length,) or (n_units, length)
        Autocorrelograms between -1 and 1.

    Examples
    --------
    >>> preprocess_acg(np.array([[1.0, 3.0], [0.0, 0.0]]), length=2).tolist()
    [[-1.0, 1.0], [-1.0, -1.0]]
    """
    return preprocess_waveform(np.nan_to_num(np.asarray(acg, float)), length)


def interval_scale(rows: Float[np.ndarray, "cell _"]) -> str:
    """Determine whether inter-spike-interval histograms hold counts or densities.

    Parameters
    ----------
    rows : array (n_units, n_bins)
        Histograms.

    Returns
    -------
    {"counts", "density", "mixed"}
        "counts" if all rows hold whole numbers, some above 1; "mixed" if rows differ.
    """
    known = rows[informative(rows)]
    whole = (known == np.round(known)).all(axis=1)  # the row of a single interval is whole as either kind
    counts, density = (known[whole] > 1).any(), not whole.all()
    return "mixed" if counts and density else "density" if density else "counts"


def resample(rows: Float[np.ndarray, "cell _"], length: int) -> Float[np.ndarray, "cell _"]:
    """Resample rows by linear interpolation between the centers of their samples.

    Parameters
    ----------
    rows : array (n_units, n_columns)
        Curves.
    length : int
        Number of new samples.

    Returns
    -------
    array (n_units, length)
        New sample i lies at the old position ``(i + 1/2) old / new - 1/2``; positions beyond an end take the value of the end.

    Notes
    -----
    As published, there is no smoothing before fewer samples are taken, contrary to good practice.
    """
    old = rows.shape[1]
    position = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
    left = np.floor(position).astype(int)
    share = position - left
    return rows[:, left] * (1 - share) + rows[:, np.minimum(left + 1, old - 1)] * share


def _log_intervals(rows: np.ndarray, preparation: Preparation) -> np.ndarray:
    if preparation.intervals == "common":
        rows = NOMINAL_INTERVALS * rows / rows.sum(axis=1, keepdims=True)
    elif interval_scale(rows) == "mixed":
        raise ValueError("isi has counts in some rows and densities in others: prepare it with intervals='common'")
    return np.log1p(rows)


def _scale_rows(rows: np.ndarray) -> np.ndarray:
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    return 2 * (rows - low) / (high - low + EPSILON) - 1
