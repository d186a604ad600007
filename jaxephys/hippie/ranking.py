"""Standings: how the arms of a benchmark of units compare, and what is kept of what they said."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxephys.evaluation.comparison import measure
from jaxephys.evaluation.intervals import corrected_interval, corrected_test, mean_sd
from jaxephys.hippie.benchmark import Benchmark, Said
from jaxephys.reporting.score_table import EMPTY, Cell, Score, Table, seed_means, show

METRIC = "balanced_accuracy"
YARDSTICK = "svm"  # the opponent that all others are set against
RunScores = dict[tuple[int, int], float]  # seed, fold -> score


def scores_of(experiment: str, arm: str, bench: Benchmark, said: Said, trained_on: str = "") -> list[Score]:
    """Every score of every run."""
    longest = max(map(len, said.values()))
    found = []
    for (seed, fold), probability in said.items():
        label = bench.codes[bench.split(fold)[1]]
        values = measure(label, probability, np.ones(len(label), bool), longest, bench.classes)
        run = (experiment, arm, trained_on or bench.name, bench.name, seed, fold, "test")
        found += [Score(*run, metric, value, len(label)) for metric, value in values.items()]
    return found


def standings(
    scores: Sequence[Score], bench: Benchmark, reference: str, published: Mapping[str, str] | None = None
) -> Table:
    """A line an arm: mean and sd over seeds, the interval of the mean over folds, and the difference from ``reference``.

    Seeds of one fold share their test rows: they are averaged first, so that an interval rests on as many numbers as
    there are folds, and no seed is counted as if it were new evidence.
    """
    runs = {}
    for score in scores:
        if score.test_on == bench.name and score.metric == METRIC:
            runs.setdefault(score.variant, {})[score.seed, score.fold] = score.value
    test = len(bench.table) / len(bench.folds)
    sizes = (len(bench.table) - test, test)
    folds = {arm: seed_means({(fold, seed): value for (seed, fold), value in own.items()}) for arm, own in runs.items()}
    best = max(round(float(np.mean(list(own.values()))), 3) for own in folds.values())
    columns: dict[str, list[Cell]] = {name: [] for name in ("arm", METRIC, "[95%]", f"minus {reference} [95%]")}
    for arm, own in folds.items():
        seeds, values = list(seed_means(runs[arm]).values()), list(own.values())
        spread = mean_sd(seeds).sd if len(seeds) > 1 else np.nan
        interval = corrected_interval(values, *sizes)
        shown = Cell(show(interval.estimate, spread), round(interval.estimate, 3) == best)
        difference = _difference(values, list(folds[reference].values()), sizes) if arm != reference else "reference"
        for column, cell in zip(
            columns.values(), (Cell(arm), shown, Cell(_span(*interval[1:])), Cell(difference)), strict=True
        ):
            column.append(cell)
    if published:
        columns["published"] = [Cell(EMPTY) for _ in folds] + [Cell(text) for text in published.values()]
        for name, column in columns.items():
            column += [Cell(f"{arm}, published" if name == "arm" else EMPTY) for arm in published] * (
                name != "published"
            )
    return Table(columns, NOTES)


NOTES = [
    "Mean ± sd over seeds, where an arm draws anything; a seed is the mean of its folds. Bold: the best mean.",
    "Intervals: corrected resampled t test (Nadeau and Bengio 2003) over the folds, seeds averaged first.",
]


def _difference(ours: Sequence[float], theirs: Sequence[float], sizes: tuple[float, float]) -> str:
    test = corrected_test(ours, theirs, *sizes)
    return f"{test.difference:+.3f} {_span(test.low, test.high, '+')}"


def _span(low: float, high: float, sign: str = "") -> str:
    return f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def save_said(folder: Path, every: Mapping[Benchmark, Mapping[str, Said]]) -> None:
    """``predictions.npz``: under NAME/probability [arm, seed, unit, class] what was said of each unit as a test unit, NaN
    where an arm was not asked; beside it the arms, units, folds and classes, and the codes of the true ones."""
    arrays = {}
    for bench, said in every.items():
        seeds = 1 + max(seed for own in said.values() for seed, _ in own)
        whole = np.full((len(said), seeds, len(bench.codes), len(bench.classes)), np.nan, np.float32)
        for arm, own in enumerate(said.values()):
            for (seed, fold), probability in own.items():
                whole[arm, seed, bench.split(fold)[1]] = probability
        facts = {"arm": list(said), "unit": bench.table.unit, "fold": bench.fold, "class": bench.classes}
        facts |= {"label": bench.codes, "probability": whole}
        arrays |= {f"{bench.name}/{name}": np.asarray(values) for name, values in facts.items()}
    beside = folder / ".predictions.npz"
    np.savez_compressed(beside, allow_pickle=False, **arrays)
    os.replace(beside, folder / "predictions.npz")
