"""The experiments hippie_probe and hippie_transfer on simulated units: no test unit is trained on, and scores equal stored predictions."""

import csv
import sys
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from data_prep.units.registry import annotate_units, find_dataset, held_out
from data_prep.units.simulate import simulate_units
from experiments import hippie_probe, hippie_transfer
from experiments.command_line import main
from jaxephys.engine.fit import FitResult
from jaxephys.evaluation.intervals import corrected_interval, corrected_test
from jaxephys.evaluation.scores import Score
from jaxephys.hippie import benchmark
from jaxephys.hippie.benchmark import (
    BASELINES,
    KERNEL_CLASSIFIER,
    SHUFFLED,
    Benchmark,
    baseline_features,
    evaluate_baseline,
    evaluate_kernel_classifier,
    read_tables,
    transfer_benchmark,
)
from jaxephys.hippie.embedding_grid import OBJECTIVES, EmbeddingGrid, EmbeddingSettings
from jaxephys.hippie.pretraining import pretraining_tables
from jaxephys.hippie.report.ranking import ACCURACY, INTERVAL, METRIC, ranking_table
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import read_scores
from jaxephys.schemas.unit_table import UnitTable
from tests.experiments.command import only_run

SETS = {"lisberger": 110, "hull": 90, "hull_counts": 90, "watson": 60}  # the second and the third are the same units
REGISTRY = (find_dataset, held_out)
SMALL = EmbeddingSettings(width=4, latent=4, seeds=2, pretraining=1, epochs=1, contrast=10.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "hippie"
    for seed, (name, units) in enumerate(SETS.items()):
        made = simulate_units(units, 6, seed=1 if name.startswith("hull") else seed)
        copied = annotate_units(made, find_dataset("watson" if name == "watson" else name))
        about = {**copied.about, "dataset": np.full(units, name)}
        replace(copied, about=about).write(folder / name)
    lines = [("hippie-fullcond", "hull", fold, 0.9 + 0.02 * fold, 0) for fold in range(5)]
    lines += [("shuffle", "hull", 0, 0.25, 0)]
    with open(folder / "published_scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([("method", "dataset", "fold", "balanced_accuracy", "macro_f1"), *lines])
    return folder


@pytest.fixture(scope="module")
def tables(data):
    return read_tables(data, find_dataset)


class Untrained(FitResult):
    """The result of a training that ended at its initial weights."""

    best = None

    def __init__(self, grid, best):
        self.grid, self.best = grid, best


class NoTraining(RunFolder):
    """A run folder whose fits return initial weights and that stores their arguments."""

    def __init__(self):
        self.fits = {}

    def fit(self, task, data, inputs, grid, config, name="", initial=None):
        best = jax.jit(jax.vmap(task.init))(jax.vmap(jax.random.key)(grid.seeds))
        self.fits[name] = (inputs, grid, initial, best)
        return Untrained(grid, best)


def run_experiment(module, monkeypatch, folder, *arguments):
    """Run an experiment in this process, with small forests and, instead of embeddings, subsampled curves."""

    def embedded(grid, folder):
        subsampled = baseline_features(grid.benchmark.table)[:, ::25]
        return {name: lambda seed, fold: subsampled for name in (*OBJECTIVES, SHUFFLED)}

    monkeypatch.setattr(EmbeddingGrid, "train", embedded)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    monkeypatch.setattr(benchmark, "TREES", 20)
    monkeypatch.setattr(benchmark, "SHUFFLES", 6)
    main(module.__name__, module.__doc__, module.PRESETS, module.run)
    return only_run(folder)


# Training units.


def test_copies_of_a_data_set_are_excluded_from_pretraining(tables):
    def others(bench):
        named = [set(table.about["dataset"]) for table in pretraining_tables(bench, tables, *REGISTRY)]
        return [names for names in named if names != set(bench.datasets[:1])]  # except units outside the folds

    hull = Benchmark.from_table("hull", tables["hull"])
    assert others(hull) == [{"lisberger"}, {"watson"}], "hull_counts has the units of hull"
    assert others(Benchmark.from_table("watson", tables["watson"])) == [{"hull"}, {"lisberger"}], "one copy of two"
    assert others(transfer_benchmark(tables, "lisberger", "hull_counts", 10)) == [{"watson"}]
    with pytest.raises(ValueError, match="no data set 'lisbon'"):
        pretraining_tables(hull, {**tables, "lisbon": tables["watson"]}, *REGISTRY)


def test_no_network_uses_a_test_unit_or_its_label(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"])
    grid = EmbeddingGrid(bench, tables, SMALL, *REGISTRY)
    assert len(grid.fold_grid) == (len(OBJECTIVES) * SMALL.seeds + 1) * 5 and grid.n_runs == len(grid.fold_grid) + 4
    assert grid.pretraining_rows.min() >= len(bench.table), "pretraining uses no unit of the benchmark"
    for run in grid.fold_grid:
        split, test = grid.split(run["fold"], run["seed"]), bench.split(run["fold"])[1]
        both = np.concatenate([split.train, split.validation])
        assert not np.isin(test, both).any() and set(both) | set(test) == set(range(len(bench.table)))
        assert len(np.unique(bench.codes[split.train])) == len(bench.classes)


def test_networks_start_from_those_of_their_objective_and_seed_and_are_used_for_their_fold(tables):
    bench, folder = Benchmark.from_table("hull", tables["hull"]), NoTraining()
    grid = EmbeddingGrid(bench, tables, SMALL, *REGISTRY)
    embeddings: Any = grid.train(folder)
    first, grid_, _, best = folder.fits["hull_pretrain"]
    assert (np.asarray(first.constants.label) == -1).all(), "pretraining uses no label"
    inputs, second, initial, _ = folder.fits["hull_folds"]
    kernel = ("params", "z_mean", "kernel")
    for index, run in enumerate(second):
        label, test = inputs.constants.label[index], bench.split(run["fold"])[1]
        assert (label[test] == -1).all() and not np.isin(test, inputs.train.index[index]).any()
        expected = bench.shuffled_codes(run["seed"]) if run["objective"] == SHUFFLED else bench.codes
        known = np.flatnonzero(label >= 0)
        np.testing.assert_array_equal(label[known], expected[known])
        objective = "ours" if run["objective"] == SHUFFLED else run["objective"]
        (before,) = grid_.where(objective=objective, seed=run["seed"])
        np.testing.assert_array_equal(leaf(initial, kernel)[index], leaf(best, kernel)[before])
        assert bool(inputs.constants.objective.likelihood[index]) == (objective == "ours")
    assert "steps" not in initial["tally"]
    embedding = embeddings["ours"](1, 0)
    assert embedding.shape == (len(bench.table), SMALL.latent)
    np.testing.assert_allclose(
        embedding, embeddings["ours"](1, 1), atol=1e-6
    )  # untrained, they differ only by the seed
    assert np.abs(embedding - embeddings["ours"](0, 0)).max() > 1e-4


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)


def test_unlabelled_units_are_used_in_pretraining(tables):
    table = tables["watson"]
    label = table.label.copy()
    label[:7] = ""
    partly = replace(table, about={**table.about, "label": label})
    bench = Benchmark.from_table("watson", partly)
    unlabelled = pretraining_tables(bench, {**tables, "watson": partly}, *REGISTRY)[0]
    assert set(table.unit[:7]) <= set(unlabelled.unit) and not np.isin(unlabelled.unit, bench.table.unit).any()
    assert len(unlabelled) + len(bench.table) == len(table)


# Folds, labels, ranking.


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


def test_ranking_intervals_are_based_on_one_value_per_fold(tables):
    bench = Benchmark.from_table("lisberger", tables["lisberger"])
    values = {"svm": np.array([[0.6, 0.7, 0.5, 0.65, 0.55]]), "ours": np.array([[0.7, 0.8, 0.6, 0.8, 0.7], [0.9] * 5])}
    scores = [
        Score("e", model, "lisberger", "lisberger", seed, fold, "test", METRIC, float(value), 22)
        for model, of_run in values.items()
        for (seed, fold), value in np.ndenumerate(of_run)
    ]
    table = ranking_table(scores, bench, "svm", {"HIPPIE": "0.678 ± 0.030"})
    sizes = (len(bench.table) * 0.8, len(bench.table) * 0.2)
    interval = corrected_interval(values["ours"].mean(axis=0), *sizes)
    test = corrected_test(values["ours"].mean(axis=0), values["svm"][0], *sizes)
    cells = {name: [cell.text for cell in column] for name, column in table.columns.items()}
    assert cells["model"] == ["svm", "ours", "HIPPIE, published"]
    assert cells[ACCURACY] == ["0.600", f"0.810 ± {np.std([0.72, 0.9], ddof=1):.3f}", "-"]
    assert cells[INTERVAL][1] == f"[{interval.low:.3f}, {interval.high:.3f}]"
    assert cells[f"difference from svm, {INTERVAL}"][:2] == ["reference", f"+0.210 [{test.low:+.3f}, {test.high:+.3f}]"]
    assert cells["published"] == ["-", "-", "0.678 ± 0.030"]


def change_all_but_first(bench: Benchmark, fold: int) -> tuple[Benchmark, int]:
    """Change all test units of a fold except the first."""
    test = bench.split(fold)[1]
    raw = {name: rows.copy() for name, rows in bench.table.raw.items()}
    for rows in raw.values():
        rows[test[1:]] = np.abs(rows[test[1:]][:, ::-1]) ** 2 + np.arange(rows.shape[1])
    return replace(bench, table=UnitTable(raw, bench.table.unit, bench.table.about)), fold


@pytest.mark.parametrize("evaluate", [evaluate_kernel_classifier, lambda bench: evaluate_baseline(bench, "svm", 1)])
def test_nothing_is_fitted_on_test_units(tables, evaluate):
    for bench in (Benchmark.from_table("hull", tables["hull"]), transfer_benchmark(tables, "lisberger", "hull", 10)):
        other, fold = change_all_but_first(bench, 0)
        np.testing.assert_allclose(evaluate(other)[0, fold][0], evaluate(bench)[0, fold][0], atol=1e-6)
        assert np.abs(evaluate(other)[0, fold][1:] - evaluate(bench)[0, fold][1:]).max() > 0.05


# The transfer.


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


# The commands.


def check_predictions(folder, scores, name):
    """Check that every score is that of the stored probabilities."""
    with np.load(folder / "predictions.npz") as file:
        stored = {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}
    selected = [score for score in scores if score.test_on == name and score.metric == METRIC]
    models = stored["arm"].tolist()
    assert {score.variant for score in selected} == set(models)
    for score in selected:
        rows = np.flatnonzero(stored["fold"] == score.fold)
        predicted = stored["probability"][models.index(score.variant), score.seed, rows].argmax(axis=1)
        assert score.value == pytest.approx(balanced_accuracy_score(stored["label"][rows], predicted), abs=1e-6)


def test_the_benchmark_runs_and_reports_all_models(data, tmp_path, monkeypatch):
    folder = run_experiment(hippie_probe, monkeypatch, tmp_path, "smoke", "--data", str(data), "--datasets", "hull")
    scores = read_scores(folder / "scores.csv")
    models = {score.variant for score in scores if score.test_on == "hull"}
    ours = {KERNEL_CLASSIFIER, f"{KERNEL_CLASSIFIER}, {SHUFFLED}", f"{KERNEL_CLASSIFIER} + embedding"}
    assert {*ours, "knn on our embedding", "knn on published embedding", *BASELINES} <= models
    check_predictions(folder, scores, "hull")

    def mean(model):
        return np.mean([s.value for s in scores if (s.variant, s.test_on, s.metric) == (model, "hull", METRIC)])

    assert mean(KERNEL_CLASSIFIER) > 0.6 > 0.45 > mean(f"{KERNEL_CLASSIFIER}, {SHUFFLED}")
    report = (folder / "report.md").read_text()
    assert "HIPPIE, published" in report and "0.940 ± 0.032" in report and "folds by subject" in report
    assert (folder / "figures" / "bars_hull.png").exists() and (folder / "manifest.json").exists()


def test_a_misspelt_data_set_is_named(data, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_experiment(hippie_probe, monkeypatch, tmp_path, "smoke", "--data", str(data), "--datasets", "hul")
    assert "has no data set 'hul'" in capsys.readouterr().err


def test_the_transfer_runs_both_ways(data, tmp_path, monkeypatch):
    folder = run_experiment(hippie_transfer, monkeypatch, tmp_path, "smoke", "--data", str(data))
    scores = read_scores(folder / "scores.csv")
    assert {score.test_on for score in scores} == {"lisberger to hull_counts", "hull_counts to lisberger"}
    assert {KERNEL_CLASSIFIER, f"{KERNEL_CLASSIFIER} + embedding", "svm, timing", "knn on our embedding"} <= {
        score.variant for score in scores
    }
    for name in ("lisberger to hull_counts", "hull_counts to lisberger"):
        check_predictions(folder, scores, name)
    assert "NEMO, target's units in pretraining, published" in (folder / "report.md").read_text()
