"""The benchmark and the transfer of units, on simulated ones: no test unit is learnt from, and every number can be traced."""

import csv
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import jax
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from data_prep.units.registry import described, find
from data_prep.units.simulate import simulate_units
from data_prep.units.table import write_units
from experiments import hippie_probe, hippie_transfer
from experiments.hippie_transfer import across
from jaxephys.evaluation.intervals import corrected_interval, corrected_test
from jaxephys.hippie import benchmark
from jaxephys.hippie.benchmark import (
    HEAD,
    OPPONENTS,
    SHUFFLED,
    Benchmark,
    ask_head,
    ask_opponent,
    curves_of,
    read_tables,
)
from jaxephys.hippie.embedding_grid import OBJECTIVES, Grid, Networks, pool_of
from jaxephys.hippie.ranking import METRIC, standings
from jaxephys.reporting.run_folder import main
from jaxephys.reporting.score_table import Score, read_scores
from jaxephys.schemas.unit_table import UnitTable
from tests.experiments.command import only_run

SETS = {"lisberger": 110, "hull": 90, "hull_counts": 90, "watson": 60}  # the second and the third are the same units
SMALL = Networks("dense", width=4, latent=4, seeds=2, pretraining=1, epochs=1, contrast=10.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "hippie"
    for seed, (name, units) in enumerate(SETS.items()):
        made = simulate_units(units, 6, seed=1 if name.startswith("hull") else seed)
        copied = described(made, find("watson" if name == "watson" else name))
        about = {**copied.about, "dataset": [name] * units}
        write_units(replace(copied, about=about), folder / name)
    lines = [("hippie-fullcond", "hull", fold, 0.9 + 0.02 * fold, 0) for fold in range(5)]
    lines += [("shuffle", "hull", 0, 0.25, 0)]
    with open(folder / "published_scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([("method", "dataset", "fold", "balanced_accuracy", "macro_f1"), *lines])
    return folder


@pytest.fixture(scope="module")
def tables(data):
    return read_tables(data)


class NoTraining:
    """A run folder whose fits end at their initial weights, and that remembers what they were given."""

    def __init__(self):
        self.fits = {}

    def fit(self, name, task, data, runs, axis, plan, title, start=None):
        best = jax.jit(jax.vmap(task.init))(jax.vmap(jax.random.key)(axis.seeds))
        self.fits[name] = (runs, axis, start, best)
        return SimpleNamespace(best=best, grid=axis)

    def note_fit(self, result, name):
        pass


def started(module, monkeypatch, folder, *arguments):
    """An experiment in this process, as from the command line, with small forests and, for networks, rough curves."""

    def embedded(grid, folder):
        rough = curves_of(grid.bench.table)[:, ::25]
        return {name: lambda seed, fold: rough for name in (*OBJECTIVES, SHUFFLED)}

    monkeypatch.setattr(Grid, "train", embedded)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    monkeypatch.setattr(benchmark, "TREES", 20)
    monkeypatch.setattr(module, "SHUFFLES", 6)
    main(module.__name__, module.__doc__, module.PRESETS, module.run)
    return only_run(folder)


# Who is learnt from.


def test_a_data_set_drags_its_copies_out_of_the_pool(tables):
    def others(bench):
        named = [set(table.about["dataset"]) for table in pool_of(bench, tables)]
        return [names for names in named if names != set(bench.sets[:1])]  # its own units outside the folds

    hull = Benchmark.of("hull", tables["hull"])
    assert others(hull) == [{"lisberger"}, {"watson"}], "hull_counts holds the units of hull"
    assert others(Benchmark.of("watson", tables["watson"])) == [{"hull"}, {"lisberger"}], "one copy of two"
    assert others(across(tables, "lisberger", "hull_counts")) == [{"watson"}]
    with pytest.raises(ValueError, match="no data set 'lisbon'"):
        pool_of(hull, {**tables, "lisbon": tables["watson"]})


def test_no_network_trains_or_selects_on_a_test_unit_or_knows_its_label(tables):
    bench = Benchmark.of("lisberger", tables["lisberger"])
    grid = Grid(bench, tables, SMALL)
    assert len(grid.second) == (len(OBJECTIVES) * SMALL.seeds + 1) * 5 and grid.runs == len(grid.second) + 4
    assert grid.pool.min() >= len(bench.table), "pretraining sees no unit of the benchmark"
    for run in grid.second:
        split, test = grid._split(run["fold"], run["seed"]), bench.split(run["fold"])[1]
        both = np.concatenate([split.train, split.validation])
        assert not np.isin(test, both).any() and set(both) | set(test) == set(range(len(bench.table)))
        assert len(np.unique(bench.codes[split.train])) == len(bench.classes)


def test_networks_go_on_from_those_of_their_own_objective_and_seed_and_answer_for_their_own_fold(tables):
    bench, folder = Benchmark.of("hull", tables["hull"]), NoTraining()
    grid = Grid(bench, tables, SMALL)
    embedded: Any = grid.train(cast(Any, folder))
    first, axis, _, best = folder.fits["hull_pretrain"]
    assert (np.asarray(first.constants.label) == -1).all(), "no label is known in pretraining"
    runs, second, start, _ = folder.fits["hull_folds"]
    kernel = ("params", "z_mean", "kernel")
    for place, run in enumerate(second):
        label, test = runs.constants.label[place], bench.split(run["fold"])[1]
        assert (label[test] == -1).all() and not np.isin(test, runs.train.index[place]).any()
        meant = bench.shuffled(run["seed"]) if run["objective"] == SHUFFLED else bench.codes
        known = np.flatnonzero(label >= 0)
        np.testing.assert_array_equal(label[known], meant[known])
        own = "ours" if run["objective"] == SHUFFLED else run["objective"]
        (before,) = axis.where(objective=own, seed=run["seed"])
        np.testing.assert_array_equal(leaf(start, kernel)[place], leaf(best, kernel)[before])
        assert bool(runs.constants.switches.likelihood[place]) == (own == "ours")
    assert "steps" not in start["tally"]
    said = embedded["ours"](1, 0)
    assert said.shape == (len(bench.table), SMALL.latent)
    np.testing.assert_allclose(said, embedded["ours"](1, 1), atol=1e-6)  # untrained, they differ by the seed alone
    assert np.abs(said - embedded["ours"](0, 0)).max() > 1e-4


def leaf(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)


def test_units_outside_the_folds_help_to_pretrain_and_are_no_others(tables):
    table = tables["watson"]
    label = table.label.copy()
    label[:7] = ""
    partly = replace(table, about={**table.about, "label": label})
    bench = Benchmark.of("watson", partly)
    own = pool_of(bench, {**tables, "watson": partly})[0]
    assert set(table.unit[:7]) <= set(own.unit) and not np.isin(own.unit, bench.table.unit).any()
    assert len(own) + len(bench.table) == len(table)


# Folds, labels, standings.


def test_folds_by_subject_cut_no_subject(tables):
    bench = Benchmark.of("lisberger", tables["lisberger"]).grouped("subject")
    assert bench is not None and bench.name == "lisberger, folds by subject"
    subject = bench.table.about["subject"]
    assert all(len(set(bench.fold[subject == name])) == 1 for name in np.unique(subject))
    few = np.where(subject == subject[0], "left", "right")
    table = replace(bench.table, about={**bench.table.about, "subject": few})
    assert Benchmark.of("lisberger", table).grouped("subject") is None, "two subjects make no five folds"
    assert Benchmark.of("lisberger", table).grouped("species") is None


def test_shuffled_labels_are_those_of_the_same_fold_and_mean_nothing(tables):
    bench = Benchmark.of("lisberger", tables["lisberger"])
    shuffled = bench.shuffled(0)
    for fold in bench.folds:
        rows = bench.split(fold)[1]
        np.testing.assert_array_equal(np.bincount(shuffled[rows]), np.bincount(bench.codes[rows]))
    assert (shuffled == bench.codes).mean() < 0.5 and (shuffled != bench.shuffled(1)).any()


def test_standings_rest_on_as_many_numbers_as_there_are_folds(tables):
    bench = Benchmark.of("lisberger", tables["lisberger"])
    values = {"svm": np.array([[0.6, 0.7, 0.5, 0.65, 0.55]]), "ours": np.array([[0.7, 0.8, 0.6, 0.8, 0.7], [0.9] * 5])}
    scores = [
        Score("e", arm, "lisberger", "lisberger", seed, fold, "test", METRIC, float(value), 22)
        for arm, own in values.items()
        for (seed, fold), value in np.ndenumerate(own)
    ]
    table = standings(scores, bench, "svm", {"HIPPIE": "0.678 ± 0.030"})
    sizes = (len(bench.table) * 0.8, len(bench.table) * 0.2)
    interval = corrected_interval(values["ours"].mean(axis=0), *sizes)
    test = corrected_test(values["ours"].mean(axis=0), values["svm"][0], *sizes)
    cells = {name: [cell.text for cell in column] for name, column in table.columns.items()}
    assert cells["arm"] == ["svm", "ours", "HIPPIE, published"]
    assert cells[METRIC] == ["0.600", f"0.810 ± {np.std([0.72, 0.9], ddof=1):.3f}", "-"]
    assert cells["[95%]"][1] == f"[{interval.low:.3f}, {interval.high:.3f}]"
    assert cells["minus svm [95%]"][:2] == ["reference", f"+0.210 [{test.low:+.3f}, {test.high:+.3f}]"]
    assert cells["published"] == ["-", "-", "0.678 ± 0.030"]


def changed_but_first(bench: Benchmark, fold: int) -> tuple[Benchmark, int]:
    """All test units but the first of a fold made into something else."""
    test = bench.split(fold)[1]
    raw = {name: rows.copy() for name, rows in bench.table.raw.items()}
    for rows in raw.values():
        rows[test[1:]] = np.abs(rows[test[1:]][:, ::-1]) ** 2 + np.arange(rows.shape[1])
    return replace(bench, table=UnitTable(raw, bench.table.unit, bench.table.about)), fold


@pytest.mark.parametrize("ask", [ask_head, lambda bench: ask_opponent(bench, "svm", 1)])
def test_nothing_is_fitted_on_test_units(tables, ask):
    for bench in (Benchmark.of("hull", tables["hull"]), across(tables, "lisberger", "hull")):
        other, fold = changed_but_first(bench, 0)
        np.testing.assert_allclose(ask(other)[0, fold][0], ask(bench)[0, fold][0], atol=1e-6)
        assert np.abs(ask(other)[0, fold][1:] - ask(bench)[0, fold][1:]).max() > 0.05


# The transfer.


def test_a_transfer_is_of_shared_classes_trains_on_one_set_and_tests_on_the_other(tables):
    label = np.where(tables["hull"].label == "sparse", "PkC_cs", tables["hull"].label)
    hull = replace(tables["hull"], about={**tables["hull"].about, "label": label})
    bench = across({**tables, "hull": hull}, "lisberger", "hull")
    train, test = bench.split(0)
    assert set(bench.table.about["dataset"][train]) == {"lisberger"} and bench.folds == [0]
    assert set(bench.table.about["dataset"][test]) == {"hull"}
    assert "sparse" not in bench.classes and "PkC_cs" not in bench.classes and len(bench.classes) == 4
    only = replace(hull, about={**hull.about, "label": np.full(len(hull), "PkC_cs")})
    with pytest.raises(ValueError, match="share 0 classes"):
        across({**tables, "hull": only}, "lisberger", "hull")


# The commands.


def check_predictions(folder, scores, name):
    """Every score of an arm is that of what it said."""
    with np.load(folder / "predictions.npz") as file:
        said = {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}
    own = [score for score in scores if score.test_on == name and score.metric == METRIC]
    assert {score.variant for score in own} == set(said["arm"].tolist())
    for score in own:
        rows = np.flatnonzero(said["fold"] == score.fold)
        answer = said["probability"][said["arm"].tolist().index(score.variant), score.seed, rows].argmax(axis=1)
        assert score.value == pytest.approx(balanced_accuracy_score(said["label"][rows], answer), abs=1e-6)


def test_the_benchmark_runs_and_says_what_it_compares(data, tmp_path, monkeypatch):
    folder = started(hippie_probe, monkeypatch, tmp_path, "smoke", "--data", str(data), "--datasets", "hull")
    scores = read_scores(folder / "scores.csv")
    arms = {score.variant for score in scores if score.test_on == "hull"}
    assert {HEAD, f"{HEAD}, {SHUFFLED}", f"{HEAD} + ours", "knn on ours", "knn on published", *OPPONENTS} <= arms
    check_predictions(folder, scores, "hull")

    def mean(arm):
        return np.mean([s.value for s in scores if (s.variant, s.test_on, s.metric) == (arm, "hull", METRIC)])

    assert mean(HEAD) > 0.6 > 0.45 > mean(f"{HEAD}, {SHUFFLED}")
    report = (folder / "report.md").read_text()
    assert "HIPPIE, published" in report and "0.940 ± 0.032" in report and "folds by subject" in report
    assert (folder / "figures" / "bars_hull.png").exists() and (folder / "manifest.json").exists()


def test_a_misspelt_data_set_is_named(data, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        started(hippie_probe, monkeypatch, tmp_path, "smoke", "--data", str(data), "--datasets", "hul")
    assert "holds no data set 'hul'" in capsys.readouterr().err


def test_the_transfer_runs_both_ways(data, tmp_path, monkeypatch):
    folder = started(hippie_transfer, monkeypatch, tmp_path, "smoke", "--data", str(data))
    scores = read_scores(folder / "scores.csv")
    assert {score.test_on for score in scores} == {"lisberger to hull_counts", "hull_counts to lisberger"}
    assert {HEAD, f"{HEAD} + ours", "svm, timing", "knn on ours"} <= {score.variant for score in scores}
    for name in ("lisberger to hull_counts", "hull_counts to lisberger"):
        check_predictions(folder, scores, name)
    assert "NEMO, target's units in pretraining, published" in (folder / "report.md").read_text()
