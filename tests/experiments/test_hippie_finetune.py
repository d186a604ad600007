"""The experiment hippie_finetune: held-out units are not used, what is scored is what was trained, and its options are the published ones."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import jaxephys
from data_prep.units.simulate import simulate_units
from experiments import hippie_finetune
from experiments.command_line import main, parse
from jaxephys.hippie.fine_tuning import (
    BASELINES,
    PROBES,
    FineTuningSettings,
    _labelled,
    _training,
    draw_folds,
    initial_model,
)
from jaxephys.hippie.probes import make_probe
from jaxephys.reporting.score_table import read_scores
from jaxephys.schemas.unit_table import UnitTable
from tests.experiments.command import only_run


@pytest.fixture(scope="module")
def units():
    made = simulate_units(120, 6, seed=2)
    label = made.label.copy()
    label[:6] = ""
    return replace(made, about={**made.about, "label": label, "dataset": np.full(120, "mine")})


@pytest.fixture(scope="module")
def data(units, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    units.write(folder / "mine")
    return folder


@pytest.fixture(scope="module")
def checkpoint(units, tmp_path_factory):
    """A model of other units, without labels."""
    other = replace(units, about={**units.about, "dataset": np.full(120, "other")})
    model = jaxephys.Hippie(6, width=4, trunk="dense", max_epochs=3, objective="published", progress=False).fit(other)
    return model.save(tmp_path_factory.mktemp("checkpoint") / "model")


def run_experiment(monkeypatch, folder, *arguments):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["hippie_finetune", "smoke", *map(str, arguments)])
    main("hippie_finetune", hippie_finetune.__doc__, hippie_finetune.PRESETS, hippie_finetune.run)
    return only_run(folder)


@pytest.fixture(scope="module")
def finished(data, checkpoint, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        options = ("--data", data, "--training-dataset", "mine", "--pretrain-checkpoint", checkpoint, "--folds", "3")
        yield run_experiment(patch, tmp_path_factory.mktemp("finetune"), *options, "--z_dim", "6", "--beta", "0.5")


@pytest.mark.slow
def test_the_fine_tuned_model_is_saved_with_its_classes(finished, units, checkpoint):
    model, start = jaxephys.load(finished), jaxephys.load(checkpoint)
    assert model.classes_.tolist() == units.classes.tolist() and model.objective.beta == 0.5
    assert model.network_ == start.network_.clone(classes=len(units.classes))
    assert model.seen(units).all() and set(start.trained_on_) < set(model.trained_on_)
    latent = model.embed(units)[:4]
    assert latent.shape == (4, 6) and not np.allclose(latent, start.embed(units)[:4], atol=1e-4)
    curves = [model.decode(latent, label=label)["isi"] for label in units.classes[:2]]
    assert np.abs(curves[0] - curves[1]).max() > 1e-4


@pytest.mark.slow
def test_the_report_has_loss_curves_and_scores_of_held_out_units(finished):
    scores = read_scores(finished / "scores.csv")
    names = {score.variant for score in scores if score.metric == "balanced_accuracy"}
    assert {f"{probe} on {model}" for probe in PROBES for model in ("fine-tuned", "checkpoint")} <= names
    assert {f"{baseline} on curves" for baseline in BASELINES} <= names
    assert {score.variant for score in scores if score.metric == "r2_isi"} == {"fine-tuned", "checkpoint"}
    assert {(score.fold, score.split) for score in scores} == {(fold, "test") for fold in range(3)}
    report = (finished / "report.md").read_text()
    assert "class_decoder_source_bn_aug_reg" in report and "No test unit was trained on." in report
    for name in ("curves", "bars_balanced_accuracy"):
        assert (finished / "figures" / f"{name}.png").exists()
    lines = (finished / "figures" / "curves.csv").read_text().splitlines()
    assert {tuple(line.split(",")[:2]) for line in lines[1:]} == {
        (stage, loss) for stage in ("finetune", "supervised") for loss in ("train_loss", "valid_loss")
    }


@pytest.mark.slow
def test_scores_of_the_checkpoint_are_those_of_its_embedding(finished, units, checkpoint):
    settings = replace(hippie_finetune.PRESETS["smoke"], folds=3)
    embedding = jaxephys.load(checkpoint).embed(units)
    scores = read_scores(finished / "scores.csv")
    for fold, split in enumerate(draw_folds(units, settings)[:-1]):
        known, test = _labelled(units, split)
        predicted = make_probe("knn").fit(embedding[known], units.label[known]).predict(embedding[test])
        (value,) = (
            s.value for s in scores if s.variant == "knn on checkpoint" and s.fold == fold and s.metric[0] == "b"
        )
        assert value == pytest.approx(balanced_accuracy_score(units.label[test], predicted), abs=0.02)


def test_folds_hold_out_each_labelled_unit_once(units):
    splits = draw_folds(units, FineTuningSettings(folds=4))
    assert len(splits) == 5 and not len(splits[-1].test)
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested) == np.flatnonzero(units.label != "").tolist()
    for split in splits:
        assert sorted(np.concatenate(split)) == list(range(len(units)))
    bare = draw_folds(replace(units, about={}), FineTuningSettings(folds=4))
    assert sorted(np.concatenate([split.test for split in bare])) == list(range(len(units)))


@pytest.mark.parametrize("transductive", [False, True])
def test_no_label_of_a_test_unit_is_in_the_inputs(units, transductive):
    settings = FineTuningSettings(transductive=transductive, batch_size=32)
    splits, network = (
        draw_folds(units, settings),
        initial_model(replace(settings, pretrain_checkpoint=None), units).network_,
    )
    inputs, config = _training(settings, network, settings.objectives[1], splits, units.codes(), 4)
    for run, split in enumerate(splits):
        assert (inputs.constants.label[run][split.test] == -1).all()
        np.testing.assert_array_equal(inputs.constants.label[run][split.train], units.codes()[split.train])
        used = set(inputs.train.index[run][inputs.train.weight[run] > 0].tolist())
        assert used == set(split.train) | (set(split.test) if transductive else set())
    assert (config.learning_rate, config.patience, config.min_delta, config.max_epochs) == (1e-4, 5, 1e-4, 4)


def test_the_options_have_their_published_names():
    for name in ("--z_dim", "--z-dim"):
        arguments = [
            "--training-dataset", "hausser_cell_type", "--pretrain-checkpoint", "hippie_techcond_v1.ckpt",
            "--config", "class_decoder_source_bn_aug_reg", name, "30", "--beta", "1.0",
        ]  # fmt: skip
        preset, settings = parse("hippie_finetune", "", hippie_finetune.PRESETS, arguments)
        assert preset == "default" and settings.z_dim == 30 and settings.training_dataset == "hausser_cell_type"
        assert replace(settings, z_dim=0, training_dataset="") == hippie_finetune.PRESETS["default"]
    published = settings.objectives
    assert [objective.augmentation for objective in published] == ["light", "off"]
    assert all(objective.conditioned and not objective.likelihood for objective in published)


def test_mistakes_are_named(data, units, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cases = {
        ("--pretrain-checkpoint", checkpoint, "--z-dim", "7"): "has 6 latent dimensions, not 7",
        ("--training-dataset", "hul"): "has no data set 'hul'",
        ("--pretrain-checkpoint", "nothing.ckpt"): "there is no model nothing.ckpt",
        ("--finetune-max-epochs", "0", "--supervised-max-epochs", "0"): "nothing is trained",
    }
    for arguments, message in cases.items():
        with pytest.raises(SystemExit, match="2"):
            run_experiment(monkeypatch, tmp_path, "--data", data, *arguments)
        assert message in capsys.readouterr().err
        for made in (tmp_path / "runs" / "hippie_finetune").glob("*"):
            made.rename(tmp_path / made.name)  # the folders of two runs of the same second have the same name


def test_a_table_is_read_from_its_path(data, units):
    name, read = hippie_finetune._training_units(hippie_finetune.Finetune(training_dataset=str(data / "mine")))
    assert name == "mine" and isinstance(read, UnitTable) and read.sha256 == units.sha256
    name, read = hippie_finetune._training_units(hippie_finetune.Finetune(data=data))
    assert name == "mine" and len(read) == 120
