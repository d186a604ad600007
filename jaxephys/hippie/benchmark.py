"""Classification of cell types in the folds of a benchmark: the benchmark itself, and all classifiers on the same folds.

A `Benchmark` holds the labelled units of a data set and the fold that tests each. Baselines use the preprocessed curves side by side;
our kernel classifier uses feature views, optionally with an embedding as one more block. Everything that is chosen is chosen on
training rows. A classifier without random numbers is evaluated once, as seed 0: the folds are fixed, so seeds are those of the method.

`evaluate_without_networks` runs everything that needs no network, `evaluate_embeddings` probes of embeddings, and `cross_validate`
any classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from jaxephys.engine.progress import track
from jaxephys.evaluation.baselines import fit_predict_proba
from jaxephys.hippie.datasets import FindDataset, RelatedDatasets, unrelated_tables
from jaxephys.hippie.feature_views import compute_feature_views
from jaxephys.hippie.network.cvae import LENGTHS
from jaxephys.hippie.preprocessing import prepare, resample
from jaxephys.hippie.probes import (
    BASELINES,
    GENERATIVE_LINEAR,
    PUBLISHED_LINEAR,
    SEEDED,
    WIDTH,
    join_blocks,
    make_probe,
)
from jaxephys.hippie.protocol import PretrainingUnits
from jaxephys.schemas.unit_table import UnitTable

KERNEL_CLASSIFIER = "kernel on feature views"  # ours, chosen on most of the data sets before any network was trained
SHUFFLED = "shuffled labels"  # suffix of models trained on permuted labels: above chance, something leaks
SHUFFLES = 20  # permutations: one classifier errs alike on all units of a class, so that few permutations vary widely
PROBED = {  # probes of the embedding of each objective
    "ours": ("knn", "linear", "mlp", "kernel"),
    "published": ("knn", "linear", PUBLISHED_LINEAR, "mlp"),
    "generative": ("knn", GENERATIVE_LINEAR),
}
EMBEDDING_NAMES = {
    "ours": "our embedding",
    "published": "published embedding",
    "generative": "generative embedding",
}
TIMING = ("isi", "acg")  # curves that do not depend on the electrode
FOLDS = 5
EmbeddingFunction = Callable[[int, int], np.ndarray]  # seed, fold -> features of all units of the benchmark
FoldProbabilities = dict[tuple[int, int], np.ndarray]  # (seed, fold) -> class probabilities of the test rows


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Labelled units and the fold that tests each.

    Parameters
    ----------
    name : str
        Name in scores and reports.
    table : UnitTable of n_units
        The units, all with a label.
    fold : int array (n_units,)
        Fold that tests each unit; -1 for units that are always in training.
    datasets : tuple of str
        Folders of the data sets that the units come from, the one that is trained on first.
    """

    name: str
    table: UnitTable
    fold: np.ndarray
    datasets: tuple[str, ...]

    @classmethod
    def from_table(
        cls, name: str, table: UnitTable, *, fold_seed: int = 0, min_units: int = FOLDS, max_units: int = 0
    ) -> Benchmark:
        """Make a benchmark of one data set, in the folds of the table or in stratified ones, see `assign_folds`.

        Parameters
        ----------
        name : str
            Name of the data set.
        table : UnitTable
            All its units.
        fold_seed : int
            Seed of the folds of a table that has none.
        min_units : int
            Smallest class of such a table; the published folds have seed 42 and classes of 10.
        max_units : int
            Draw at most this number of labelled units, in proportion to folds and classes; 0: all. Kernel methods need the square of
            their number.

        Returns
        -------
        Benchmark
            The benchmark of its labelled units.
        """
        labelled, fold = assign_folds(table, seed=fold_seed, min_units=min_units)
        if max_units and len(labelled) > max_units:
            strata = np.char.add(table.label[labelled], fold.astype(str))
            drawn, _ = train_test_split(
                np.arange(len(labelled)), train_size=max_units, random_state=fold_seed, stratify=strata
            )
            labelled, fold = labelled[np.sort(drawn)], fold[np.sort(drawn)]
        return cls(name, table.rows(labelled), fold, (name,))

    def grouped_by(self, column: str) -> Benchmark | None:
        """Return the same units in folds that do not divide subjects or sessions.

        Parameters
        ----------
        column : {"subject", "session"}
            Text column of the groups.

        Returns
        -------
        Benchmark or None
            None if a group is unknown or there are fewer than five.
        """
        groups = self.table.column(column)
        if (groups == "").any() or len(np.unique(groups)) < FOLDS:
            return None
        fold = _fold_numbers(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0), self.codes, groups)
        return Benchmark(f"{self.name}, folds by {column}", self.table, fold, self.datasets)

    @cached_property
    def codes(self) -> np.ndarray:
        """Class of each unit, as an index into `classes`."""
        return self.table.codes()

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.table.classes.tolist()

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds."""
        return np.unique(self.fold[self.fold >= 0]).tolist()

    def pretraining_tables(
        self,
        tables: Mapping[str, UnitTable],
        find_dataset: FindDataset,
        related_datasets: RelatedDatasets,
        pretrain_on: PretrainingUnits = "others",
    ) -> list[UnitTable]:
        """Return the units that networks of the benchmark may be pretrained on.

        Parameters
        ----------
        tables : mapping of str to UnitTable
            All data sets, by the name of their folder.
        find_dataset : callable
            Registry of data sets.
        related_datasets : callable
            Returns the names of data sets that share recordings with some others.
        pretrain_on : {"others", "unrelated", "same", "all"}
            See `jaxephys.hippie.protocol.EmbeddingSettings`.

        Returns
        -------
        list of UnitTable
            Units of the training data set that are in no fold (unless ``pretrain_on`` is "unrelated"), and one table of every unrelated
            data set (unless it is "same"). Of a data set that is only tested, no unit is used.
        """
        source = tables[self.datasets[0]]
        outside = np.flatnonzero(~np.isin(source.name, self.table.name))
        unlabelled = [source.rows(outside)] if len(outside) and pretrain_on != "unrelated" else []
        if pretrain_on == "same":
            return unlabelled
        return [*unlabelled, *unrelated_tables(self.datasets, tables, find_dataset, related_datasets).values()]

    def split(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the training and test rows of a fold.

        Parameters
        ----------
        fold : int
            Number of the fold.

        Returns
        -------
        train, test : int arrays
            Rows of ``table``.
        """
        return np.flatnonzero(self.fold != fold), np.flatnonzero(self.fold == fold)

    def shuffled_codes(self, seed: int) -> np.ndarray:
        """Return the classes permuted among the units of each fold.

        Parameters
        ----------
        seed : int
            Seed of the permutation.

        Returns
        -------
        int array (n_units,)
            Classes without meaning.
        """
        rng, codes = np.random.default_rng(seed), self.codes.copy()
        for fold in np.unique(self.fold):
            codes[self.fold == fold] = rng.permutation(codes[self.fold == fold])
        return codes


def assign_folds(
    table: UnitTable, n_folds: int = FOLDS, seed: int = 0, min_units: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labelled units of a table and the fold that tests each.

    Parameters
    ----------
    table : UnitTable of n_units
        Units. If they have folds, these are used; otherwise units of classes with at least ``min_units`` members are divided at random.
    n_folds : int
        Number of stratified folds.
    seed : int
        Seed of the division.
    min_units : int, optional
        Units of the smallest class that is used, by default ``n_folds``, which is also the least.

    Returns
    -------
    rows : int array (n_labelled,)
        Rows of the table.
    fold : int array (n_labelled,)
        Fold of each.

    Raises
    ------
    ValueError
        If the table has no folds and fewer than two classes have enough units.
    """
    if (table.fold >= 0).any():
        labelled = np.flatnonzero((table.fold >= 0) & (table.label != ""))
        return labelled, table.fold[labelled]
    names, counts = np.unique(table.label, return_counts=True)
    least = max(n_folds, min_units or n_folds)
    classes = names[(counts >= least) & (names != "")]
    if len(classes) < 2:
        raise ValueError(f"fewer than two classes have {least} units: label more units, or request fewer folds")
    labelled = np.flatnonzero(np.isin(table.label, classes))
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return labelled, _fold_numbers(splitter, table.label[labelled])


def transfer_benchmark(tables: Mapping[str, UnitTable], source: str, target: str, min_units: int) -> Benchmark:
    """Make a benchmark that trains on one data set and tests on another.

    Parameters
    ----------
    tables : mapping of str to UnitTable
        Tables by data set.
    source, target : str
        Data set whose units are always in training, and data set whose units are all tested.
    min_units : int
        Units of a class that both data sets must have; other classes are left out.

    Returns
    -------
    Benchmark
        The benchmark, with a single fold 0.

    Raises
    ------
    ValueError
        If they share fewer than two such classes.
    """
    classes = {name: tables[name].labelled(min_units).classes for name in (source, target)}
    shared = np.intersect1d(classes[source], classes[target])
    if len(shared) < 2:
        raise ValueError(f"{source} and {target} share {len(shared)} classes of {min_units} units: two are required")
    parts = [tables[name].rows(np.flatnonzero(np.isin(tables[name].label, shared))) for name in (source, target)]
    columns = set.intersection(*(set(part.about) for part in parts)) - {"fold"}
    about = {name: np.concatenate([part.about[name] for part in parts]) for name in sorted(columns)}
    raw = {name: np.concatenate(_same_columns([part.raw[name] for part in parts], LENGTHS[name])) for name in LENGTHS}
    table = UnitTable(raw, np.concatenate([part.name for part in parts]), about)
    fold = np.repeat([-1, 0], [len(part) for part in parts])
    return Benchmark(f"{source} to {target}", table, fold, (source, target))


def timing_benchmark(benchmark: Benchmark) -> Benchmark:
    """Return a benchmark without waveforms: intervals and autocorrelograms do not depend on the electrode.

    Parameters
    ----------
    benchmark : Benchmark
        A benchmark.

    Returns
    -------
    Benchmark
        The same units and folds.
    """
    table = benchmark.table
    raw = {name: curves if name in TIMING else curves[:, :0] for name, curves in table.raw.items()}
    return Benchmark(benchmark.name, UnitTable(raw, table.unit, table.about), benchmark.fold, benchmark.datasets)


def cross_validate(
    benchmark: Benchmark,
    name: str,
    features: np.ndarray | EmbeddingFunction,
    seeds: int = 1,
    *,
    widths: Sequence[int] | None = None,
    width: float = WIDTH,
    shuffled: bool = False,
) -> FoldProbabilities:
    """Fit a new classifier for every seed and fold and return its probabilities of the test rows.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    name : str
        Kind of classifier, see `jaxephys.hippie.probes.make_probe`.
    features : array (n_units, n_columns) or callable
        Features of all units, or a function of seed and fold that returns them.
    seeds : int
        Number of seeds. Where neither classifier, nor features, nor labels depend on the seed, only seed 0 is evaluated.
    widths : sequence of int, optional
        Number of columns of each block of the kernel probe.
    width : float
        Inverse squared width of its kernels.
    shuffled : bool
        Train on classes that are permuted by the seed, as a check of leakage.

    Returns
    -------
    dict of arrays (n_test, n_classes)
        Probabilities by (seed, fold).
    """
    probabilities = {}
    n_seeds = seeds if name in SEEDED or callable(features) or shuffled else 1
    for seed in track(range(n_seeds), f"{benchmark.name}: {name}"):
        codes = benchmark.shuffled_codes(seed) if shuffled else benchmark.codes
        for fold in benchmark.folds:
            values = features(seed, fold) if callable(features) else features
            model, rows = make_probe(name, seed, widths, width), benchmark.split(fold)
            probabilities[seed, fold] = fit_predict_proba(model, values, codes, *rows, len(benchmark.classes))
    return probabilities


def evaluate_without_networks(
    benchmark: Benchmark, seeds: int, baselines: Sequence[str] = BASELINES, *, shuffled: bool = True
) -> dict[str, FoldProbabilities]:
    """Evaluate the kernel classifier on feature views, with true and with shuffled labels, and the baselines on the curves.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    seeds : int
        Number of seeds of baselines with random numbers.
    baselines : sequence of str
        Names of baselines.
    shuffled : bool
        Evaluate the kernel classifier with shuffled labels as well.

    Returns
    -------
    dict of FoldProbabilities
        Probabilities by model.
    """
    views, widths = join_blocks(compute_feature_views(benchmark.table.raw))
    probabilities = {KERNEL_CLASSIFIER: cross_validate(benchmark, "kernel", views, widths=widths)}
    if shuffled:
        name = f"{KERNEL_CLASSIFIER}, {SHUFFLED}"
        probabilities[name] = cross_validate(benchmark, "kernel", views, SHUFFLES, widths=widths, shuffled=True)
    curves = baseline_features(benchmark.table)
    return probabilities | {name: cross_validate(benchmark, name, curves, seeds) for name in baselines}


def evaluate_embeddings(
    benchmark: Benchmark, embeddings: Mapping[str, EmbeddingFunction], seeds: int
) -> dict[str, FoldProbabilities]:
    """Evaluate probes on embeddings, and the kernel classifier with the first embedding as one more block.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    embeddings : mapping of str to callable
        Result of `jaxephys.hippie.embedding_grid.EmbeddingGrid.train`: for some objectives, the first of which is combined with feature
        views, and for shuffled labels.
    seeds : int
        Number of seeds.

    Returns
    -------
    dict of FoldProbabilities
        Probabilities by model. The probes of an objective are those of ``PROBED``.
    """
    objectives = [name for name in embeddings if name != SHUFFLED]
    probabilities = {
        f"{name} on {EMBEDDING_NAMES[objective]}": cross_validate(benchmark, name, embeddings[objective], seeds)
        for objective in objectives
        for name in PROBED[objective]
    }
    views, widths = join_blocks(compute_feature_views(benchmark.table.raw))
    first = objectives[0]
    latent = embeddings[first](0, benchmark.folds[0]).shape[1]

    def views_and_embedding(seed: int, fold: int) -> np.ndarray:
        return np.concatenate([views, embeddings[first](seed, fold)], axis=1)

    added = "embedding" if first == "ours" else EMBEDDING_NAMES[first]
    probabilities[f"{KERNEL_CLASSIFIER} + {added}"] = cross_validate(
        benchmark, "kernel", views_and_embedding, seeds, widths=(*widths, latent)
    )
    probabilities[f"knn on {EMBEDDING_NAMES[first]}, {SHUFFLED}"] = cross_validate(
        benchmark, "knn", embeddings[SHUFFLED], shuffled=True
    )
    return probabilities


def baseline_features(table: UnitTable) -> np.ndarray:
    """Return the input of the baselines: preprocessed curves of the modalities that any unit has, side by side.

    Parameters
    ----------
    table : UnitTable of n_units
        Units.

    Returns
    -------
    array (n_units, n_columns)
        Features.
    """
    curves, present = prepare(table.raw)
    available = np.any(present, axis=0).tolist()
    return np.concatenate([rows for rows, used in zip(curves.values(), available, strict=True) if used], axis=1)


def _fold_numbers(splitter: Any, labels: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Return the number of the fold that tests each unit."""
    fold = np.zeros(len(labels), int)
    for number, (_, test) in enumerate(splitter.split(labels, labels, groups)):
        fold[test] = number
    return fold


def _same_columns(curves: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    """Return curves of two tables unchanged if they have the same columns, otherwise resampled to the network's length."""
    if len({rows.shape[1] for rows in curves}) == 1:
        return list(curves)
    if not all(rows.shape[1] for rows in curves):  # one of the two tables does not have the modality
        return [np.zeros((len(rows), 0), np.float32) for rows in curves]
    return [resample(rows, length).astype(np.float32) for rows in curves]
