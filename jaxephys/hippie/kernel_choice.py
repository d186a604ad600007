"""Choice of the feature views and the width of the kernel classifier on other data sets than the one that is scored.

The views of `jaxephys.hippie.feature_views` and the width of their kernels were once chosen on the benchmark's data sets, whose scores are
therefore somewhat optimistic. Here each data set is scored with the choice that the others make: `KernelSelection.choose` compares
`CHOICES` by the mean balanced accuracy on the training units of all data sets that share no recording with the scored ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.metrics import balanced_accuracy_score

from jaxephys.engine.progress import track
from jaxephys.hippie.benchmark import Benchmark, FoldProbabilities, cross_validate
from jaxephys.hippie.datasets import FindDataset, RelatedDatasets, unrelated_tables
from jaxephys.hippie.feature_views import compute_feature_views
from jaxephys.hippie.probes import WIDTH, KernelProbe, join_blocks
from jaxephys.schemas.unit_table import UnitTable

CHOSEN_KERNEL = "kernel chosen on other data sets"  # the name of the model in scores and reports
ALL_VIEWS = ("shape", "slope", "spectrum", "intervals", "density", "cumulative", "lags", "near", "numbers")
MAX_UNITS = 1000  # labelled units of a data set that choices are compared on: the time grows with the third power


class KernelChoice(NamedTuple):
    """Blocks and width of a kernel classifier.

    Parameters
    ----------
    views : tuple of str
        Names of feature views; those that a data set lacks are left out.
    width : float
        Inverse squared width of the kernels, see `jaxephys.hippie.probes.KernelProbe`.
    """

    views: tuple[str, ...]
    width: float

    def __str__(self) -> str:
        return f"{', '.join(self.views)}; width {self.width:g}"


VIEW_SETS = (
    ALL_VIEWS,
    *(tuple(view for view in ALL_VIEWS if view != left_out) for left_out in ALL_VIEWS),
    ("shape", "intervals", "lags"),
    ("shape", "intervals", "lags", "numbers"),
    ("shape", "density", "near"),
    ("shape", "density", "near", "numbers"),
    ("shape", "slope", "intervals", "density", "lags", "near"),
    ("spectrum", "density", "near"),
    ("spectrum", "cumulative", "near", "numbers"),
    ("shape", "slope", "spectrum", "numbers"),
    ("intervals", "density", "cumulative", "lags", "near", "numbers"),
    ("shape", "slope", "intervals", "lags", "numbers"),
    ("slope", "density", "near", "numbers"),
    ("numbers",),
)
CHOICES = tuple(KernelChoice(views, width) for views, width in product(VIEW_SETS, (WIDTH, WIDTH / 2, 2 * WIDTH)))


@dataclass(frozen=True)
class KernelSelection:
    """Data sets on which the kernel classifier of another one is chosen.

    Parameters
    ----------
    tables : mapping of str to UnitTable
        All data sets, by the name of their folder. Those without two classes of five labelled units are not used.
    find_dataset : callable
        Registry of data sets.
    related_datasets : callable
        Returns the names of data sets that share recordings with some others.
    accuracies : dict of str to array of shape (choices,) or None
        Result of `leave_one_out_accuracies` by the registry's name of a data set, None for one with too few labels. Filled by `choose`.
    """

    tables: Mapping[str, UnitTable]
    find_dataset: FindDataset
    related_datasets: RelatedDatasets
    accuracies: dict[str, Float[np.ndarray, "choice"] | None] = field(default_factory=dict)

    def choose(self, benchmark: Benchmark) -> KernelChoice | None:
        """Choose views and width for a benchmark without its data sets.

        Parameters
        ----------
        benchmark : Benchmark
            The benchmark that is to be scored; neither units nor labels of its data sets, or of copies of them, are used.

        Returns
        -------
        KernelChoice or None
            The choice with the best mean over the other data sets, the first of equal ones; None if there is no other.
        """
        others = unrelated_tables(benchmark.datasets, self.tables, self.find_dataset, self.related_datasets)
        accuracies = []
        for name, table in others.items():
            if name not in self.accuracies:
                self.accuracies[name] = _accuracies_on(name, table)
            if self.accuracies[name] is not None:
                accuracies.append(self.accuracies[name])
        return CHOICES[int(np.mean(accuracies, axis=0).argmax())] if accuracies else None

    def evaluate(self, benchmark: Benchmark) -> dict[str, FoldProbabilities]:
        """Evaluate the kernel classifier that the other data sets choose.

        Parameters
        ----------
        benchmark : Benchmark
            Units and folds.

        Returns
        -------
        dict of FoldProbabilities
            Probabilities of the model `CHOSEN_KERNEL`; empty if there is no other data set.
        """
        choice = self.choose(benchmark)
        if choice is None:
            return {}
        values, widths = _join_views(benchmark.table, choice)
        return {CHOSEN_KERNEL: cross_validate(benchmark, "kernel", values, widths=widths, width=choice.width)}

    def describe(self, benchmark: Benchmark) -> str:
        """Return a sentence on the choice of a benchmark.

        Parameters
        ----------
        benchmark : Benchmark
            The benchmark.

        Returns
        -------
        str
            The chosen views and width.
        """
        return f"{benchmark.name}: {CHOSEN_KERNEL}: {self.choose(benchmark) or 'none, there is no other data set'}."


def leave_one_out_accuracies(benchmark: Benchmark) -> Float[np.ndarray, "choice"]:
    """Compute the accuracy of every choice on the training units of the first fold of a benchmark.

    Parameters
    ----------
    benchmark : Benchmark
        Units and folds.

    Returns
    -------
    float array of shape (choices,)
        Balanced accuracy of the predictions for each unit from the others, in the order of `CHOICES`. Chance for a choice none of whose
        views the units have.
    """
    train = benchmark.split(benchmark.folds[0])[0]
    codes, views = benchmark.codes[train], compute_feature_views(benchmark.table.raw)
    accuracies = np.full(len(CHOICES), 1 / len(benchmark.classes))
    for index, choice in enumerate(track(CHOICES, f"{benchmark.name}: choosing the kernel")):
        blocks = {name: views[name][train] for name in choice.views if name in views}
        if blocks:
            values, widths = join_blocks(blocks)
            fitted = KernelProbe(widths, choice.width).fit(values, codes)
            predicted = fitted.classes_[fitted.left_out_.argmax(axis=1)]
            accuracies[index] = balanced_accuracy_score(codes, predicted)
    return accuracies


def _accuracies_on(name: str, table: UnitTable) -> Float[np.ndarray, "choice"] | None:
    """Accuracies on a data set; None if it has too few labels."""
    try:
        benchmark = Benchmark.from_table(name, table, max_units=MAX_UNITS)
    except ValueError:
        return None
    return leave_one_out_accuracies(benchmark)


def _join_views(table: UnitTable, choice: KernelChoice) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the chosen views of units side by side; all views where the units have none of them."""
    views = compute_feature_views(table.raw)
    return join_blocks({name: views[name] for name in choice.views if name in views} or views)
