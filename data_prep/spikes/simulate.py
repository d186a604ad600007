"""The twelve simulated populations as recordings, with the true probability of their test bins.

:func:`write_simulated_recordings` writes::

    OUT/vitro_bursts.npz ...        recordings
    OUT/truth/vitro_bursts.npz ...  test_rate, float32 [test bin, unit]: probability of a spike given all spikes before
                                    it; split_sha256, the hash of the recording
    OUT/truth.csv                   scores of that probability on the test bins; models exceed them only by chance
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from data_prep.progress import ProgressReport
from data_prep.spikes.point_process import simulate_spikes, true_probability
from data_prep.spikes.simulated_populations import KINDS, draw_population, find_kind
from data_prep.spikes.splits import splits_by_minutes
from jaxephys.schemas.recording import Recording, check_splits
from jaxephys.schemas.storage import DataError, write_npz

SHARES = (0.5, 0.25, 0.25)  # of the duration, for train, validation and test
GAP = 1.0  # s between two splits
MIN_SPIKES = 10  # in the test bins, of a unit that enters the AUC within units


def write_simulated_recordings(
    out: Path, names: Sequence[str] = (), *, minutes: float = 1.0, units: int = 32, seed: int = 0
) -> list[dict[str, str | float]]:
    """Simulate populations and write them.

    Parameters
    ----------
    out : Path
        Folder to write into.
    names : sequence of str, optional
        Kinds of populations; all twelve by default.
    minutes : float, default 1.0
        Duration of each; half of it is for training.
    units : int, default 32
        Number of units of each, at least 8.
    seed : int, default 0
        Seed of the random numbers.

    Returns
    -------
    list of dict
        Rows of ``truth.csv``: name, domain and the scores of :func:`score_probability`.

    Raises
    ------
    DataError
        If a kind is unknown, or there are too few units, bins or spikes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> rows = write_simulated_recordings(Path(mkdtemp()), ["vivo_slow"], minutes=0.2, units=8)
    >>> rows[0]["name"], rows[0]["auc"] > rows[0]["constant_auc"]
    ('vivo_slow', True)
    """
    kinds = [find_kind(name) for name in names] or list(KINDS)
    rows = []
    with ProgressReport("populations", len(kinds)) as progress:
        for kind in kinds:
            recording, probability = simulate_recording(kind.name, minutes, units, seed)
            recording.write(out)
            (out / "truth").mkdir(exist_ok=True)
            truth = {"test_rate": probability, "split_sha256": recording.sha256}
            write_npz(out / "truth" / f"{kind.name}.npz", truth)
            scores = score_probability(recording.bits(*recording.span("test")), probability)
            rows.append({"name": kind.name, "domain": kind.domain} | scores)
            progress.advance()
    with (out / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def simulate_recording(name: str, minutes: float, units: int, seed: int) -> tuple[Recording, np.ndarray]:
    """Simulate one population.

    Parameters
    ----------
    name : str
        Kind of population.
    minutes : float
        Duration in minutes, in bins of 1 ms.
    units : int
        Number of units, at least 8.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    recording : Recording
        The recording, with splits of 50, 25 and 25 % of the duration.
    probability : ndarray of float32 of shape (n_test_bins, n_units)
        True probability of a spike in each test bin, given all spikes before it.

    Raises
    ------
    DataError
        If the kind is unknown, or there are too few units, bins or spikes.
    """
    bins = round(minutes * 60_000)
    splits = splits_by_minutes(bins, 1.0, [minutes * share for share in SHARES], GAP)
    check_splits(splits, bins)
    population = draw_population(find_kind(name), units, seed)
    spikes = simulate_spikes(population, bins, seed)
    if any(not spikes[start:stop].any() for start, stop in splits.tolist()):
        raise DataError(f"{minutes:g} minutes of {name} leave a split without a spike: give more minutes or units")
    provenance = {"source": "simulated", "kind": name, "seed": seed, "units": units, "seams": [], "notes": []}
    recording = Recording.from_array(
        spikes, name=name, domain=population.kind.domain, splits=splits, provenance=provenance
    )
    return recording, true_probability(population, spikes, *recording.span("test"))


def score_probability(spikes: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Score a predicted probability of spikes.

    Parameters
    ----------
    spikes : ndarray of uint8 of shape (n_bins, n_units)
        Observed spikes.
    probability : ndarray of shape (n_bins, n_units)
        Predicted probability of each.

    Returns
    -------
    dict of str to float
        ``auc`` over all bins and units; ``constant_auc``, that of each unit's mean rate; ``within_auc``, the mean over
        units with at least 10 spikes; ``average_precision``; ``prevalence``; ``bits_per_spike`` compared with each
        unit's mean rate.
    """
    mean = np.broadcast_to(spikes.mean(axis=0), spikes.shape)
    active = np.flatnonzero(spikes.sum(axis=0) >= MIN_SPIKES)
    within = [roc_auc_score(spikes[:, u], probability[:, u]) for u in active]
    gain = _log_likelihood(spikes, probability) - _log_likelihood(spikes, mean)
    return {
        "auc": float(roc_auc_score(spikes.ravel(), probability.ravel())),
        "constant_auc": float(roc_auc_score(spikes.ravel(), mean.ravel())),
        "within_auc": float(np.mean(within)) if within else np.nan,
        "average_precision": float(average_precision_score(spikes.ravel(), probability.ravel())),
        "prevalence": float(spikes.mean()),
        "bits_per_spike": float(gain / np.log(2) / spikes.sum()),
    }


def _log_likelihood(spikes: np.ndarray, probability: np.ndarray) -> float:
    """Sum log p over the bins with a spike and log(1 - p) over those without; 0 log 0 is 0."""
    with np.errstate(divide="ignore"):
        return float(np.where(spikes > 0, np.log(probability), np.log1p(-probability.astype(float))).sum())
