"""Classification of cell types in the folds of a benchmark: the benchmark itself, baselines and our classifiers on the same folds.

A `Benchmark` holds the labelled units of a data set and the fold that tests each. Baselines use the preprocessed curves side by side;
our kernel classifier uses feature views, optionally with an embedding as one more block. Everything that is chosen is chosen on
training rows. A classifier without random numbers is evaluated once, as seed 0: the folds are fixed, so seeds are those of the method.

`evaluate_without_networks` runs everything that needs no network, `cross_validated_probabilities` any classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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

from jaxephys.evaluation.baselines import fit_predict_proba
from jaxephys.hippie.feature_views import compute_feature_views
from jaxephys.hippie.leakage_audit import assign_folds
from jaxephys.hippie.network.cvae import LENGTHS
from jaxephys.hippie.preprocessing import DEFAULT, Preparation, prepare, resample
from jaxephys.hippie.probes import KNNProbe, join_blocks, make_probe
from jaxephys.schemas.unit_table import FILE, UnitTable

KERNEL_CLASSIFIER = "kernel on feature views"  # ours, chosen before any network was trained
BASELINES = ("knn", "pca + knn", "forest", "logistic", "svm")
UMAP_BASELINE = "umap + knn"  # requires the extra "umap"
SHUFFLED = "shuffled labels"  # suffix of models trained on permuted labels: above chance, something leaks
SHUFFLES = 20  # permutations: one classifier errs alike on all units of a class, so that few permutations vary widely
RANDOM = ("knn", "pca + knn", "forest", UMAP_BASELINE, "mlp")  # classifiers that depend on the seed
TIMING = ("isi", "acg")  # curves that do not depend on the electrode
FOLDS = 5
PCA_COMPONENTS, UMAP_COMPONENTS, TREES = 30, 10, 500
# Features of a run: one array for all, or a function of seed and fold; one row per unit of the benchmark.
Features = np.ndarray | Callable[[int, int], np.ndarray]
FoldProbabilities = dict[tuple[int, int], np.ndarray]  # (seed, fold) -> class probabilities of the test rows


# Registry of data sets, by the name of a folder: an object with the attributes name (of the data set, shared by all folders with the
# same recordings) and technology. ValueError for an unknown name. See data_prep.units.registry.find_dataset.
FindDataset = Callable[[str], Any]


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
    def from_table(cls, name: str, table: UnitTable) -> Benchmark:
        """Make a benchmark of one data set, in the folds of the table or in stratified ones.

        Parameters
        ----------
        name : str
            Name of the data set.
        table : UnitTable
            All its units.

        Returns
        -------
        Benchmark
            The benchmark of its labelled units.
        """
        labelled, fold = assign_folds(table, FOLDS, 0)
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
        fold = np.zeros(len(groups), int)
        splits = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(groups, self.codes, groups)
        for number, (_, test) in enumerate(splits):
            fold[test] = number
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


def read_tables(folder: Path, find_dataset: FindDataset, required: Collection[str] = ()) -> dict[str, UnitTable]:
    """Read the data sets of a folder and fill in the recording technology of known ones.

    Parameters
    ----------
    folder : Path
        Folder with one folder per data set, or a single table of units.
    find_dataset : callable
        Registry of data sets.
    required : collection of str
        Names of data sets that must be there.

    Returns
    -------
    dict of UnitTable
        Tables by the name of their folder.

    Raises
    ------
    ValueError
        If there is no data set, or not a required one.
    """
    if folder.suffix == ".npz" or (folder / FILE).exists() or (folder / "waveforms.csv").exists():
        tables = {folder.stem: UnitTable.read(folder)}
    else:
        paths = [path for path in sorted(folder.glob("*/")) if any(path.glob("*.*"))]
        tables = {path.name: UnitTable.read(path) for path in paths}
    if not tables:
        raise ValueError(f"{folder} has no data set: give --data a folder with one folder per data set, or a table")
    if missing := set(required) - set(tables):
        raise ValueError(f"{folder} has no data set {min(missing)!r}: it has {', '.join(tables)}")
    return {name: fill_technology(name, table, find_dataset) for name, table in tables.items()}


def fill_technology(name: str, table: UnitTable, find_dataset: FindDataset) -> UnitTable:
    """Return a table with the recording technology of its data set, if it has none of its own.

    Parameters
    ----------
    name : str
        Name of the data set's folder.
    table : UnitTable
        Its units.
    find_dataset : callable
        Registry of data sets. A table of an unknown data set is returned unchanged.

    Returns
    -------
    UnitTable
        The table.
    """
    if (table.technology_codes >= 0).any():
        return table
    try:
        return table.with_technology(find_dataset(name).technology)
    except ValueError:
        return table


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


def baseline_features(table: UnitTable, preparation: Preparation = DEFAULT) -> np.ndarray:
    """Return the input of the baselines: preprocessed curves of the modalities that any unit has, side by side.

    Parameters
    ----------
    table : UnitTable of n_units
        Units.
    preparation : Preparation
        Settings of the preprocessing.

    Returns
    -------
    array (n_units, n_columns)
        Features.
    """
    prepared = prepare(table.raw, preparation)
    present = np.any(prepared.present, axis=0).tolist()
    return np.concatenate([rows for rows, used in zip(prepared.curves.values(), present, strict=True) if used], axis=1)


def make_unit_baseline(name: str, seed: int) -> Pipeline:
    """Return an unfitted baseline. Its settings were fixed before any of them was evaluated.

    Parameters
    ----------
    name : {"knn", "pca + knn", "forest", "logistic", "svm", "umap + knn"}
        The baseline.
    seed : int
        Seed of its random numbers.

    Returns
    -------
    Pipeline
        A scikit-learn classifier.

    Raises
    ------
    ValueError
        If there is no such baseline, or umap is not installed.
    """
    makers = {
        "knn": lambda: (KNNProbe(seed=seed),),
        "pca + knn": lambda: (PCA(PCA_COMPONENTS, random_state=seed), KNNProbe(seed=seed)),
        "forest": lambda: (RandomForestClassifier(TREES, class_weight="balanced", random_state=seed, n_jobs=-1),),
        "logistic": lambda: (LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000),),
        "svm": lambda: (StandardScaler(), SVC(C=3.0, class_weight="balanced")),
        UMAP_BASELINE: lambda: (_umap(seed), KNNProbe(seed=seed)),
    }
    if name not in makers:
        raise ValueError(f"unknown baseline {name!r}: choose one of {', '.join(makers)}")
    return make_pipeline(*makers[name]())


def _umap(seed: int) -> Any:
    try:
        from umap import UMAP
    except ImportError:
        raise ValueError(f"umap is not installed: pip install jaxephys[umap], or leave out {UMAP_BASELINE}") from None
    return UMAP(n_components=UMAP_COMPONENTS, random_state=seed, n_jobs=1)


def cross_validated_probabilities(
    benchmark: Benchmark,
    make: Callable[[int], Pipeline],
    features: Features,
    seeds: Sequence[int],
    codes: Callable[[int], np.ndarray] | None = None,
) -> FoldProbabilities:
    """Fit a new classifier for every seed and fold and return its probabilities of the test rows.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    make : callable
        Returns an unfitted classifier for a seed.
    features : array (n_units, n_columns) or callable
        Features of all units, or a function of seed and fold that returns them.
    seeds : sequence of int
        Seeds.
    codes : callable, optional
        Returns the classes to train on for a seed, if not the true ones.

    Returns
    -------
    dict of arrays (n_test, n_classes)
        Probabilities by (seed, fold).
    """
    probabilities = {}
    for seed in seeds:
        training_codes = benchmark.codes if codes is None else codes(seed)
        for fold in benchmark.folds:
            values = features(seed, fold) if callable(features) else features
            probabilities[seed, fold] = fit_predict_proba(
                make(seed), values, training_codes, *benchmark.split(fold), len(benchmark.classes)
            )
    return probabilities


def evaluate_baseline(benchmark: Benchmark, name: str, seeds: int) -> FoldProbabilities:
    """Evaluate a baseline on the preprocessed curves.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    name : str
        See `make_unit_baseline`.
    seeds : int
        Number of seeds; a baseline without random numbers is evaluated once.

    Returns
    -------
    dict of arrays (n_test, n_classes)
        Probabilities by (seed, fold).
    """
    features, used = baseline_features(benchmark.table), range(seeds if name in RANDOM else 1)
    return cross_validated_probabilities(benchmark, lambda seed: make_unit_baseline(name, seed), features, used)


def evaluate_probe(
    benchmark: Benchmark,
    name: str,
    features: Features,
    seeds: Sequence[int],
    widths: Sequence[int] | None = None,
    codes: Callable[[int], np.ndarray] | None = None,
) -> FoldProbabilities:
    """Evaluate a probe on an embedding or other features.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    name : str
        Kind of probe, see `jaxephys.hippie.probes.make_probe`.
    features : array (n_units, n_columns) or callable
        Features of all units, or a function of seed and fold that returns them.
    seeds : sequence of int
        Seeds.
    widths : sequence of int, optional
        Number of columns of each block of the kernel probe.
    codes : callable, optional
        Returns the classes to train on for a seed, if not the true ones.

    Returns
    -------
    dict of arrays (n_test, n_classes)
        Probabilities by (seed, fold).
    """
    return cross_validated_probabilities(benchmark, lambda seed: make_probe(name, seed, widths), features, seeds, codes)


def evaluate_kernel_classifier(benchmark: Benchmark, shuffles: int = 0) -> FoldProbabilities:
    """Evaluate our kernel classifier on feature views, without any network.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    shuffles : int
        Number of permutations of the labels to train on, as a check of leakage; 0 for the true labels.

    Returns
    -------
    dict of arrays (n_test, n_classes)
        Probabilities by (seed, fold); the seed is that of the permutation.
    """
    values, widths = join_blocks(compute_feature_views(benchmark.table.raw))
    codes = benchmark.shuffled_codes if shuffles else None
    return evaluate_probe(benchmark, "kernel", values, range(max(shuffles, 1)), widths, codes)


def evaluate_without_networks(
    benchmark: Benchmark, seeds: int, baselines: Sequence[str] = BASELINES
) -> dict[str, FoldProbabilities]:
    """Evaluate the kernel classifier, with true and with shuffled labels, and the baselines.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.
    seeds : int
        Number of seeds of baselines with random numbers.
    baselines : sequence of str
        Names of baselines.

    Returns
    -------
    dict of FoldProbabilities
        Probabilities by model.
    """
    probabilities = {KERNEL_CLASSIFIER: evaluate_kernel_classifier(benchmark)}
    probabilities[f"{KERNEL_CLASSIFIER}, {SHUFFLED}"] = evaluate_kernel_classifier(benchmark, SHUFFLES)
    return probabilities | {name: evaluate_baseline(benchmark, name, seeds) for name in baselines}


def _same_columns(curves: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    """Return curves of two tables unchanged if they have the same columns, otherwise resampled to the network's length."""
    if len({rows.shape[1] for rows in curves}) == 1:
        return list(curves)
    if not all(rows.shape[1] for rows in curves):  # one of the two tables does not have the modality
        return [np.zeros((len(rows), 0), np.float32) for rows in curves]
    return [resample(rows, length).astype(np.float32) for rows in curves]
