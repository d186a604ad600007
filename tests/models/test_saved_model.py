"""The files of a model folder: written whole or not at all, read by Orbax and NumPy, and every damage is reported in one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
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
        "stats": {
            "steps": np.array([3, 4], np.int32),
            "is_used": np.array([True, False]),
            "none": np.zeros((2, 0), np.float32),
        },
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
        names = {"params/body/w", "params/head/w", "stats/steps", "stats/is_used", "stats/none"}
        assert set(file.files) == names
        np.testing.assert_array_equal(file["params/body/w"], variables["params"]["body"]["w"])
    assert json.loads((folder / "config.json").read_text()) == CONFIG | {"empty_arrays": {"stats/none": ["<f4", 2, 0]}}


def test_a_plain_orbax_checkpointer_restores_the_arrays(tmp_path, variables):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    found = ocp.StandardCheckpointer().restore(folder / "orbax")
    del variables["stats"]["none"]  # Orbax stores no array without entries
    assert jax.tree.structure(found) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, variables)


def test_the_import_of_the_package_does_not_import_orbax():
    code = "import sys, jaxephys; print('orbax' in sys.modules or 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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


# A save is killed at the call of a function, in another process; "previous" is the move of an old model out of the way.
KILLED = """
import os, sys, numpy as np
from jaxephys.models import saved_model
moment, folder = sys.argv[1:]
def kill(*arguments, **options):
    os._exit(9)
def move_and_kill(*arguments):
    os.rename(*arguments)
    os.replace = kill
def replace_folder(*arguments):
    os.replace = move_and_kill
    original(*arguments)
original = saved_model._replace
name = {"start": "write_tree", "written": "_verify", "previous": "_replace"}[moment]
setattr(saved_model, name, replace_folder if moment == "previous" else kill)
saved_model.write_model(folder, {"params": {"w": np.ones((1, 2))}}, {"task": "new"}, overwrite=True)
"""


@pytest.mark.parametrize("moment", ["start", "written", "previous"])
def test_a_killed_save_leaves_no_half_model(tmp_path, variables, moment):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    root, command = Path(__file__).parents[2], [sys.executable, "-c", KILLED, moment, str(folder)]
    assert subprocess.run(command, cwd=root, env={**os.environ, "JAX_PLATFORMS": "cpu"}).returncode == 9
    if moment == "previous":
        assert not folder.exists()
        (folder,) = tmp_path.glob(".model-*-previous")
    assert read_model(folder)[1] == CONFIG
    write_model(tmp_path / "model", variables, {"task": "other"}, overwrite=True)
    assert read_model(tmp_path / "model")[1] == {"task": "other"}


def test_what_cannot_be_read_back_is_not_kept(tmp_path, variables, monkeypatch):
    def savez(path, **arrays):
        arrays["stats/steps"] = arrays["stats/steps"] + 1
        original(path, **arrays)

    original = np.savez
    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(CheckpointError, match="is read back changed: check the disk"):
        write_model(tmp_path / "model", variables, CONFIG)
    assert list(tmp_path.iterdir()) == []


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_changed_byte_is_refused_with_the_name_of_the_file(tmp_path, variables):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    rng = np.random.default_rng(0)
    for path in files_of(folder):
        whole = path.read_bytes()
        for offset in rng.choice(len(whole), min(len(whole), 25), replace=False):
            path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x5A]) + whole[offset + 1 :])
            with pytest.raises(CheckpointError) as error:
                read_model(folder)
            assert_one_sentence(error)
            assert path.suffix == ".json" or str(path) in str(error.value)
        path.write_bytes(whole)
    assert read_model(folder)[1] == CONFIG


def test_a_truncated_file_is_reported_in_one_sentence(tmp_path, variables):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    for path in files_of(folder):
        whole = path.read_bytes()
        for length in range(0, len(whole) - 2, max(1, len(whole) // 8)):
            path.write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match="save it again") as error:
                read_model(folder)
            assert_one_sentence(error)
        path.write_bytes(whole)


def test_a_changed_setting_is_refused_and_white_space_is_not(tmp_path, variables):
    path = write_model(tmp_path / "model", variables, CONFIG) / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config))
    assert read_model(tmp_path / "model")[1] == CONFIG
    path.write_text(json.dumps(config | {"hidden": 4}))
    with pytest.raises(CheckpointError, match="config.json was damaged or changed"):
        read_model(tmp_path / "model")


def test_a_changed_description_is_refused_and_an_edited_model_card_is_a_warning(tmp_path, variables):
    texts = {"README.md": "# A model", "model_info.json": '{"task": "toy"}'}
    folder = write_model(tmp_path / "model", variables, CONFIG, texts=texts)
    assert {name: (folder / name).read_text() for name in texts} == texts
    (folder / "README.md").write_text("# A model of interneurons")
    with pytest.warns(UserWarning, match=r"README.md was edited after the model was saved"):
        assert read_model(folder)[1] == CONFIG
    (folder / "model_info.json").write_text('{"task": "tox"}')
    with pytest.raises(CheckpointError, match=r"model_info.json was damaged or changed"):
        read_model(folder)


def test_a_model_without_descriptions_and_one_that_lost_them_are_read(tmp_path, variables):
    folder = write_model(tmp_path / "model", variables, CONFIG, texts={"README.md": "#", "model_info.json": "{}"})
    (folder / "README.md").unlink()
    (folder / "model_info.json").unlink()
    assert read_model(folder)[1] == CONFIG


@pytest.mark.parametrize("name", ["checksums.json", "config.json", "orbax/manifest.ocdbt"])
def test_a_missing_file_is_named(tmp_path, variables, name):
    folder = write_model(tmp_path / "model", variables, CONFIG | {"schema_version": 3})
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"is no saved model: {Path(name).name} is missing"):
        read_model(folder)


def test_two_files_of_an_earlier_version_are_read(tmp_path, variables):
    folder = write_model(tmp_path / "model", variables, CONFIG)
    shutil.rmtree(folder / "orbax")
    (folder / "checksums.json").unlink()
    found, config = read_model(folder)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    assert config == CONFIG


def test_a_folder_without_a_model_is_reported_in_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match=r"is no saved model: config.json is missing"):
        read_model(tmp_path / "nowhere")
