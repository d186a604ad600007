"""The experiments hippie_probe and hippie_transfer on simulated units: no test unit is trained on, and scores equal stored predictions."""

import csv
import sys

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from experiments import hippie_probe, hippie_transfer
from experiments.command_line import main
from jaxephys.hippie import benchmark, probes
from jaxephys.hippie.benchmark import (
    KERNEL_CLASSIFIER,
    SHUFFLED,
    baseline_features,
)
from jaxephys.hippie.embedding_grid import EmbeddingGrid
from jaxephys.hippie.probes import BASELINES, PUBLISHED_LINEAR
from jaxephys.hippie.report import METRIC
from jaxephys.reporting.score_table import read_scores
from tests.experiments.command import only_run
from tests.hippie.example_tables import SETS, write_tables


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "hippie"
    write_tables(folder, SETS)
    lines = [("hippie-fullcond", "hull", fold, 0.9 + 0.02 * fold, 0) for fold in range(5)]
    lines += [("shuffle", "hull", 0, 0.25, 0)]
    with open(folder / "published_scores.csv", "w", newline="") as file:
        csv.writer(file).writerows([("method", "dataset", "fold", "balanced_accuracy", "macro_f1"), *lines])
    return folder


def run_experiment(module, monkeypatch, folder, *arguments):
    """Run an experiment in this process, with small forests and, instead of embeddings, subsampled curves."""

    def embedded(grid, folder):
        subsampled = baseline_features(grid.benchmark.table)[:, ::25]
        return {name: lambda seed, fold: subsampled for name in (*grid.settings.objectives, SHUFFLED)}

    monkeypatch.setattr(EmbeddingGrid, "train", embedded)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    monkeypatch.setattr(probes, "TREES", 20)
    monkeypatch.setattr(benchmark, "SHUFFLES", 6)
    main(module.__name__, module.__doc__, module.PRESETS, module.run)
    return only_run(folder)


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
    assert (folder / "figures" / "rankings.png").exists() and (folder / "manifest.json").exists()


def test_the_report_of_the_published_preset_names_network_and_protocol(data, tmp_path, monkeypatch):
    options = ("--data", str(data), "--datasets", "hull", "--seeds", "1", "--no-umap")
    folder = run_experiment(hippie_probe, monkeypatch, tmp_path, "published", *options)
    scores = read_scores(folder / "scores.csv")
    assert {"knn on published embedding", f"{PUBLISHED_LINEAR} on published embedding", *BASELINES} <= {
        score.variant for score in scores
    }
    report = (folder / "report.md").read_text()
    assert "The model knn on published embedding has" in report and "The published value is 0.940" in report
    network = "ResNet-18 of width 64, latent 10 per modality"
    assert f"## hull ({network})" in report and f"on each data set ({network})]" in report
    assert "trained on the curves of test units, without their labels, as in the published protocol" in report


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
