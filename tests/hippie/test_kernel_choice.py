"""The kernel classifier of a data set is chosen on others, without its own units and labels."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from data_prep.units.registry import find_dataset, held_out
from jaxephys.hippie import kernel_choice
from jaxephys.hippie.benchmark import Benchmark
from jaxephys.hippie.feature_views import compute_feature_views
from jaxephys.hippie.kernel_choice import (
    ALL_VIEWS,
    CHOICES,
    CHOSEN_KERNEL,
    VIEW_SETS,
    KernelChoice,
    KernelSelection,
    leave_one_out_accuracies,
)
from jaxephys.hippie.probes import KernelProbe, join_blocks
from jaxephys.schemas.unit_table import UnitTable

FEW = (KernelChoice(("numbers",), 0.5), KernelChoice(("shape", "lags"), 0.5), KernelChoice(("lags",), 1.0))


@pytest.fixture
def few_choices(monkeypatch):
    monkeypatch.setattr(kernel_choice, "CHOICES", FEW)


def selection_of(tables):
    return KernelSelection(tables, find_dataset, held_out)


def test_choices_are_subsets_of_all_views_and_differ():
    assert len(CHOICES) == len(set(CHOICES)) == 66 and CHOICES[0] == (ALL_VIEWS, 0.5)
    assert all(set(views) <= set(ALL_VIEWS) for views in VIEW_SETS)


def test_an_accuracy_is_that_of_models_without_the_unit(tables, few_choices):
    benchmark = Benchmark.from_table("watson", tables["watson"])
    train = benchmark.split(0)[0]
    values, widths = join_blocks({"lags": compute_feature_views(benchmark.table.raw)["lags"][train]})
    fitted = KernelProbe(widths, 1.0).fit(values, benchmark.codes[train])
    predicted = fitted.classes_[fitted.left_out_.argmax(axis=1)]
    found = leave_one_out_accuracies(benchmark)
    assert found[2] == pytest.approx(balanced_accuracy_score(benchmark.codes[train], predicted)) and found.shape == (3,)
    narrow = KernelProbe(widths, 50.0).fit(values, benchmark.codes[train])
    assert not np.allclose(narrow.left_out_, fitted.left_out_), "the width of the kernel is used"


def test_neither_units_nor_labels_of_the_scored_data_set_or_its_copies_are_used(tables, few_choices, monkeypatch):
    seen = []

    def accuracies(benchmark):
        seen.append(benchmark.name)
        return np.array([0.2, 0.1, 0.0]) if benchmark.name == "lisberger" else np.array([0.0, 0.5, 0.9])

    monkeypatch.setattr(kernel_choice, "leave_one_out_accuracies", accuracies)
    selection = selection_of(tables)
    assert selection.choose(Benchmark.from_table("hull", tables["hull"])) == FEW[2]
    assert seen == ["lisberger", "watson"], "hull_counts has the units of hull"
    assert selection.choose(Benchmark.from_table("lisberger", tables["lisberger"])) == FEW[2]
    assert seen == ["lisberger", "watson", "hull"], "each data set is compared once"
    only = selection_of({name: tables[name] for name in ("lisberger", "hull")})
    assert only.choose(Benchmark.from_table("hull", tables["hull"])) == FEW[0]
    assert (
        only.describe(Benchmark.from_table("hull", tables["hull"]))
        == "hull: kernel chosen on other data sets: numbers; width 0.5."
    )


def test_the_chosen_classifier_is_scored_in_the_folds_of_the_benchmark(tables, few_choices):
    benchmark = Benchmark.from_table("hull", tables["hull"])
    found = selection_of(tables).evaluate(benchmark)
    assert list(found) == [CHOSEN_KERNEL] and len(found[CHOSEN_KERNEL]) == 5
    predicted = np.empty(len(benchmark.table), int)
    for (_, fold), probability in found[CHOSEN_KERNEL].items():
        predicted[benchmark.split(fold)[1]] = probability.argmax(axis=1)
    assert balanced_accuracy_score(benchmark.codes, predicted) > 0.6
    relabelled = {**tables, "hull": _without_labels(tables["hull"])}
    again = selection_of(relabelled).evaluate(benchmark)
    np.testing.assert_array_equal(again[CHOSEN_KERNEL][0, 0], found[CHOSEN_KERNEL][0, 0])


def test_without_another_labelled_data_set_there_is_no_choice(tables):
    benchmark = Benchmark.from_table("hull", tables["hull"])
    selection = selection_of({"hull": tables["hull"], "watson": _without_labels(tables["watson"])})
    assert selection.choose(benchmark) is None and selection.evaluate(benchmark) == {}
    assert "there is no other data set" in selection.describe(benchmark)


def _without_labels(table: UnitTable) -> UnitTable:
    about = {name: column for name, column in table.about.items() if name != "fold"}
    return replace(table, about={**about, "label": np.full(len(table), "")})
