"""The benchmark of units: folds, shuffled labels, transfers, and nothing is fitted on test units."""

from dataclasses import replace

import numpy as np
import pytest

from data_prep.units.registry import find_dataset, held_out
from jaxephys.hippie.benchmark import (
    KERNEL_CLASSIFIER,
    Benchmark,
    evaluate_without_networks,
    transfer_benchmark,
)
from jaxephys.schemas.unit_table import UnitTable

REGISTRY = (find_dataset, held_out)


def test_copies_of_a_data_set_are_excluded_from_pretraining(tables):
    def others(bench):
        named = [set(table.about["dataset"]) for table in bench.pretraining_tables(tables, *REGISTRY)]
        return [names for names in named if names != set(bench.datasets[:1])]  # except units outside the folds

    hull = Benchmark.from_table("hull", tables["hull"])
    assert others(hull) == [{"lisberger"}, {"watson"}], "hull_counts has the units of hull"
    assert others(Benchmark.from_table("watson", tables["watson"])) == [{"hull"}, {"lisberger"}], "one copy of two"
    assert others(transfer_benchmark(tables, "lisberger", "hull_counts", 10)) == [{"watson"}]
    with pytest.raises(ValueError, match="no data set 'lisbon'"):
        hull.pretraining_tables({**tables, "lisbon": tables["watson"]}, *REGISTRY)


def test_unlabelled_units_are_used_in_pretraining(tables):
    table = tables["watson"]
    label = table.label.copy()
    label[:7] = ""
    partly = replace(table, about={**table.about, "label": label})
    bench = Benchmark.from_table("watson", partly)
    unlabelled = bench.pretraining_tables({**tables, "watson": partly}, *REGISTRY)[0]
    assert set(table.unit[:7]) <= set(unlabelled.unit) and not np.isin(unlabelled.unit, bench.table.unit).any()
    assert len(unlabelled) + len(bench.table) == len(table)


def test_folds_by_subject_divide_no_subject(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"]).grouped_by("subject")
    assert bench is not None and bench.name == "lisberger, folds by subject"
    subject = bench.table.about["subject"]
    assert all(len(set(bench.fold[subject == name])) == 1 for name in np.unique(subject))
    few = np.where(subject == subject[0], "left", "right")
    table = replace(bench.table, about={**bench.table.about, "subject": few})
    assert Benchmark.from_table("lisberger", table).grouped_by("subject") is None, (
        "two subjects are too few for five folds"
    )
    assert Benchmark.from_table("lisberger", table).grouped_by("species") is None


def test_shuffled_labels_are_permuted_within_each_fold(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"])
    shuffled = bench.shuffled_codes(0)
    for fold in bench.folds:
        rows = bench.split(fold)[1]
        np.testing.assert_array_equal(np.bincount(shuffled[rows]), np.bincount(bench.codes[rows]))
    assert (shuffled == bench.codes).mean() < 0.5 and (shuffled != bench.shuffled_codes(1)).any()


def change_all_but_first(bench: Benchmark, fold: int) -> tuple[Benchmark, int]:
    """Change all test units of a fold except the first."""
    test = bench.split(fold)[1]
    raw = {name: rows.copy() for name, rows in bench.table.raw.items()}
    for rows in raw.values():
        rows[test[1:]] = np.abs(rows[test[1:]][:, ::-1]) ** 2 + np.arange(rows.shape[1])
    return replace(bench, table=UnitTable(raw, bench.table.unit, bench.table.about)), fold


@pytest.mark.parametrize("model", [KERNEL_CLASSIFIER, "svm"])
def test_nothing_is_fitted_on_test_units(tables, model):
    def evaluate(bench):
        return evaluate_without_networks(bench, 1, ["svm"], shuffled=False)[model]

    for bench in (Benchmark.from_table("hull", tables["hull"]), transfer_benchmark(tables, "lisberger", "hull", 10)):
        other, fold = change_all_but_first(bench, 0)
        np.testing.assert_allclose(evaluate(other)[0, fold][0], evaluate(bench)[0, fold][0], atol=1e-6)
        assert np.abs(evaluate(other)[0, fold][1:] - evaluate(bench)[0, fold][1:]).max() > 0.05


def test_a_transfer_uses_shared_classes_trains_on_one_set_and_tests_on_the_other(tables):
    label = np.where(tables["hull"].label == "sparse", "PkC_cs", tables["hull"].label)
    hull = replace(tables["hull"], about={**tables["hull"].about, "label": label})
    bench = transfer_benchmark({**tables, "hull": hull}, "lisberger", "hull", 10)
    train, test = bench.split(0)
    assert set(bench.table.about["dataset"][train]) == {"lisberger"} and bench.folds == [0]
    assert set(bench.table.about["dataset"][test]) == {"hull"}
    assert "sparse" not in bench.classes and "PkC_cs" not in bench.classes and len(bench.classes) == 4
    only = replace(hull, about={**hull.about, "label": np.full(len(hull), "PkC_cs")})
    with pytest.raises(ValueError, match="share 0 classes"):
        transfer_benchmark({**tables, "hull": only}, "lisberger", "hull", 10)
