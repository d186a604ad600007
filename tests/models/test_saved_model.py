"""The two files of a model folder: written whole or not at all, and every damage is reported in one sentence."""

import json

import jax
import numpy as np
import pytest

from jaxephys.engine.checkpoint import CheckpointError
from jaxephys.models.saved_model import read_model, write_model


def assert_one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert 20 < len(text) < 400


CONFIG = {"task": "toy", "hidden": 3, "classes": ["Lamp5", "Pvalb"]}


@pytest.fixture
def variables():
    rng = np.random.default_rng(0)
    return {
        "params": {
            "body": {"w": rng.normal(size=(2, 5, 3)).astype(np.float32)},
            "head": {"w": np.ones((2, 3), np.float16)},
        },
        "stats": {"steps": np.array([3, 4], np.int32)},
    }


def test_arrays_and_config_are_read_back(tmp_path, variables):
    folder = write_model(tmp_path / "deep" / "model", jax.tree.map(jax.numpy.asarray, variables), CONFIG)
    found, config = read_model(folder)
    assert config == CONFIG
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, variables)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_the_files_are_plain_numpy_and_json(tmp_path, variables):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    with np.load(folder / "params.npz", allow_pickle=False) as file:
        assert set(file.files) == {"params/body/w", "params/head/w", "stats/steps"}
    assert json.loads((folder / "config.json").read_text()) == CONFIG


def test_an_existing_folder_is_replaced_only_with_overwrite(tmp_path, variables):
    write_model(tmp_path / "model", variables, CONFIG)
    with pytest.raises(ValueError, match="exists: choose another name or pass overwrite=True"):
        write_model(tmp_path / "model", variables, {"task": "other"})
    assert read_model(tmp_path / "model")[1] == CONFIG
    write_model(tmp_path / "model", variables, {"task": "other"}, overwrite=True)
    assert read_model(tmp_path / "model")[1] == {"task": "other"}


def test_a_failed_write_leaves_the_old_model_and_no_other_files(tmp_path, variables):
    write_model(tmp_path / "model", variables, CONFIG)
    with pytest.raises(TypeError):
        write_model(tmp_path / "model", variables, {"not": object()}, overwrite=True)
    assert read_model(tmp_path / "model")[1] == CONFIG
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["params.npz", "config.json"])
def test_a_truncated_file_is_reported_in_one_sentence(tmp_path, variables, name):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    whole = (folder / name).read_bytes()
    for length in range(0, len(whole) - 2, max(1, len(whole) // 40)):
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is damaged: save it again") as error:
            read_model(folder)
        assert_one_sentence(error)


def test_a_flipped_byte_is_refused_or_harmless(tmp_path, variables):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    whole = (folder / "params.npz").read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for offset in rng.choice(len(whole), 300, replace=False):
        (folder / "params.npz").write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x5A]) + whole[offset + 1 :])
        try:
            found = read_model(folder)[0]
        except CheckpointError:
            refused += 1
        else:
            for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(variables), strict=True):
                np.testing.assert_array_equal(left, right)
    assert refused > 100


@pytest.mark.parametrize("name", ["params.npz", "config.json"])
def test_a_missing_file_is_named(tmp_path, variables, name):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"is no saved model: {name} is missing"):
        read_model(folder)


def test_a_folder_without_a_model_is_reported_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no saved model: config.json is missing"):
        read_model(tmp_path / "nowhere")
