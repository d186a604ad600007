"""Save and load an estimator of two arrays; a folder without a usable model is reported in one sentence."""

import json
import shutil

import numpy as np
import pytest

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.models import migrations, registry
from jaxephys.models.base import EnsembleEstimator, mean_over_runs, score_row
from jaxephys.models.loading import load
from jaxephys.models.migrations import SCHEMA_VERSION, migrate, migration


@pytest.fixture
def kind(monkeypatch):
    """An estimator class that is registered during one test."""
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.setattr(migrations, "_migrations", dict(migrations._migrations))

    class Line(EnsembleEstimator):
        def __init__(self, unit="mV"):
            self.unit = unit

        def fit(self, slope, name):
            self.variables_, self.name_ = {"params": {"line": {"slope": slope}}}, name
            return self

        def _saved_arrays(self):
            return self.variables_

        def _saved_settings(self):
            return {"name": self.name_}

        def _restore(self, arrays, config):
            self.fit(arrays["params"]["line"]["slope"], config["name"])

        def _summary(self):
            return self.name_

    return Line


@pytest.fixture
def saved(kind, tmp_path):
    return kind("pA").fit(np.arange(6.0).reshape(2, 3), "a").save(tmp_path / "deep" / "model")


@pytest.fixture
def saved_before(saved):
    """The two files that versions up to schema version 2 have written."""
    shutil.rmtree(saved / "orbax")
    (saved / "checksums.json").unlink()
    (saved / "README.md").unlink()
    change(saved, schema_version=2)
    return saved


def change(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_a_saved_model_is_found_by_its_kind(kind, saved):
    model = load(saved)
    assert type(model) is kind and model.name_ == "a" and model.unit == "pA"
    np.testing.assert_array_equal(model.variables_["params"]["line"]["slope"], np.arange(6.0).reshape(2, 3))
    config = json.loads((saved / "config.json").read_text())
    assert config["version"] and config["schema_version"] == SCHEMA_VERSION
    assert model.describe() == "2 networks of 3 parameters, a"


def test_an_estimator_that_was_not_fitted_cannot_be_saved(kind, tmp_path):
    with pytest.raises(ValueError, match="not fitted yet"):
        kind().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_folder_of_a_finished_run_will_do(saved):
    (saved.parent / "checkpoints").mkdir()
    assert load(saved.parent).name_ == "a"


def test_an_existing_folder_is_replaced_only_with_overwrite(kind, saved):
    other = kind().fit(np.zeros((1, 1)), "b")
    with pytest.raises(ValueError, match=r"exists: choose another name or pass overwrite=True"):
        other.save(saved)
    assert load(saved).name_ == "a"
    other.save(saved, overwrite=True)
    assert load(saved).name_ == "b"
    assert [path.name for path in saved.parent.iterdir()] == ["model"], "nothing is left beside it"


def test_a_save_that_fails_leaves_the_old_model(kind, saved):
    with pytest.raises(TypeError):
        kind().fit(np.zeros((1, 1)), {1, 2}).save(saved, overwrite=True)  # a set is no JSON
    assert load(saved).name_ == "a"
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def spoil(folder, how):
    params = folder / "params.npz"
    if how == "truncated":
        params.write_bytes(params.read_bytes()[:-40])
    elif how == "emptied":
        params.write_bytes(b"")
    elif how == "bit":
        data = bytearray(params.read_bytes())
        data[len(data) // 3] ^= 0xFF
        params.write_bytes(bytes(data))
    elif how == "npy":
        with params.open("wb") as file:
            np.save(file, np.zeros(3))
    elif how == "pickle":
        np.savez(params, x=np.array([{}], dtype=object), allow_pickle=True)
    elif how == "no params":
        params.unlink()
    elif how == "no json":
        (folder / "config.json").write_text("{")
    elif how == "kind":
        change(folder, kind="Cube")
    elif how == "no kind":
        (folder / "config.json").write_text("{}")
    elif how == "array":
        np.savez(params, x=np.zeros(3))
    elif how == "setting":
        (folder / "config.json").write_text('{"kind": "Line", "parameters": {}}')
    elif how == "newer":
        change(folder, schema_version=SCHEMA_VERSION + 1, version="9.1.0")


SPOILED = {
    "truncated": "damaged: save it again",
    "emptied": "damaged: save it again",
    "bit": "damaged: save it again",
    "npy": "damaged: save it again",
    "pickle": "damaged: save it again",
    "no params": "params.npz is missing",
    "no json": "damaged: save it again",
    "kind": "of the kind 'Cube': this version knows .*Line",
    "no kind": "of the kind None: this version knows .*Line",
    "array": "lacks 'params': save it again",
    "setting": "lacks 'name': save it again",
    "newer": "by jaxephys 9.1.0, but this version reads schema versions up to .*: update jaxephys",
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_model_of_an_earlier_version_is_reported_in_one_sentence(saved_before, how):
    spoil(saved_before, how)
    with pytest.raises(CheckpointError, match=SPOILED[how]) as caught:
        load(saved_before)
    assert str(saved_before) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("how", sorted(set(SPOILED) - {"no params"}))
def test_a_spoiled_model_is_reported_in_one_sentence(saved, how):
    spoil(saved, how)
    file = "config.json" if how in ("no json", "kind", "no kind", "setting", "newer") else "params.npz"
    expected = SPOILED[how] if how in ("no json", "newer") else f"{file} was damaged or changed after"
    with pytest.raises(CheckpointError, match=expected) as caught:
        load(saved)
    assert str(saved) in str(caught.value) and "\n" not in str(caught.value)


def test_either_form_of_the_arrays_is_enough(kind, saved):
    (saved / "params.npz").unlink()
    np.testing.assert_array_equal(load(saved).variables_["params"]["line"]["slope"], np.arange(6.0).reshape(2, 3))
    shutil.rmtree(saved / "orbax")
    with pytest.raises(CheckpointError, match="params.npz is missing"):
        load(saved)


def test_the_export_is_read_where_there_is_no_orbax_checkpoint(kind, saved):
    shutil.rmtree(saved / "orbax")
    np.testing.assert_array_equal(load(saved).variables_["params"]["line"]["slope"], np.arange(6.0).reshape(2, 3))


def test_checksums_cannot_be_left_out(saved):
    (saved / "checksums.json").unlink()
    with pytest.raises(CheckpointError, match="checksums.json is missing"):
        load(saved)


def test_the_model_card_describes_the_model(saved):
    card = (saved / "README.md").read_text()
    assert "2 networks of 3 parameters, a." in card and "- `unit`: 'pA'" in card and "StandardCheckpointer" in card
    assert "License of the model: not stated." in card and "{" not in card.replace("{}", "")
    info = json.loads((saved / "model_info.json").read_text())
    assert info["kind"] == "Line" and info["requirements"]["jaxephys"] and info["label_conversion"] == {}


def test_what_the_user_adds_to_the_card_is_kept_by_later_saves(kind, tmp_path):
    scores = [{"model": "line", "accuracy": "0.9 [0.8, 1.0]"}, {"model": "baseline", "accuracy": "0.8"}]
    about = {"license": "cc-by-4.0", "data_license": "CC0", "training_data": "Slices of {one} mouse.", "scores": scores}
    folder = kind().fit(np.zeros((1, 1)), "b").save(tmp_path / "first", about=about)
    model = load(folder)
    assert model.about_ == about
    again = model.save(tmp_path / "second", about={"authors": "A laboratory"})
    card, info = (again / "README.md").read_text(), json.loads((again / "model_info.json").read_text())
    assert card.startswith("---\n") and 'license: "cc-by-4.0"' in card.split("---")[1]
    for text in (
        "Slices of {one} mouse.",
        "| line | 0.9 [0.8, 1.0] |",
        "Authors: A laboratory.",
        "training data: CC0.",
    ):
        assert text in card
    assert info["scores"] == scores and info["authors"] == "A laboratory"


@pytest.mark.parametrize(
    "about, expected",
    [({"licence": "mit"}, "has no entry 'licence': choose from license"), ({"scores": "good"}, "give a list of dicts")],
)
def test_an_entry_of_the_card_that_does_not_exist_is_refused(kind, tmp_path, about, expected):
    with pytest.raises(ValueError, match=expected):
        kind().fit(np.zeros((1, 1)), "b").save(tmp_path / "model", about=about)
    assert not (tmp_path / "model").exists()


def test_a_class_without_an_exported_form_is_one_sentence(kind):
    with pytest.raises(ValueError, match="a Line has no exported form: save it"):
        kind().fit(np.zeros((1, 1)), "b").export_program()


def test_a_folder_without_a_model_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(CheckpointError, match="holds no saved model$"):
            load(path)


@pytest.mark.parametrize("config", [True, False])
def test_for_the_folder_of_an_unfinished_run_the_command_that_resumes_it_is_given(tmp_path, config):
    (tmp_path / "checkpoints").mkdir()
    if config:
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"has not finished, continue it with --resume {tmp_path}"):
        load(tmp_path)


def test_a_model_of_an_earlier_schema_is_migrated(kind, saved_before):
    """A file without a schema version is of version 0: the parameter ``unit`` was called ``scale`` and the slope ``s``."""

    @migration("Line", from_version=0)
    def rename(config, arrays):
        config["parameters"]["unit"] = config["parameters"].pop("scale")
        return config, {"params": {"line": {"slope": arrays["params"]["s"]}}}

    np.savez(saved_before / "params.npz", **{"params/s": np.ones((4, 2))})
    (saved_before / "config.json").write_text('{"kind": "Line", "parameters": {"scale": "nA"}, "name": "old"}')
    model = load(saved_before)
    assert (model.unit, model.name_, model.n_networks_) == ("nA", "old", 4)


def test_a_model_without_a_migration_is_unchanged():
    config, arrays = migrate({"kind": "unknown", "name": "a"}, {"params": 1})
    assert config == {"kind": "unknown", "name": "a", "schema_version": SCHEMA_VERSION} and arrays == {"params": 1}


def test_networks_and_parameters_of_one_network_are_counted(kind):
    model = kind()
    model.variables_ = {"params": {"a": np.zeros((7, 2, 3)), "b": {"c": np.zeros((7, 4))}}, "stats": np.zeros(7)}
    assert (model.n_networks_, model.n_parameters_) == (7, 10)


def test_the_prediction_of_an_ensemble_is_the_mean_of_its_runs():
    values = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]])
    np.testing.assert_array_equal(mean_over_runs(values, per_network=False), [[0.5, 0.5]])
    assert mean_over_runs(values, per_network=True) is values


def test_a_score_row_holds_plain_numbers():
    row = score_row("ensemble", {"accuracy": np.float32(0.5)}, 8)
    assert row == {"network": "ensemble", "accuracy": 0.5, "n": 8} and type(row["accuracy"]) is float
