"""Experiments that train networks on units, on simulated ones: what is held out stays out, and every number can be traced."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import KFold

import jaxephys
from data_prep.units.registry import described, find
from data_prep.units.simulate import simulate_units
from data_prep.units.table import write_units
from experiments import hippie_ablation, hippie_embed, hippie_impute, hippie_pretrain
from jaxephys.hippie.benchmark import read_tables
from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.grid import cut_folds
from jaxephys.hippie.preprocessing import prepare
from jaxephys.reporting.run_folder import main
from jaxephys.reporting.score_table import read_scores
from jaxephys.schemas.unit_table import UnitTable
from tests.experiments.command import only_run

SETS = {"lisberger": 60, "hull": 50, "hull_counts": 50, "watson": 60}  # the second and the third are the same units


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "hippie"
    for seed, (name, units) in enumerate(SETS.items()):
        made = simulate_units(units, 6, seed=1 if name.startswith("hull") else seed)
        copied = described(made, find("watson" if name == "watson" else name))
        write_units(replace(copied, about={**copied.about, "dataset": [name] * units}), folder / name)
    return folder


def started(module, monkeypatch, folder, *arguments):
    """An experiment in this process, as from the command line."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [module.__name__, "smoke", *map(str, arguments)])
    main(module.__name__, module.__doc__, module.PRESETS, module.run)
    return only_run(folder)


def of(scores, **told):
    return [score for score in scores if all(getattr(score, name) == value for name, value in told.items())]


# Imputation.


@pytest.fixture(scope="module")
def imputed(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield started(hippie_impute, patch, tmp_path_factory.mktemp("impute"), "--data", data / "watson")


@pytest.mark.slow
def test_everyone_draws_every_curve_of_every_fold(imputed):
    scores = read_scores(imputed / "scores.csv")
    for modality in ("wave", "isi", "acg"):
        for arm in (*hippie_impute.OPPONENTS, "network", "together", "blend"):
            own = of(scores, metric=f"mse_{modality}", variant=arm)
            assert sorted(score.fold for score in own) == [0, 1, 2, 3, 4] and sum(score.n for score in own) == 60
        within = [score.value for score in of(scores, metric=f"coverage_{modality}")]
        assert len(within) == 10 and 0 <= min(within) <= max(within) <= 1
    assert "variance explained where the curve was seen" in (imputed / "report.md").read_text()
    assert jaxephys.load(imputed / "model" / "watson").describe().startswith("1 network of")


@pytest.mark.slow
def test_the_mean_of_training_units_is_what_it_says(imputed, data):
    units = UnitTable.read(data / "watson")
    curves = prepare(units.raw).curves["isi"]
    ours = [row.value for row in of(read_scores(imputed / "scores.csv"), metric="mse_isi", variant="mean")]
    for (rest, test), value in zip(KFold(5, shuffle=True, random_state=42).split(curves), ours, strict=True):
        assert value == pytest.approx(np.mean((curves[test] - curves[rest].mean(axis=0)) ** 2), rel=1e-4)


@pytest.mark.slow
def test_waveforms_under_another_technology_are_held_against_the_truth(imputed):
    scores = of(read_scores(imputed / "scores.csv"), metric="mse_counterfactual")
    assert {score.variant for score in scores} == {"network", "as it was", "mean of the technology"}
    assert {score.test_on for score in scores} == {"neuropixels", "silicon_probe", "juxtacellular"}
    assert all(0 < score.n < 12 for score in scores)


def test_folds_are_apart_and_the_same_for_every_seed():
    splits = cut_folds(np.arange(7, 50), 2)
    tested = np.concatenate([splits[1, fold].test for fold in range(5)])
    np.testing.assert_array_equal(np.sort(tested), np.arange(7, 50))
    np.testing.assert_array_equal(splits[0, 3].test, splits[1, 3].test)
    assert not np.array_equal(splits[0, 3].validation, splits[1, 3].validation)


def test_a_blend_takes_what_is_right_on_validation_rows():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(120, 6))
    curves = given @ rng.normal(size=(6, 9))
    split = cut_folds(np.arange(120), 1)[0, 0]
    drawn = rng.normal(size=(1, len(split.validation), 9))
    weights = hippie_impute.blend_weights([split], drawn, given, curves)
    assert weights[1] == pytest.approx(1, abs=0.05) and abs(weights[[0, 2]]).max() < 0.05
    weights = hippie_impute.blend_weights([split], curves[split.validation][None], rng.normal(size=(120, 6)), curves)
    assert weights[0] == pytest.approx(1, abs=0.01)


def test_units_with_one_curve_have_nothing_to_be_drawn_from(data, tmp_path, monkeypatch, capsys):
    units = UnitTable.read(data / "watson")
    gone = {name: rows if name == "wave" else rows[:, :0] for name, rows in units.raw.items()}
    assert hippie_impute.complete(replace(units, raw=gone)) is None
    acg = units.raw["acg"].copy()
    acg[:7] = np.nan
    whole = hippie_impute.complete(replace(units, raw={**units.raw, "acg": acg}))
    assert whole is not None and len(whole) == 53


# Pretraining.


def test_a_held_out_data_set_drags_its_copies_out_of_pretraining(data):
    tables = read_tables(data)
    assert list(hippie_pretrain.others_of("hull", tables)) == ["lisberger", "watson"] or set(
        hippie_pretrain.others_of("hull", tables)
    ) == {find("lisberger").name, find("watson").name}
    assert len(hippie_pretrain.others_of("watson", tables)) == 2, "one copy of two"
    with pytest.raises(ValueError, match="no data set 'lisbon' to hold out: choose one of hull, hull_counts"):
        hippie_pretrain.named("lisbon", tables)
    with pytest.raises(ValueError, match="no data set is left to pretrain on without hull"):
        hippie_pretrain.others_of("hull", {name: tables[name] for name in ("hull", "hull_counts")})


@pytest.mark.slow
def test_pretraining_is_tuned_and_compared_with_none(data, tmp_path, monkeypatch):
    run = started(hippie_pretrain, monkeypatch, tmp_path, "--data", data, "--held-out", "hull")
    scores = read_scores(run / "scores.csv")
    for arm in hippie_pretrain.ARMS:
        assert len(of(scores, variant=arm, metric="r2_wave")) == 5
    model = jaxephys.load(run / "model")
    tables = read_tables(data)
    assert isinstance(model, Hippie) and not model.seen(tables["hull"]).any() and model.seen(tables["watson"]).all()


# Embedding.


@pytest.mark.slow
def test_the_script_of_the_card_writes_all_units(data, tmp_path, monkeypatch):
    out = tmp_path / "embeddings.npz"
    run = started(hippie_embed, monkeypatch, tmp_path, "--datasets-root", data, "--output", out)
    with np.load(out) as file:
        made = dict(file)
    assert made["embeddings"].shape == (220, 6) and made["map"].shape == (220, 2) and made["cluster"].min() >= -1
    assert len(set(made["unit"])) == 220 and set(made["dataset"]) == set(SETS)
    assert (run / "figures" / "clusters.png").exists()
    again = tmp_path / "again"
    again.mkdir()
    started(
        hippie_embed, monkeypatch, again, "--datasets-root", data, "--output", again / "e.npz", "--model", run / "model"
    )
    with np.load(again / "e.npz") as file:
        np.testing.assert_allclose(file["embeddings"], made["embeddings"], atol=1e-5)


# Ablation.


@pytest.mark.slow
def test_arms_are_one_fit_and_each_is_scored(data, tmp_path, monkeypatch):
    run = started(hippie_ablation, monkeypatch, tmp_path, "--data", data / "lisberger")
    scores = read_scores(run / "scores.csv")
    arms = list(hippie_ablation.LADDER)[:3]
    for metric in ("r2_wave", "active", "balanced_accuracy", "kl"):
        assert {score.variant for score in of(scores, metric=metric)} == set(arms)
        assert len(of(scores, metric=metric)) == 15
    assert len((run / "runs_ablation.csv").read_text().splitlines()) == 16


def test_the_sweep_crosses_sizes_and_weights():
    arms = hippie_ablation.arms_of(hippie_ablation.Ablation(arms="sweep", latent=20))
    assert len(arms) == 9 and arms["z 5, beta 4.0"].latent == 5 and arms["z 20, beta 0.25"].beta == 0.25


def test_clusters_stand_in_the_order_of_their_numbers():
    names = hippie_embed.spelled(np.array([10, -1, 2, 0]))
    assert names.tolist() == ["10", "none", "02", "00"] and np.unique(names).tolist()[-1] == "none"
    assert hippie_embed.spelled(np.array([-1, -1])).tolist() == ["none", "none"]
