"""Models, checkpoints and run folders that earlier versions have written load, predict the same and can be resumed."""

import csv
import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxephys
from jaxephys.engine.checkpoint import CheckpointError, read_runs, restore, restore_run
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import Status
from jaxephys.evaluation.splits import hold_out
from jaxephys.patchseq.synthetic import make_synthetic_cells
from tests.checkpoints.write_fixtures import FIXTURES, HERE
from tests.experiments.command import run

VERSIONS = sorted(path.name for path in HERE.iterdir() if (path / "run_folder").is_dir())
# All folders of saved models. Schema version 2 was never released; it is what tests and documents of that time have written.
SAVED = [*VERSIONS, "schema-2"]
VARIANTS = ("bilstm", "attention", "attention+smote", "arcface+smote")
RENAMED = {"baseline": "bilstm"}  # variants of version 0.1.0
GRID = RunGrid.cross(variant=VARIANTS, seed=range(1))
CONFIG = TrainConfig(max_epochs=6, learning_rate=3e-3)


def read_scores(folder: Path) -> dict[tuple[str, str, str], float]:
    with open(folder / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    names = [RENAMED.get(row["variant"], row["variant"]) for row in rows]
    return {(name, row["seed"], row["metric"]): float(row["value"]) for name, row in zip(names, rows, strict=True)}


def test_there_are_fixtures():
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize("version", SAVED)
@pytest.mark.parametrize("name", FIXTURES)
def test_a_saved_model_loads_and_predicts_the_same(version, name):
    fixture, folder = FIXTURES[name], HERE / version
    model = jaxephys.load(folder / name)
    config = json.loads((folder / name / "config.json").read_text())
    assert version in (config["version"], f"schema-{config.get('schema_version', 0)}")
    with np.load(folder / f"{name}_predictions.npz") as file:
        expected = dict(file)
    predictions = fixture.predict(model, fixture.read(folder / fixture.inputs))
    assert predictions.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(predictions[key], values, rtol=1e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("version", SAVED)
@pytest.mark.parametrize("name", FIXTURES)
def test_a_model_that_is_saved_again_is_the_same(version, name, tmp_path):
    fixture, folder = FIXTURES[name], HERE / version
    model, inputs = jaxephys.load(folder / name), fixture.read(folder / fixture.inputs)
    again = jaxephys.load(model.save(tmp_path / name))
    assert again.get_params() == model.get_params()
    jax.tree.map(np.testing.assert_array_equal, fixture.predict(again, inputs), fixture.predict(model, inputs))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_model_of_a_run_folder_has_the_accuracy_that_was_reported(version):
    folder = HERE / version / "run_folder"
    model, cells = jaxephys.load(folder), make_synthetic_cells(200).table
    row = model.score_table(cells.rows(hold_out(cells.codes(), 0).test))[0]
    assert row["accuracy"] == pytest.approx(read_scores(folder)["attention", "0", "accuracy"], abs=1e-6)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_of_the_same_grid_is_restored(version):
    snapshot = restore(HERE / version / "run_folder" / "checkpoints", GRID, CONFIG)
    assert snapshot is not None and not snapshot.finished
    np.testing.assert_array_equal(snapshot.ids, np.arange(4))
    np.testing.assert_array_equal(snapshot.state["epoch"], np.full(4, 5))
    trained = np.isfinite(snapshot.history["train_loss"])
    np.testing.assert_array_equal(trained, np.broadcast_to(np.arange(6) < 5, (4, 6)))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_is_restored_by_the_names_it_was_written_with(version):
    old = RunGrid.cross(variant=("baseline", *VARIANTS[1:]), seed=range(1))
    assert restore(HERE / version / "run_folder" / "checkpoints", old, CONFIG) is not None
    other = RunGrid.cross(variant=("lstm", *VARIANTS[1:]), seed=range(1))
    with pytest.raises(CheckpointError, match="or they have other names"):
        restore(HERE / version / "run_folder" / "checkpoints", other, CONFIG)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_of_another_config_is_refused(version):
    with pytest.raises(CheckpointError, match="is of another grid: learning_rate was 0.003 and is 0.001"):
        restore(HERE / version / "run_folder" / "checkpoints", GRID, TrainConfig(max_epochs=6))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("index", range(4))
def test_one_run_of_a_checkpoint_is_restored(version, index):
    folder = HERE / version / "run_folder" / "checkpoints"
    result = restore_run(folder, index)
    history = restore(folder, GRID, CONFIG).history["valid_macro_f1"][index, :5]
    assert (result.epochs, result.status) == (5, Status.RUNNING)
    assert (result.best_score, result.best_epoch) == (history.max(), history.argmax() + 1)
    model = jaxephys.load(HERE / version / "run_folder")
    shapes = jax.tree.map(lambda leaf: leaf.shape[1:], model.variables_["params"])
    assert jax.tree.map(np.shape, result.best["params"]) == shapes


@pytest.mark.parametrize("version", VERSIONS)
def test_runs_are_not_loaded_from_checkpoints_without_a_description(version):
    with pytest.raises(CheckpointError, match="an earlier version has trained them: read the variables of a run with"):
        jaxephys.load(HERE / version / "run_folder", run=1)
    runs = read_runs(HERE / version / "run_folder" / "checkpoints")
    assert runs.coordinates(1) == {"variant": "attention", "seed": "0"} and runs.epochs.tolist() == [5] * 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_folder_is_resumed_to_the_same_scores(version, tmp_path):
    """The last of six epochs is trained again, from the checkpoint of the fifth, with all optimizations as then."""
    folder = Path(shutil.copytree(HERE / version / "run_folder", tmp_path / "run"))
    (folder / "scores.csv").unlink()
    shutil.rmtree(folder / "model")
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"] + "-optimized"
    environment = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "JAX_COMPILATION_CACHE_DIR": cache}
    done = run("experiments.quickstart", "--resume", str(folder), cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "resuming from the last checkpoint" in done.stderr
    scores, expected = read_scores(folder), read_scores(HERE / version / "run_folder")
    assert scores.keys() == expected.keys()
    for key, value in expected.items():
        assert scores[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
