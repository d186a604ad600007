"""Experiments that train networks, on simulated units: held-out units are not used, and scores can be recomputed."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import KFold

import jaxephys
from data_prep.units.registry import find_dataset
from experiments import (
    hippie_ablation,
    hippie_embed,
    hippie_impute,
    hippie_pretrain,
    hippie_probe,
    hippie_transfer,
)
from experiments.command_line import main
from jaxephys.hippie import benchmark, probes
from jaxephys.hippie.datasets import read_tables
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.imputation_benchmark import BASELINES
from jaxephys.hippie.preprocessing import prepare
from jaxephys.hippie.protocol import DENSE
from jaxephys.hippie.task import ABLATION
from jaxephys.reporting.score_table import read_scores
from jaxephys.reporting.settings import settings_from_json
from jaxephys.schemas.unit_table import UnitTable
from tests.experiments.command import only_run
from tests.hippie.example_tables import write_tables

SETS = {"lisberger": 60, "hull": 50, "hull_counts": 50, "watson": 60}  # the second and the third are the same units


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "hippie"
    write_tables(folder, SETS)
    return folder


def run_experiment(module, monkeypatch, folder, *arguments, preset="smoke"):
    """Run an experiment in this process, as from the command line."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [module.__name__, preset, *map(str, arguments)])
    main(module.__name__, module.__doc__, module.PRESETS, module.run)
    return only_run(folder)


def select(scores, **columns):
    return [score for score in scores if all(getattr(score, name) == value for name, value in columns.items())]


# Presets.

EXPERIMENTS = (hippie_ablation, hippie_impute, hippie_pretrain, hippie_probe, hippie_transfer)


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_the_default_and_the_published_preset_have_the_published_network(module):
    for name in ("default", "published"):
        settings = module.PRESETS[name]
        assert (settings.trunk, settings.width, settings.seeds) == ("resnet", 64, 10), name
    assert module.PRESETS["default"].latent_size(2) == 20 and module.PRESETS["default"].latent_size(3) == 30
    dense = module.PRESETS["dense"]
    assert (dense.trunk, dense.width, dense.latent) == ("dense", 16, 30)
    assert (
        replace(dense, **{name: getattr(module.PRESETS["default"], name) for name in DENSE})
        == module.PRESETS["default"]
    )
    assert module.PRESETS["smoke"].trunk == "dense" and module.PRESETS["smoke"].seeds == 1
    assert next(iter(module.PRESETS)) == "default"


@pytest.mark.parametrize("module", [hippie_probe, hippie_transfer])
def test_the_published_preset_has_the_published_stages(module):
    settings = module.PRESETS["published"]
    assert settings.objectives == ("published",)
    assert (settings.pretraining, settings.fine_tuning, settings.max_epochs) == (100, 20, 10)
    assert (settings.learning_rate, settings.fine_tuning_rate, settings.weight_decay) == (1e-3, 0.1, 0.01)
    assert (settings.patience, settings.min_delta, settings.validation) == (5, 1e-4, 0.1)
    assert settings.redraw_classes and settings.noisy_validation and not settings.supervised_augmentation
    assert (settings.missing, settings.intervals, settings.even_batches) == ("constant", "stored", False)
    assert settings.batch_size == (128 if module is hippie_probe else 64)
    assert settings.transductive == (module is hippie_probe) and settings.uses_test_curves
    assert not module.PRESETS["default"].uses_test_curves and not module.PRESETS["dense"].uses_test_curves


def test_the_published_sweep_and_the_generative_model_are_presets():
    sweep = hippie_ablation.PRESETS["published"]
    objectives = hippie_ablation.objectives_of(sweep)
    assert len(objectives) == 42 and not any(objective.likelihood for objective in objectives.values())
    assert sorted({objective.latent for objective in objectives.values()}) == [3, 9, 15, 30, 45, 60]
    assert sorted({objective.beta for objective in objectives.values()}) == [0.1, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0]
    for settings in (hippie_impute.PRESETS["published"], hippie_probe.PRESETS["generative"]):
        assert (settings.latent, settings.batch_size, settings.weight_decay) == (16, 256, 1e-4)
    assert hippie_probe.PRESETS["generative"].pretraining == hippie_impute.PRESETS["published"].max_epochs == 80
    assert hippie_impute.PRESETS["published"].objective == "generative"
    assert hippie_pretrain.PRESETS["all"].held_out is None


@pytest.mark.slow
def test_the_three_published_stages_train_and_are_probed(data, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "TREES", 20)
    monkeypatch.setattr(benchmark, "SHUFFLES", 2)
    small = ("--trunk", "dense", "--width", 4, "--latent", 4, "--seeds", 1, "--no-umap")
    epochs = ("--pretraining", 3, "--fine-tuning", 2, "--max-epochs", 2)
    options = ("--data", data, "--datasets", "hull", *small, *epochs)
    run = run_experiment(hippie_probe, monkeypatch, tmp_path, *options, preset="published")
    lines = {
        stage: (run / f"runs_hull_{stage}.csv").read_text().splitlines() for stage in ("pretrain", "fine_tune", "folds")
    }
    assert [len(rows) - 1 for rows in lines.values()] == [1, 1, 5 + 5], "five folds, with true and with shuffled labels"
    found = select(read_scores(run / "scores.csv"), variant="knn on published embedding", metric="balanced_accuracy")
    assert len(found) == 5 and all(0 <= score.value <= 1 for score in found)


# Imputation.


@pytest.mark.slow
def test_the_published_imputation_is_scored_on_the_units_trained_on_as_well(data, tmp_path, monkeypatch):
    small = ("--trunk", "dense", "--width", 4, "--latent", 4, "--seeds", 1, "--max-epochs", 2)
    options = ("--data", data / "watson", *small)
    run = run_experiment(hippie_impute, monkeypatch, tmp_path, *options, preset="published")
    scores = select(read_scores(run / "scores.csv"), split="train")
    assert {score.variant for score in scores} == {"network", "mean"} and len(scores) == 2 * 3 * 5
    assert all(score.n == 48 - 5 for score in scores)
    report = (run / "report.md").read_text()
    assert "units that the networks were trained on" in report and "(dense network of width 4, latent 4)" in report


@pytest.fixture(scope="module")
def imputed(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield run_experiment(hippie_impute, patch, tmp_path_factory.mktemp("impute"), "--data", data / "watson")


@pytest.mark.slow
def test_every_model_predicts_every_curve_of_every_fold(imputed):
    scores = read_scores(imputed / "scores.csv")
    for modality in ("wave", "isi", "acg"):
        for model in (*BASELINES, "network", "ensemble", "blend"):
            found = select(scores, metric=f"mse_{modality}", variant=model)
            assert sorted(score.fold for score in found) == [0, 1, 2, 3, 4] and sum(score.n for score in found) == 60
        coverage = [score.value for score in select(scores, metric=f"coverage_{modality}")]
        assert len(coverage) == 10 and 0 <= min(coverage) <= max(coverage) <= 1
    assert "Explained variance of curves that the encoder received" in (imputed / "report.md").read_text()
    assert jaxephys.load(imputed / "model" / "watson").describe().startswith("1 network of")


@pytest.mark.slow
def test_the_error_of_the_mean_is_that_of_training_units(imputed, data):
    units = UnitTable.read(data / "watson")
    curves = prepare(units.raw).curves["isi"]
    ours = [row.value for row in select(read_scores(imputed / "scores.csv"), metric="mse_isi", variant="mean")]
    for (rest, test), value in zip(KFold(5, shuffle=True, random_state=42).split(curves), ours, strict=True):
        assert value == pytest.approx(np.mean((curves[test] - curves[rest].mean(axis=0)) ** 2), rel=1e-4)


@pytest.mark.slow
def test_waveforms_under_another_technology_are_compared_with_the_truth(imputed):
    scores = select(read_scores(imputed / "scores.csv"), metric="mse_counterfactual")
    assert {score.variant for score in scores} == {"network", "unchanged", "mean of the technology"}
    assert {score.test_on for score in scores} == {"neuropixels", "silicon_probe", "juxtacellular"}
    assert all(0 < score.n < 12 for score in scores)


# Pretraining.


def test_pretraining_needs_an_unrelated_data_set(data, tmp_path, monkeypatch, capsys):
    for name in ("hull", "hull_counts"):
        (tmp_path / "two" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "two" / name).symlink_to(data / name)
    with pytest.raises(SystemExit, match="2"):
        run_experiment(hippie_pretrain, monkeypatch, tmp_path, "--data", tmp_path / "two", "--held-out", "hull")
    assert "no data set is left for pretraining without hull" in capsys.readouterr().err


@pytest.mark.slow
def test_pretrained_networks_are_fine_tuned_and_compared_with_others(data, tmp_path, monkeypatch):
    run = run_experiment(hippie_pretrain, monkeypatch, tmp_path, "--data", data, "--held-out", "hull")
    scores = read_scores(run / "scores.csv")
    for variant in hippie_pretrain.VARIANTS:
        assert len(select(scores, variant=variant, metric="r2_wave")) == 5
    model = jaxephys.load(run / "model")
    tables = read_tables(data, find_dataset)
    assert isinstance(model, Hippie) and not model.seen(tables["hull"]).any() and model.seen(tables["watson"]).all()


@pytest.mark.slow
def test_all_data_sets_are_pretrained_on_and_the_network_is_saved(data, tmp_path, monkeypatch):
    run = run_experiment(hippie_pretrain, monkeypatch, tmp_path, "--data", data, "--held-out", "None")
    scores = read_scores(run / "scores.csv")
    assert {score.split for score in scores} == {"validation"} and len(select(scores, metric="r2_wave")) == 1
    model, tables = jaxephys.load(run / "model"), read_tables(data, find_dataset)
    assert isinstance(model, Hippie) and all(model.seen(tables[name]).all() for name in ("lisberger", "hull", "watson"))
    assert "hull_counts" not in (run / "report.md").read_text(), "one copy of two"


# Embedding.


@pytest.mark.slow
def test_the_script_of_the_model_card_writes_all_units(data, tmp_path, monkeypatch):
    out = tmp_path / "embeddings.npz"
    run = run_experiment(hippie_embed, monkeypatch, tmp_path, "--datasets-root", data, "--output", out)
    with np.load(out) as file:
        made = dict(file)
    assert made["embeddings"].shape == (220, 6) and made["map"].shape == (220, 2) and made["cluster"].min() >= -1
    assert len(set(made["unit"])) == 220 and set(made["dataset"]) == set(SETS)
    assert (run / "figures" / "pca_by_cluster.png").exists() and (run / "pca_coords.npz").exists()
    again = tmp_path / "again"
    again.mkdir()
    options = ("--datasets-root", data, "--output", again / "e.npz", "--checkpoint", run / "model")
    run_experiment(hippie_embed, monkeypatch, again, *options)
    with np.load(again / "e.npz") as file:
        np.testing.assert_allclose(file["embeddings"], made["embeddings"], atol=1e-5)


# Ablation.


@pytest.mark.slow
def test_the_published_sweep_trains_settings_of_the_published_objective(data, tmp_path, monkeypatch):
    small = ("--trunk", "dense", "--width", 4, "--latent", 9, "--seeds", 1, "--max-epochs", 2, "--max-variants", 8)
    run = run_experiment(hippie_ablation, monkeypatch, tmp_path, "--data", data / "watson", *small, preset="published")
    found = {score.variant for score in select(read_scores(run / "scores.csv"), metric="balanced_accuracy")}
    assert len(found) == 8 and {"z 3, beta 0.1", "z 3, beta 4.0", "z 9, beta 0.1"} <= found


@pytest.mark.slow
def test_variants_are_one_fit_and_each_is_scored(data, tmp_path, monkeypatch):
    run = run_experiment(hippie_ablation, monkeypatch, tmp_path, "--data", data / "lisberger")
    scores = read_scores(run / "scores.csv")
    variants = list(ABLATION)[:3]
    for metric in ("r2_wave", "active", "balanced_accuracy", "kl"):
        assert {score.variant for score in select(scores, metric=metric)} == set(variants)
        assert len(select(scores, metric=metric)) == 15
    assert len((run / "runs_ablation.csv").read_text().splitlines()) == 16


def test_the_sweep_crosses_sizes_and_weights():
    objectives = hippie_ablation.objectives_of(hippie_ablation.Ablation(variants="sweep", latent=20))
    assert len(objectives) == 9
    assert objectives["z 5, beta 4.0"].latent == 5 and objectives["z 20, beta 0.25"].beta == 0.25


def test_settings_of_version_0_1_0_are_read():
    sizes = {"epochs": 3, "latent": 6, "seeds": 1, "trunk": "dense", "width": 4}
    saved = {"arms": "ladder", "data": "units", "most": 3, **sizes}
    settings = settings_from_json(hippie_ablation.PRESETS["default"], saved)
    assert settings == replace(hippie_ablation.PRESETS["smoke"], variants="ladder")
    assert hippie_ablation.objectives_of(settings) == ABLATION
    del sizes["seeds"]
    saved = {"datasets_root": "hippie", "output": None, "model": None, "umap": False, "least": 10, **sizes}
    assert settings_from_json(hippie_embed.PRESETS["default"], saved) == hippie_embed.PRESETS["smoke"]
    saved = {"data": "hippie", **sizes, "seeds": 1}
    assert settings_from_json(hippie_impute.PRESETS["default"], saved) == hippie_impute.PRESETS["smoke"]
