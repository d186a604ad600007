"""Hippie on simulated units, and the snippets of the published model card on a converted checkpoint."""

import csv
import json
import sys
from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score

import jaxephys
from data_prep.units.simulate import simulate_units
from jaxephys import Hippie, UnitTable
from jaxephys.cli import main
from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.hippie.preprocessing import prepare
from jaxephys.hippie.probes import predict_classes
from jaxephys.hippie.task import OURS, Objective, objective_from_dict
from tests.hippie.test_torch_checkpoint import PARITY, TINY, random_state_dict, state_in
from tests.hippie.torch_file import Call, Global, tensors, write

SMALL = {
    "latent": 6,
    "width": 4,
    "trunk": "dense",
    "max_epochs": 60,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "progress": False,
}
TRAIN = np.arange(220)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("units")
    simulate_units(300, 6, seed=1).write(path)
    return path


@pytest.fixture(scope="module")
def units(folder):
    return UnitTable.read(folder)


@pytest.fixture(scope="module")
def new(units):
    """Units that no model was trained on."""
    return units.rows(np.arange(220, 300))


@pytest.fixture(scope="module")
def fitted(units):
    return Hippie(**SMALL, seeds=2).fit(units.rows(TRAIN))


def measured(units):
    return prepare(units.raw).curves


# What it learns.


def test_every_modality_is_explained_and_the_latent_is_active(fitted, new):
    for row in fitted.score_table(new):
        assert row["active"] >= 0.5 and row["n"] == len(new)
        assert min(row[f"r2_{name}"] for name in ("wave", "isi", "acg")) > 0.5
    assert set(fitted.history_) >= {"valid_loss", "valid_active", "train_kl"}
    assert fitted.history_["valid_loss"].shape[0] == 2


@pytest.mark.parametrize("modality", ["isi", "acg"])
def test_imputation_beats_the_mean_and_its_sd_is_calibrated(fitted, units, new, modality):
    truth, mean = measured(new)[modality], measured(units.rows(TRAIN))[modality].mean(axis=0)
    imputed = fitted.impute(new, modality)
    assert np.mean((imputed.mean - truth) ** 2) < 0.6 * np.mean((mean - truth) ** 2)
    within = np.abs(imputed.mean - truth) < 1.645 * imputed.sd  # 0.90 if errors are normal
    assert 0.8 < within.mean() < 0.98
    changed = replace(new, raw={**new.raw, modality: np.roll(new.raw[modality], 1, axis=0)})
    np.testing.assert_array_equal(fitted.impute(changed, modality).mean, imputed.mean, err_msg="the curve was used")


def test_fewer_given_curves_make_imputation_less_certain(fitted, new):
    both, one = fitted.impute(new, "isi"), fitted.impute(new, "isi", given=["wave"])
    truth = measured(new)["isi"]
    assert np.mean((one.mean - truth) ** 2) > np.mean((both.mean - truth) ** 2)
    assert one.sd.mean() > both.sd.mean()


def test_a_unit_without_a_curve_is_embedded_and_the_curve_reconstructed(fitted, new):
    acg = new.raw["acg"].copy()
    acg[::2] = np.nan
    incomplete = replace(new, raw={**new.raw, "acg": acg})
    whole, decoded = fitted.embed(new), fitted.reconstruct(incomplete)["acg"]
    np.testing.assert_allclose(fitted.embed(incomplete)[1::2], whole[1::2], atol=1e-5)
    np.testing.assert_allclose(decoded[::2], fitted.reconstruct(replace(new, raw={**new.raw, "acg": acg}))["acg"][::2])
    assert np.isfinite(fitted.embed(incomplete)).all() and np.isfinite(decoded).all()


def test_a_counterfactual_is_nearer_to_the_truth_than_the_unit_as_it_was(fitted, new):
    """Units recorded with one probe, predicted under the other, against the truth of the simulation."""
    names = new.provenance["technologies"]
    source, target = "juxtacellular", "neuropixels"
    some = new.rows(np.flatnonzero(new.about["technology"] == source))
    under = some.truth["waveform_under"]
    truth = prepare({**some.raw, "wave": under[:, names.index(target)]}).curves["wave"]
    predicted, unchanged = fitted.counterfactual(some, target)["wave"], fitted.reconstruct(some)["wave"]
    assert np.mean((predicted - truth) ** 2) < 0.8 * np.mean((unchanged - truth) ** 2)
    same = fitted.counterfactual(some, source)
    np.testing.assert_allclose(same["wave"], unchanged, atol=1e-5)


def test_a_traversal_at_the_encoded_value_is_the_reconstruction(fitted, new):
    some = new.rows(np.arange(3))
    here = float(fitted.embed(some, network=1)[0, 2])
    traversed = fitted.traverse(some, 2, (-2.0, here, 2.0), network=1)
    assert traversed["wave"].shape == (3, 3, 50)
    one = Hippie(**SMALL).set_params(seeds=1)
    one.network_, one.preparation_, one.noise_, one.trained_on_ = (
        fitted.network_, fitted.preparation_, fitted.noise_, fitted.trained_on_,
    )  # fmt: skip
    one.variables_ = jax.tree.map(lambda leaf: leaf[1:], fitted.variables_)
    np.testing.assert_allclose(traversed["wave"][0, 1], one.reconstruct(some)["wave"][0], atol=1e-5)
    assert np.abs(traversed["wave"][0, 0] - traversed["wave"][0, 2]).max() > 1e-3


def test_a_path_between_classes_joins_their_mean_latents(fitted, new):
    start, end = new.classes[:2]
    path = fitted.traverse_classes(new, start, end, n_steps=5, network=1)
    embedding = fitted.embed(new, network=1)
    means = [embedding[new.label == label].mean(axis=0) for label in (start, end)]
    np.testing.assert_allclose(path.latent[[0, -1]], means, atol=1e-5)
    np.testing.assert_allclose(path.latent[2], np.mean(means, axis=0), atol=1e-5)
    assert path.share.tolist() == [0, 0.25, 0.5, 0.75, 1] and path.curves["wave"].shape == (5, 50)
    for name, curve in fitted.decode(path.latent, network=1).items():
        np.testing.assert_array_equal(path.curves[name], curve, "units of several technologies: it is unknown")
    known = fitted.traverse_classes(new, start, end, 5, technology="neuropixels", network=1)
    assert np.abs(known.curves["wave"] - path.curves["wave"]).max() > 1e-4
    one = new.rows(np.flatnonzero(new.column("technology") == "neuropixels"))
    curves = fitted.traverse_classes(one, start, end, 3).curves["wave"]
    expected = fitted.traverse_classes(one, start, end, 3, technology="neuropixels").curves["wave"]
    np.testing.assert_array_equal(curves, expected, "the technology of all units")


def test_decoded_embeddings_are_the_reconstruction(fitted, new):
    some = new.rows(np.flatnonzero(new.column("technology") == "silicon_probe"))
    decoded = [
        fitted.decode(fitted.embed(some, network=network), technology="silicon_probe", network=network)
        for network in (0, 1)
    ]
    for name, curve in fitted.reconstruct(some).items():
        np.testing.assert_allclose(np.mean([part[name] for part in decoded], axis=0), curve, atol=1e-5)


def test_results_have_the_order_of_the_units(fitted, new):
    order = np.random.default_rng(0).permutation(len(new))
    moved = new.rows(order)
    np.testing.assert_allclose(fitted.embed(moved), fitted.embed(new)[order], atol=1e-5)
    ours, again = fitted.impute(moved, "wave"), fitted.impute(new, "wave")
    np.testing.assert_allclose(ours.mean, again.mean[order], atol=1e-5)
    np.testing.assert_allclose(ours.sd, again.sd[order], atol=1e-5)


# Phases of training and what they used.


def test_units_held_out_by_name_are_not_used_in_any_phase(fitted, units, new):
    assert fitted.seen(units.rows(TRAIN)).all() and not fitted.seen(new).any()
    short = {**SMALL, "max_epochs": 2}
    held_out = units.rows(np.arange(50, 100))
    pretrained = Hippie(**short).fit(units.rows(TRAIN[:130]), held_out=held_out)
    assert pretrained.seen(units).sum() == 80 and not pretrained.seen(held_out).any()
    tuned = Hippie(**short).fit(new, initial=pretrained)  # of as many units: the same program
    assert tuned.seen(new).all() and tuned.seen(units).sum() == 80 + len(new)
    assert tuned.history_["train_loss"][0, 0] < pretrained.history_["train_loss"][0, 0], (
        "it starts from the trained weights"
    )
    with pytest.raises(ValueError, match="was trained on: calibrate"):
        tuned.calibrate(new)


@pytest.mark.slow
def test_two_tables_train_together_if_names_distinguish_their_units(units):
    parts = [units.rows(TRAIN[:40]), units.rows(TRAIN[:20])]
    with pytest.raises(ValueError, match="is in two tables: give each a dataset= of its own"):
        Hippie(**SMALL).fit(parts)
    named = [
        replace(part, about={**part.about, "dataset": np.full(len(part), name)})
        for part, name in zip(parts, ("one", "two"), strict=True)
    ]
    model = Hippie(**{**SMALL, "max_epochs": 1}).fit(named)
    assert sorted(model.trained_on_) == sorted([*named[0].name, *named[1].name])
    assert not model.seen(units).any(), "without its data set a unit has another name"


@pytest.mark.slow
def test_labels_separate_classes(fitted, units, new):
    train = units.rows(TRAIN)
    contrasted = Hippie(**{**SMALL, "max_epochs": 20}, contrast=300.0).fit(train, train.label, initial=fitted)

    def separation(model):
        position = model.embed(new)
        position = position / np.linalg.norm(position, axis=1, keepdims=True)
        same = new.label[:, None] == new.label
        cosine = position @ position.T
        return cosine[same & ~np.eye(len(new), dtype=bool)].mean() - cosine[~same].mean()

    assert separation(contrasted) > separation(fitted) + 0.1


# Saving.


def test_a_loaded_model_gives_the_same_results_bit_for_bit(fitted, new, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = jaxephys.load(tmp_path / "model")
    assert isinstance(loaded, Hippie) and loaded.network_ == fitted.network_
    np.testing.assert_array_equal(loaded.embed(new), fitted.embed(new))
    for ours, again in zip(loaded.impute(new, "isi"), fitted.impute(new, "isi"), strict=True):
        np.testing.assert_array_equal(ours, again)
    assert loaded.get_params() == fitted.get_params() and loaded.describe() == fitted.describe()
    np.testing.assert_array_equal(loaded.trained_on_, fitted.trained_on_)
    with pytest.raises(ValueError, match="overwrite=True"):
        fitted.save(tmp_path / "model")


def test_a_custom_objective_survives_saving(fitted, tmp_path):
    model = clone(Hippie(objective=replace(OURS, beta=0.5)))
    for name in ("network_", "preparation_", "noise_", "trained_on_", "classes_", "variables_"):
        setattr(model, name, getattr(fitted, name))
    model.save(tmp_path / "model")
    assert jaxephys.load(tmp_path / "model").objective == replace(OURS, beta=0.5)


def test_an_objective_saved_by_version_0_1_0_is_restored():
    old = {"hidden": 0.2, "clean": False, "beta": 0.5}
    assert objective_from_dict(old) == Objective(mask_probability=0.2, clean_target=False, beta=0.5)


# The published model card.


def card_checkpoint(folder, network=TINY):
    """A checkpoint file with random weights; variances are not negative."""
    state = {
        name: np.abs(array) if "running_var" in name else array for name, array in random_state_dict(network).items()
    }
    return write(folder / "hippie_techcond_v1.ckpt", {"state_dict": OrderedDict(tensors(state)), "epoch": 4})


def prepared_curves(count=40):
    rng = np.random.default_rng(0)
    return {name: rng.uniform(-1, 1, (count, length)).astype(np.float32) for name, length in TINY.modalities}


def test_the_snippets_of_the_card(tmp_path, monkeypatch):
    card_checkpoint(tmp_path)
    monkeypatch.chdir(tmp_path)
    wave, acg = prepared_curves().values()
    from jaxephys.hippie.inference import TECHNOLOGY_IDS, HIPPIEClassifier  # the only line that differs

    classifier = HIPPIEClassifier.from_checkpoint("hippie_techcond_v1.ckpt", device="cpu")
    embeddings = classifier.get_embeddings(wave=wave, acg=acg, tech_id=TECHNOLOGY_IDS["neuropixels"], batch_size=16)
    labels = classifier.hdbscan_cluster(embeddings, min_cluster_size=5)

    assert embeddings.shape == (40, TINY.latent) and embeddings.dtype == np.float32 and np.isfinite(embeddings).all()
    assert labels.shape == (40,) and labels.dtype == np.int32 and labels.min() >= -1
    np.testing.assert_array_equal(embeddings, classifier.get_embeddings(wave=wave, acg=acg, tech_id="neuropixels"))
    others = [classifier.get_embeddings(wave=wave, acg=acg, tech_id=tech) for tech in (1, None)]
    assert all(np.abs(other - embeddings).max() > 1e-3 for other in others)
    absent = [
        classifier.get_embeddings(wave=wave, acg=rows) for rows in (None, np.zeros_like(acg), np.full_like(acg, -1))
    ]
    np.testing.assert_array_equal(absent[0], absent[1])
    np.testing.assert_array_equal(absent[0], absent[2])


def test_the_card_preprocesses_and_embeds_raw_curves(tmp_path, units):
    from jaxephys.hippie.inference import HIPPIEClassifier, preprocess_acg, preprocess_waveform

    assert HIPPIEClassifier is Hippie
    classifier, some = HIPPIEClassifier.from_checkpoint(card_checkpoint(tmp_path)), units.rows(np.arange(20))
    lengths = dict(TINY.modalities)
    wave = preprocess_waveform(some.raw["wave"], lengths["wave"])
    acg = preprocess_acg(some.raw["acg"], lengths["acg"])
    embeddings = classifier.get_embeddings(wave=wave, acg=acg, tech_id="silicon_probe")
    np.testing.assert_allclose(embeddings, classifier.embed(some, technology="silicon_probe"), atol=1e-5)
    with pytest.raises(AttributeError, match="has no attribute 'HIPPIEClassifer'"):
        jaxephys.hippie.inference.HIPPIEClassifer  # noqa: B018


def original_inputs(curves, order):
    """The two orders of preprocessing of the original, curve by curve: torch's linear interpolation without aligned corners."""

    def scale(curve):
        return 2 * (curve - curve.min()) / (curve.max() - curve.min() + 1e-8) - 1

    def interpolate(curve, length):
        centers = (np.arange(length) + 0.5) * len(curve) / length - 0.5
        return np.interp(centers, np.arange(len(curve)), curve)  # positions beyond an end take its value

    inputs = {}
    for name, length in TINY.modalities:
        rows = [np.log(curve + 1.0) if name == "isi" else curve.astype(float) for curve in curves[name]]
        steps = {
            "train": lambda curve, length=length: interpolate(scale(curve), length),
            "card": lambda curve, length=length: scale(interpolate(curve, length)),
        }
        inputs[name] = np.array([steps[order](curve) for curve in rows], np.float32)
    return inputs


@pytest.mark.parametrize("order", ["card", "train"])
def test_the_order_of_scaling_and_resampling_is_that_of_the_card_or_of_the_original_training(order, tmp_path):
    rng = np.random.default_rng(0)
    some = UnitTable.from_arrays(wave=rng.normal(size=(20, 82)), acg=rng.poisson(2.0, size=(20, 201)))
    model = Hippie.from_checkpoint(card_checkpoint(tmp_path), order=order)
    ours, other = (original_inputs(some.raw, name) for name in (order, {"card": "train", "train": "card"}[order]))
    for name, curves in prepare(some.raw, model.preparation_).curves.items():
        np.testing.assert_allclose(curves, ours[name], atol=1e-6)
        assert np.abs(curves - other[name]).max() > 0.05
    embedding = model.embed(some, technology="silicon_probe")
    error, distance = (
        np.abs(embedding - model.get_embeddings(**curves, tech_id="silicon_probe")).max() for curves in (ours, other)
    )
    assert error < 0.2 * distance and model.preparation_.order == order
    assert jaxephys.load(model.save(tmp_path / "model")).preparation_ == model.preparation_


def test_clusters_and_a_map(monkeypatch):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3), 20, axis=0)
    embeddings = (5 * groups + 0.1 * rng.normal(size=groups.shape)).astype(np.float32)
    found = Hippie.hdbscan_cluster(embeddings)
    assert [len(set(found[start : start + 20]) - {-1}) for start in (0, 20, 40)] == [1, 1, 1] and found.max() == 2

    class UMAP:
        def __init__(self, **options):
            self.options = options

        def fit_transform(self, rows):
            assert self.options["random_state"] == 42 and self.options["metric"] == "cosine"
            return rows[:, : self.options["n_components"]].astype(float)

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    assert Hippie.umap_reduce(embeddings).shape == (60, 2)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"umap-learn is not installed: pip install .jaxephys\[umap\]"):
        Hippie.umap_reduce(embeddings)


def test_from_pretrained_downloads_the_file_from_the_hub(tmp_path, monkeypatch):
    path, options = card_checkpoint(tmp_path), {}
    monkeypatch.setitem(
        sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=lambda **o: options.update(o) or str(path))
    )
    model = Hippie.from_pretrained("Jesusgf23/hippie", order="train")
    assert model.preparation_.order == "train"
    assert options["repo_id"] == "Jesusgf23/hippie" and options["filename"] == "hippie_techcond_v1.ckpt"
    assert model.network_ == TINY
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ImportError, match="huggingface_hub is not installed: .* or give a local file to from_checkpoint"
    ):
        Hippie.from_pretrained("Jesusgf23/hippie")


def test_the_embeddings_of_the_card_are_those_of_pytorch(tmp_path):
    if not PARITY.exists():
        pytest.skip(f"{PARITY.name} is not here: put it into a folder parity beside that of JAXEPHYS_DATA")
    with np.load(PARITY) as file:
        arrays = dict(file)
    path = write(tmp_path / "width8.ckpt", {"state_dict": OrderedDict(tensors(state_in(arrays)))})
    model, source = Hippie.from_checkpoint(path), int(arrays["in/source"][0])
    same = arrays["in/source"] == source
    curves = {name: arrays[f"in/{name}"][same, 0] for name in ("wave", "isi", "acg")}
    np.testing.assert_allclose(model.get_embeddings(**curves, tech_id=source), arrays["mu"][same], atol=1e-5)


def test_the_noise_of_a_converted_model_is_measured_on_units(tmp_path, units):
    model, some = (
        Hippie.from_checkpoint(card_checkpoint(tmp_path)),
        units.rows(np.flatnonzero(units.technology_codes < 2)[:12]),
    )
    assert not model.seen(some).any() and np.isnan(model.impute(some, "acg").sd).all()
    model.calibrate(some)
    assert np.isfinite(model.impute(some, "acg").sd).all()


@pytest.mark.slow
def test_a_converted_model_can_be_fine_tuned(tmp_path, units):
    model, some = (
        Hippie.from_checkpoint(card_checkpoint(tmp_path)),
        units.rows(np.flatnonzero(units.technology_codes < 2)[:12]),
    )
    training = {name: value for name, value in SMALL.items() if name not in ("latent", "width", "trunk")}
    tuned = Hippie(**{**training, "max_epochs": 1}).fit(some, initial=model)
    assert tuned.network_ == TINY and tuned.preparation_ == model.preparation_


# Commands.


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["jaxephys", *map(str, words)])
    return main()


def test_convert_and_info(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "convert", card_checkpoint(tmp_path), tmp_path / "model") == 0
    output = capsys.readouterr().out
    assert "1 network of" in output and "2 x source, 3 x label" in output and "no mask token" in output
    assert run(monkeypatch, "info", tmp_path / "model") == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["version"] == jaxephys.__version__ and config["preparation"]["order"] == "card"
    assert run(monkeypatch, "convert", card_checkpoint(tmp_path), tmp_path / "other", "--order", "train") == 0
    assert jaxephys.load(tmp_path / "other").preparation_.order == "train"


def test_the_commands_write_the_results_of_the_model(fitted, new, folder, tmp_path, monkeypatch, capsys):
    fitted.save(tmp_path / "model")
    model = tmp_path / "model"
    assert run(monkeypatch, "embed", model, folder, "--out", tmp_path / "e.npz") == 0
    assert run(monkeypatch, "impute", model, folder, "--modality", "isi", "--out", tmp_path / "i.npz") == 0
    where = ("--technology", "silicon_probe", "--out", tmp_path / "c.npz")
    assert run(monkeypatch, "counterfactual", model, folder, *where) == 0
    embedded, imputed, changed = (np.load(tmp_path / f"{name}.npz") for name in "eic")
    np.testing.assert_allclose(embedded["embeddings"][220:], fitted.embed(new), atol=1e-5)
    np.testing.assert_allclose(imputed["mean"][220:], fitted.impute(new, "isi").mean, atol=1e-5)
    np.testing.assert_allclose(changed["wave"][220:], fitted.counterfactual(new, "silicon_probe")["wave"], atol=1e-5)
    assert embedded["unit"].shape == (300,) and imputed["sd"].shape == imputed["measured"].shape
    options = ("--values", "-1", "0.5", "--out", tmp_path / "t.npz")
    assert run(monkeypatch, "traverse", model, folder, *options) == 0
    dimension, traversed = int(fitted.embed(UnitTable.read(folder)).var(axis=0).argmax()), np.load(tmp_path / "t.npz")
    np.testing.assert_allclose(traversed["isi"][220:], fitted.traverse(new, dimension, (-1.0, 0.5))["isi"], atol=1e-5)
    output = capsys.readouterr().out
    assert "isi of 300 units, 220 of which were trained on" in output
    assert f"dimension {dimension} of 300 units at -1, 0.5" in output and "of the variance over units" in output
    start, end = new.classes[:2]
    options = ("--between", start, end, "--steps", "3", "--out", tmp_path / "p.npz")
    assert run(monkeypatch, "traverse", model, folder, *options) == 0
    with np.load(tmp_path / "p.npz") as file:
        path = fitted.traverse_classes(UnitTable.read(folder), start, end, 3)
        np.testing.assert_allclose(file["isi"], path.curves["isi"], atol=1e-5)
        assert file["share"].tolist() == [0, 0.5, 1] and file["class"].tolist() == [start, end]
    assert f"3 steps from {start} to {end}" in capsys.readouterr().out
    assert run(monkeypatch, "traverse", model, folder, "--between", start, end, "--dimension", "1") == 2
    assert "give one of them" in capsys.readouterr().err


def classes_file(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_classes_of_units_are_predicted_with_a_probability_each(fitted, units, new, tmp_path, monkeypatch, capsys):
    model = fitted.save(tmp_path / "model")
    reference, query = units.rows(TRAIN).write(tmp_path / "reference"), new.write(tmp_path / "query")
    out = tmp_path / "classes.csv"
    options = ("--reference", reference.parent, "--out", out)
    assert run(monkeypatch, "classify", model, query, *options, "--probe", "linear") == 0
    rows = classes_file(out)
    names = [f"prob_{name}" for name in units.classes]
    probability = np.array([[float(row[name]) for name in names] for row in rows])
    assert [row["unit"] for row in rows] == new.name.tolist()
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    predicted = units.classes[probability.argmax(axis=1)]
    assert [row["prediction"] for row in rows] == predicted.tolist()
    np.testing.assert_allclose([float(row["confidence"]) for row in rows], probability.max(axis=1))
    expected = predict_classes(fitted.embed(units.rows(TRAIN)), units.label[TRAIN], fitted.embed(new), "linear")
    np.testing.assert_allclose(probability, expected.probability, atol=1e-5)
    accuracy = balanced_accuracy_score(new.label, predicted)
    output = capsys.readouterr().out
    assert f"balanced accuracy {accuracy:.3f} on the 80 units with a known class" in output
    assert "was trained on" not in output and accuracy > 1.5 / len(units.classes)


def test_unlabelled_units_are_classified_by_the_labelled_ones_of_their_table(
    fitted, units, tmp_path, monkeypatch, capsys
):
    model, label = fitted.save(tmp_path / "model"), units.label.copy()
    label[::3] = ""
    table = replace(units, about={**units.about, "label": label}).write(tmp_path / "table")
    assert run(monkeypatch, "classify", model, table, "--out", tmp_path / "c.csv") == 0
    rows = classes_file(tmp_path / "c.csv")
    assert [row["unit"] for row in rows] == units.name[::3].tolist()
    assert "knn (k = " in (output := capsys.readouterr().out) and "on the embeddings of 200 labelled" in output
    assert run(monkeypatch, "classify", model, table, "--reference", table) == 0
    assert "200 units of the table are in the reference, by name, and are left out" in capsys.readouterr().out
    bare = replace(units, about={}).write(tmp_path / "bare")
    assert run(monkeypatch, "classify", model, bare) == 2
    assert "there is no labelled unit: give labelled units with --reference" in capsys.readouterr().err


# What is wrong.


def malicious(folder):
    path = folder / "bad.ckpt"
    return write(path, {"state_dict": Call(Global("os", "system"), f"touch {folder / 'ran'}")})


MISTAKES = {
    "objective": (lambda model, units: Hippie(objective="elbo").fit(units), "objective 'elbo' is unknown"),
    "contrast": (
        lambda model, units: Hippie(objective="published", contrast=3.0).fit(units),
        "contrast is 3.0, which this objective does not take",
    ),
    "sizes": (
        lambda model, units: Hippie(latent=7).fit(units, initial=model),
        "latent is 7, but that of the initial model is 6: leave it out",
    ),
    "few": (lambda model, units: Hippie().fit(units.rows(np.arange(3))), "3 units with curves are left to train on"),
    "labels": (lambda model, units: Hippie().fit(units, ["a"]), r"labels have the shape \(1,\) for 300 units"),
    "order": (
        lambda model, units: Hippie.from_checkpoint("x.ckpt", order="first"),
        "order is 'first': choose one of train, card",
    ),
    "one class": (lambda model, units: Hippie().fit(units, ["PV"] * 300), "all 300 labels are 'PV'"),
    "modality": (lambda model, units: Hippie(modalities=("lfp",)).fit(units), "no modality 'lfp'"),
    "technology": (lambda model, units: model.embed(units, technology="patch"), "no technology 'patch'"),
    "target": (lambda model, units: model.counterfactual(units, "patch"), "no technology 'patch'"),
    "imputed from itself": (lambda model, units: model.impute(units, "isi", given=["isi"]), "leave it out of given"),
    "imputed": (lambda model, units: model.impute(units, "lfp"), "no modality 'lfp'"),
    "dimension": (lambda model, units: model.traverse(units, 6), "no dimension 6"),
    "network": (lambda model, units: model.embed(units, network=2), "no network 2"),
    "class of a path": (
        lambda model, units: model.traverse_classes(units, "fast", "granule"),
        "has the class 'granule'",
    ),
    "steps": (lambda model, units: model.traverse_classes(units, *units.classes[:2], 1), "a path of 1 steps"),
    "decoded class": (lambda model, units: model.decode(np.zeros((1, 6)), label="PV"), "has no class 'PV'"),
    "lengths": (lambda model, units: model.get_embeddings(wave=np.zeros((2, 82))), "wave has 82 samples, not 50"),
    "nothing": (lambda model, units: model.get_embeddings(), "the curves have no rows"),
    "rows": (
        lambda model, units: model.get_embeddings(wave=np.zeros((2, 50)), isi=np.zeros((3, 100))),
        "{'wave': 2, 'isi': 3} rows",
    ),
    "arrays": (lambda model, units: UnitTable.from_arrays(label="PV"), "no curves were given"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(fitted, units, mistake):
    call, hint = MISTAKES[mistake]
    with pytest.raises(ValueError, match=hint) as caught:
        call(fitted, units)
    assert "\n" not in str(caught.value)


def test_a_malicious_pickle_and_a_checkpoint_of_another_model_are_refused(tmp_path, monkeypatch, capsys):
    other = write(
        tmp_path / "other.ckpt", {"state_dict": OrderedDict(tensors({"fc.weight": np.ones((2, 3), np.float32)}))}
    )
    for path, hint in ((malicious(tmp_path), "posix.system|os.system"), (other, "no encoder of a modality")):
        with pytest.raises(CheckpointError, match=hint):
            Hippie.from_checkpoint(path)
        assert run(monkeypatch, "convert", path, tmp_path / "model") == 2
        output = capsys.readouterr().err
        assert output.startswith("error: ") and output.count("\n") == 1 and str(path) in output
    assert not (tmp_path / "ran").exists() and not (tmp_path / "model").exists()


def test_commands_need_a_hippie_and_units(fitted, folder, tmp_path, monkeypatch, capsys):
    fitted.save(tmp_path / "model")
    assert run(monkeypatch, "embed", tmp_path / "model", tmp_path / "nowhere") == 2
    assert "there are no units in" in capsys.readouterr().err
    assert run(monkeypatch, "impute", folder, folder, "--modality", "isi") == 2
    assert "holds no saved model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_trained_without_technologies_has_no_counterfactual(units):
    nobody = replace(units, about={"label": units.label}).rows(TRAIN[:40])
    model = Hippie(**{**SMALL, "max_epochs": 1}).fit(nobody)
    with pytest.raises(ValueError, match="trained without technologies"):
        model.counterfactual(nobody, "neuropixels")
    assert model.network_.sources == 0
