"""Heads: what tells the class of a unit from its curves or from an embedding, in the folds of a benchmark, and how well.

An opponent reads the prepared curves side by side; our own head the views of the curves, with or without an embedding as
one more block. Everything that is chosen is chosen on training rows. What draws nothing at random is asked once, as seed
0: the folds are given, so that seeds are those of the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from jaxephys.evaluation.baselines import probability_of
from jaxephys.hippie.feature_views import views_of
from jaxephys.hippie.leakage_audit import folds_of
from jaxephys.hippie.preprocessing import DEFAULT, Preparation, prepare
from jaxephys.hippie.probes import KNNProbe, as_blocks, make_probe
from jaxephys.schemas.unit_table import FILE, UnitTable

HEAD = "kernel on views"  # ours, declared before any network is trained
OPPONENTS = ("knn", "pca + knn", "forest", "logistic", "svm")
SHUFFLED = "labels shuffled"  # arms that learn labels without meaning: they end at chance, or something leaks
SHUFFLES = 20  # draws of them: one classifier errs alike on all units of a class, so that few draws spread widely
NEIGHBOURS = "umap + knn"  # of the extra "umap"
DRAWN = ("knn", "pca + knn", "forest", NEIGHBOURS, "mlp")  # at random, in part: the others say the same with every seed
FOLDS = 5
COMPONENTS, EMBEDDED, TREES = 30, 10, 500
# Features of a run: one matrix for all, or one for each seed and fold, with a row a unit of the benchmark.
Features = np.ndarray | Callable[[int, int], np.ndarray]
Said = dict[tuple[int, int], np.ndarray]  # seed, fold -> probabilities of the test rows


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The labelled units that take part, and the test fold of each; -1 where a unit trains and is never tested."""

    name: str
    table: UnitTable
    fold: np.ndarray
    sets: tuple[str, ...]  # the data sets that the units are of, the one trained on first

    @classmethod
    def of(cls, name: str, whole: UnitTable) -> Benchmark:
        """In the folds that the table tells, or in stratified ones."""
        chosen, fold = folds_of(whole, FOLDS, 0)
        return cls(name, whole.rows(chosen), fold, (name,))

    def grouped(self, by: str) -> Benchmark | None:
        """The same units in folds that no subject or session is cut by; None where too few are known."""
        groups = self.table.about.get(by, np.full(len(self.table), ""))
        if (groups == "").any() or len(np.unique(groups)) < FOLDS:
            return None
        fold = np.zeros(len(groups), int)
        cut = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(groups, self.codes, groups)
        for place, (_, test) in enumerate(cut):
            fold[test] = place
        return Benchmark(f"{self.name}, folds by {by}", self.table, fold, self.sets)

    @cached_property
    def codes(self) -> np.ndarray:
        return self.table.codes()

    @property
    def names(self) -> np.ndarray:
        """Of the units, with that of their data set."""
        return self.table.name

    @property
    def classes(self) -> list[str]:
        return self.table.classes.tolist()

    @property
    def folds(self) -> list[int]:
        return np.unique(self.fold[self.fold >= 0]).tolist()

    def split(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and test rows."""
        return np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold)

    def shuffled(self, seed: int) -> np.ndarray:
        """Labels without meaning: drawn anew among the units of each fold."""
        rng, codes = np.random.default_rng(seed), self.codes.copy()
        for fold in np.unique(self.fold):
            codes[self.fold == fold] = rng.permutation(codes[self.fold == fold])
        return codes


def read_tables(data: Path) -> dict[str, UnitTable]:
    """Every data set of a folder by the name of its own folder, or the one table that the folder is."""
    if data.suffix == ".npz" or (data / FILE).exists() or (data / "waveforms.csv").exists():
        return {data.stem: UnitTable.read(data)}
    found = {path.name: UnitTable.read(path) for path in sorted(data.glob("*/")) if any(path.glob("*.*"))}
    if not found:
        raise ValueError(f"{data} holds no data set: give --data a folder with a folder for each, or a table of units")
    return found


def curves_of(table: UnitTable, preparation: Preparation = DEFAULT) -> np.ndarray:
    """What the opponents read: the prepared curves that any unit has, side by side."""
    prepared = prepare(table.raw, preparation)
    known = np.any(prepared.present, axis=0).tolist()
    return np.concatenate([rows for rows, any_ in zip(prepared.curves.values(), known, strict=True) if any_], axis=1)


def make_opponent(name: str, seed: int) -> Pipeline:
    """A fresh one. Settings are those of the yardsticks, fixed before any of them was run."""
    makers = {
        "knn": lambda: (KNNProbe(seed=seed),),
        "pca + knn": lambda: (PCA(COMPONENTS, random_state=seed), KNNProbe(seed=seed)),
        "forest": lambda: (RandomForestClassifier(TREES, class_weight="balanced", random_state=seed, n_jobs=-1),),
        "logistic": lambda: (LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000),),
        "svm": lambda: (StandardScaler(), SVC(C=3.0, class_weight="balanced")),
        NEIGHBOURS: lambda: (umap(seed), KNNProbe(seed=seed)),
    }
    if name not in makers:
        raise ValueError(f"unknown opponent {name!r}: choose one of {', '.join(makers)}")
    return make_pipeline(*makers[name]())


def umap(seed: int) -> Any:
    try:
        from umap import UMAP
    except ImportError:
        raise ValueError("umap is not installed: pip install jaxephys[umap], or leave out umap + knn") from None
    return UMAP(n_components=EMBEDDED, random_state=seed, n_jobs=1)


def ask(
    bench: Benchmark,
    make: Callable[[int], Pipeline],
    features: Features,
    seeds: Sequence[int],
    codes: Callable[[int], np.ndarray] | None = None,
) -> Said:
    """A fresh classifier for every seed and fold. ``codes``: the labels that it is trained on, where not the true ones."""
    said = {}
    for seed in seeds:
        told = bench.codes if codes is None else codes(seed)
        for fold in bench.folds:
            values = features(seed, fold) if callable(features) else features
            said[seed, fold] = probability_of(make(seed), values, told, *bench.split(fold), len(bench.classes))
    return said


def ask_opponent(bench: Benchmark, name: str, seeds: int) -> Said:
    """On the curves as they are."""
    return ask(bench, lambda seed: make_opponent(name, seed), curves_of(bench.table), seeds_of(name, seeds))


def ask_probe(
    bench: Benchmark,
    name: str,
    features: Features,
    seeds: Sequence[int],
    widths: Sequence[int] | None = None,
    codes: Callable[[int], np.ndarray] | None = None,
) -> Said:
    """A probe on features, those of an embedding say; ``widths`` as in ``make_probe``."""
    return ask(bench, lambda seed: make_probe(name, seed, widths), features, seeds, codes)


def ask_head(bench: Benchmark, shuffles: int = 0) -> Said:
    """Our head on the views of the curves, without any network; with ``shuffles`` on labels without meaning."""
    values, widths = as_blocks(views_of(bench.table.raw))
    codes = bench.shuffled if shuffles else None
    return ask(bench, lambda seed: make_probe("kernel", seed, widths), values, range(max(shuffles, 1)), codes)


def seeds_of(name: str, seeds: int) -> range:
    return range(seeds if name in DRAWN else 1)
