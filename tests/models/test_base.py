"""Saving and finding again, with a model of two arrays: every folder that holds none is one sentence."""

import json

import numpy as np
import pytest

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.models.base import SavedModel, count_parameters, load, mean_over_runs


@pytest.fixture
def kind(monkeypatch):
    """A model class that is known during one test."""
    monkeypatch.setattr(SavedModel, "_kinds", dict(SavedModel._kinds))

    class Line(SavedModel):
        def __init__(self, slope, name):
            self.slope, self.name = slope, name

        def _arrays(self):
            return {"params": {"line": {"slope": self.slope}}}

        def _settings(self):
            return {"name": self.name}

        @classmethod
        def _from_saved(cls, arrays, settings):
            return cls(arrays["params"]["line"]["slope"], settings["name"])

        def describe(self):
            return self.name

    return Line


@pytest.fixture
def saved(kind, tmp_path):
    return kind(np.arange(6.0).reshape(2, 3), "a").save(tmp_path / "deep" / "model")


def change(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_a_saved_model_is_found_by_its_kind(kind, saved):
    model = load(saved)
    assert type(model) is kind and model.name == "a"
    np.testing.assert_array_equal(model.slope, np.arange(6.0).reshape(2, 3))
    assert json.loads((saved / "config.json").read_text())["version"]


def test_the_folder_of_a_finished_run_will_do(saved):
    (saved.parent / "checkpoints").mkdir()
    assert load(saved.parent).describe() == "a"


def test_an_existing_folder_is_replaced_only_when_asked(kind, saved):
    other = kind(np.zeros((1, 1)), "b")
    with pytest.raises(ValueError, match=r"exists: choose another name or pass overwrite=True"):
        other.save(saved)
    assert load(saved).describe() == "a"
    other.save(saved, overwrite=True)
    assert load(saved).describe() == "b"
    assert [path.name for path in saved.parent.iterdir()] == ["model"], "nothing is left beside it"


def test_a_save_that_fails_leaves_the_old_model(kind, saved):
    with pytest.raises(TypeError):
        kind(np.zeros((1, 1)), {1, 2}).save(saved, overwrite=True)  # a set is no JSON
    assert load(saved).describe() == "a"
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
    elif how == "array":
        np.savez(params, x=np.zeros(3))
    elif how == "setting":
        (folder / "config.json").write_text('{"kind": "Line"}')


SPOILED = {
    "truncated": "damaged: save it again",
    "emptied": "damaged: save it again",
    "bit": "damaged: save it again",
    "npy": "damaged: save it again",
    "pickle": "damaged: save it again",
    "no params": "params.npz is missing",
    "no json": "damaged: save it again",
    "kind": "of the kind 'Cube': this version knows .*Line",
    "array": "lacks 'params': save it again",
    "setting": "lacks 'name': save it again",
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_model_is_one_sentence(saved, how):
    spoil(saved, how)
    with pytest.raises(CheckpointError, match=SPOILED[how]) as caught:
        load(saved)
    assert str(saved) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_model_says_so(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(CheckpointError, match="holds no saved model$"):
            load(path)


@pytest.mark.parametrize("config", [True, False])
def test_the_folder_of_an_unfinished_run_says_how_to_go_on(tmp_path, config):
    (tmp_path / "checkpoints").mkdir()
    if config:
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"has not ended, go on with --resume {tmp_path}"):
        load(tmp_path)


def test_parameters_are_counted_for_one_run():
    assert (
        count_parameters({"params": {"a": np.zeros((7, 2, 3)), "b": {"c": np.zeros((7, 4))}}, "stats": np.zeros(7)})
        == 10
    )


def test_the_answer_of_an_ensemble_is_the_mean_of_its_runs():
    values = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]])
    np.testing.assert_array_equal(mean_over_runs(values, per_seed=False), [[0.5, 0.5]])
    assert mean_over_runs(values, per_seed=True) is values
