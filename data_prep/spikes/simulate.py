"""Simulate: the twelve populations as recordings, with the truth of their test bins beside them.

OUT/vitro_bursts.npz ...          recordings as ``build`` makes them
OUT/truth/vitro_bursts.npz ...    test_rate float32 [test bin, unit]: the exact probability of each bin given those before it
OUT/truth.csv                     what no model can beat but by luck: the scores of that probability on the test bins
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from data_prep.npz import write_npz
from data_prep.scale.progress import Report
from data_prep.spikes.point_process import run, true_rate
from data_prep.spikes.recording import Recording, write_recording
from data_prep.spikes.simulated_populations import KINDS, draw, kind_of
from data_prep.spikes.spike_times import SpikesError
from data_prep.spikes.splits import by_minutes, checked

SHARES = (0.5, 0.25, 0.25)  # of the minutes, as in 5 / 2.5 / 2.5
GAP = 1.0  # s
ENOUGH = 10  # test spikes of a unit whose own AUC counts


def simulate(
    out: Path, names: Sequence[str] = (), *, minutes: float = 1.0, units: int = 32, seed: int = 0
) -> list[dict[str, str | float]]:
    """Write these populations, all twelve by default; the rows of truth.csv."""
    kinds = [kind_of(name) for name in names] or list(KINDS)
    rows = []
    with Report("populations", len(kinds), 0, 0) as report:
        for kind in kinds:
            recording, rate = simulate_one(kind.name, minutes, units, seed)
            write_recording(recording, out)
            (out / "truth").mkdir(exist_ok=True)
            write_npz(out / "truth" / f"{kind.name}.npz", {"test_rate": rate, "split_sha256": recording.sha256})
            rows.append(
                {"name": kind.name, "domain": kind.domain} | scores(recording.bits(*recording.range("test")), rate)
            )
            report(failed=False)
    with (out / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def simulate_one(name: str, minutes: float, units: int, seed: int) -> tuple[Recording, np.ndarray]:
    """A recording and the true rate of its test bins. ``draw`` and ``true_rate`` give that of any others."""
    bins = round(minutes * 60_000)
    splits = checked(by_minutes(bins, 1.0, [minutes * share for share in SHARES], GAP), bins)
    population = draw(kind_of(name), units, seed)
    spikes = run(population, bins, seed)
    if any(not spikes[start:stop].any() for start, stop in splits.tolist()):
        raise SpikesError(f"{minutes:g} minutes of {name} leave a split without a spike: give more minutes or units")
    recording = Recording(
        name,
        population.kind.domain,
        np.packbits(spikes, axis=1, bitorder="little"),
        [str(i) for i in range(units)],
        1.0,
        splits,
        {"source": "simulated", "kind": name, "seed": seed, "units": units, "seams": [], "notes": []},
    )
    return recording, true_rate(population, spikes, *recording.range("test"))


def scores(spikes: np.ndarray, rate: np.ndarray) -> dict[str, float]:
    """Scores of a probability [bin, unit] on the bins it is of; bits per spike are against each unit's own mean over them."""
    mean = np.broadcast_to(spikes.mean(axis=0), spikes.shape)
    enough = np.flatnonzero(spikes.sum(axis=0) >= ENOUGH)
    within = [roc_auc_score(spikes[:, u], rate[:, u]) for u in enough]
    gain = log_likelihood(spikes, rate) - log_likelihood(spikes, mean)
    return {
        "auc": float(roc_auc_score(spikes.ravel(), rate.ravel())),
        "constant_auc": float(roc_auc_score(spikes.ravel(), mean.ravel())),
        "within_auc": float(np.mean(within)) if within else np.nan,
        "average_precision": float(average_precision_score(spikes.ravel(), rate.ravel())),
        "prevalence": float(spikes.mean()),
        "bits_per_spike": float(gain / np.log(2) / spikes.sum()),
    }


def log_likelihood(spikes: np.ndarray, rate: np.ndarray) -> float:
    """Sum of log p over the bins with a spike and of log(1 - p) over those without; 0 log 0 is 0."""
    with np.errstate(divide="ignore"):
        return float(np.where(spikes > 0, np.log(rate), np.log1p(-rate.astype(float))).sum())
