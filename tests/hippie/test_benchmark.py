"""The benchmark of units: folds, shuffled labels, transfers, and nothing is fitted on test units."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from data_prep.units.registry import find_dataset, held_out
from jaxephys.hippie.benchmark import (
    KERNEL_CLASSIFIER,
    SHUFFLED,
    Benchmark,
    baseline_features,
    evaluate_embeddings,
    evaluate_without_networks,
    transfer_benchmark,
)
from jaxephys.hippie.probes import GENERATIVE_LINEAR, PUBLISHED_LINEAR, make_probe
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


def test_units_of_pretraining_depend_on_the_protocol(tables):
    table = tables["watson"]
    label = table.label.copy()
    label[:7] = ""
    tables = {**tables, "watson": replace(table, about={**table.about, "label": label})}
    bench = Benchmark.from_table("watson", tables["watson"])

    def others(pretrain_on):
        found = bench.pretraining_tables(tables, *REGISTRY, pretrain_on)
        return [(table.about["dataset"][0], len(table)) for table in found]

    unrelated = [(name, count) for name, count in others("unrelated")]
    assert {name for name, _ in unrelated} == {"hull", "lisberger"}
    outside = ("watson", len(table) - len(bench.table))  # the others are in the table of the benchmark
    assert others("same") == [outside] and outside[1] >= 7
    assert others("others") == others("all") == [outside, *unrelated]


def test_published_folds_have_seed_42_and_classes_of_ten():
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b", "c", ""], [30, 20, 9, 4])
    raw = {name: rng.random(size=(63, 20)).astype(np.float32) for name in ("wave", "isi", "acg")}
    table = UnitTable(raw, np.arange(63).astype(str), {"label": label})
    published = Benchmark.from_table("units", table, fold_seed=42, min_units=10)
    assert published.classes == ["a", "b"] and len(published.table) == 50
    folds = StratifiedKFold(5, shuffle=True, random_state=42).split(published.codes, published.codes)
    for fold, (train, test) in enumerate(folds):
        np.testing.assert_array_equal(published.split(fold)[0], train)
        np.testing.assert_array_equal(published.split(fold)[1], test)
    assert Benchmark.from_table("units", table).classes == ["a", "b", "c"]
    with pytest.raises(ValueError, match="fewer than two classes have 25 units"):
        Benchmark.from_table("units", table, min_units=25)


def test_a_large_data_set_is_drawn_in_proportion_to_its_classes(tables):
    whole = Benchmark.from_table("lisberger", tables["lisberger"])
    drawn = Benchmark.from_table("lisberger", tables["lisberger"], max_units=60)
    assert len(drawn.table) == 60 and set(drawn.table.unit) < set(whole.table.unit)
    before, after = (np.bincount(bench.codes) / len(bench.table) for bench in (whole, drawn))
    np.testing.assert_allclose(after, before, atol=0.05)
    index = np.flatnonzero(np.isin(whole.table.unit, drawn.table.unit))
    np.testing.assert_array_equal(drawn.fold, whole.fold[index])


def test_embeddings_of_the_published_objective_alone_have_the_published_probes(tables):
    bench = Benchmark.from_table("hull", tables["hull"])
    curves = baseline_features(bench.table)[:, ::25]
    embeddings: Any = dict.fromkeys(("published", SHUFFLED), lambda seed, fold: curves)
    models = evaluate_embeddings(bench, embeddings, 1)
    assert set(models) == {
        "knn on published embedding",
        "linear on published embedding",
        f"{PUBLISHED_LINEAR} on published embedding",
        "mlp on published embedding",
        f"{KERNEL_CLASSIFIER} + published embedding",
        f"knn on published embedding, {SHUFFLED}",
    }


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


def test_published_logistic_regressions():
    steps: Any = [make_probe(name)[-1] for name in (PUBLISHED_LINEAR, GENERATIVE_LINEAR)]
    published, generative = steps
    assert (published.solver, published.C, published.class_weight) == ("saga", 1.0, None)
    assert (generative.C, generative.class_weight) == (1.0, "balanced")
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(60, 4)) * [1, 1, 100, 1], np.arange(60) % 2
    rows[:, 1] += 3 * codes
    assert make_probe(PUBLISHED_LINEAR).fit(rows, codes).score(rows, codes) > 0.85
