"""Runs of a grid are loaded from its checkpoints as estimators: by number, by levels or the best one, and at any stored step."""

import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxephys
from jaxephys.cli import main
from jaxephys.engine.checkpoint import CheckpointError, read_runs, restore, restore_run
from jaxephys.engine.fit import fit, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import Status
from jaxephys.models.base import EnsembleEstimator
from jaxephys.models.run_template import RunTemplate
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from tests.engine.linear_task import DATA, TASK, make_grid
from tests.engine.test_checkpoint import BATCHED, GRID, INPUTS, LONG, assert_same_runs, train

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class LinearModel(EnsembleEstimator):
    """An estimator of the networks of `tests.engine.linear_task`."""

    def __init__(self, color="none", shape="line", seeds=1, random_state=0):
        self.color = color
        self.shape = shape
        self.seeds = seeds
        self.random_state = random_state

    def fit(self):
        raise NotImplementedError("its runs are trained as grids")

    def template(self, n_runs):
        colors = [{"color": "red" if run < 2 else "blue", "shape": "line"} for run in range(n_runs)]
        return RunTemplate(self._config({"unit": "mV"}), {"constants": {"offset": np.arange(n_runs)}}, colors)

    def _saved_arrays(self):
        return {**self.variables_, "constants": {"offset": self.offset_}}

    def _saved_settings(self):
        return {"unit": self.unit_}

    def _restore(self, arrays, config):
        self.offset_, self.unit_ = arrays.pop("constants")["offset"], config["unit"]
        self.variables_ = arrays

    def _summary(self):
        return f"in {self.unit_}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An experiment that has ended: the folder, and the result of its grid of five seeds."""
    folder = tmp_path_factory.mktemp("finished")
    LinearModel().template(len(GRID)).write(folder / "checkpoints")
    return folder, fit(TASK, DATA, INPUTS, GRID, LONG, folder=folder / "checkpoints")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Interrupted after the fourth chunk, of which the last two have been stored; in batches of two of five runs."""
    folder = tmp_path_factory.mktemp("interrupted") / "checkpoints"
    LinearModel().template(len(GRID)).write(folder)
    assert train(folder, BATCHED, interrupt=4) is None
    return folder


def assert_variables(model, result, runs):
    jax.tree.map(np.testing.assert_array_equal, model.variables_, take_runs(result.best, runs))


def assert_one_sentence(error):
    assert "\n" not in str(error.value)
    assert 20 < len(str(error.value)) < 400


# ---- which run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", range(5))
def test_each_run_is_loaded_with_its_best_variables_and_settings(finished, run):
    folder, result = finished
    model = jaxephys.load(folder / "checkpoints", run=run)
    assert_variables(model, result, [run])
    assert type(model) is LinearModel and model.unit_ == "mV" and model.offset_.tolist() == [run]
    assert (model.color, model.random_state, model.seeds) == ("red" if run < 2 else "blue", GRID.seeds[run], 1)
    (row,), ends = model.training_, result.run_results
    expected = (GRID.name(run), int(ends.epochs[run]), int(ends.best_epoch[run]), float(ends.best_score[run]))
    assert (row["run"], row["epochs"], row["best_epoch"], row["best_score"]) == expected
    assert row["status"] == Status(int(ends.status[run])).name.lower()


def test_a_run_is_found_by_its_levels(finished):
    folder, result = finished
    for run in range(len(GRID)):
        assert_variables(jaxephys.load(folder, run={"seed": int(GRID.seeds[run])}), result, [run])


def test_the_default_is_the_run_with_the_best_validation_score(finished):
    folder, result = finished
    for path in (folder, folder / "checkpoints", str(folder)):
        assert_variables(jaxephys.load(path), result, [int(result.run_results.best_score.argmin())])


def test_several_runs_are_an_ensemble(finished):
    folder, result = finished
    model = jaxephys.load(folder, run=[3, 1])
    assert_variables(model, result, [3, 1])
    assert model.n_networks_ == model.seeds == 2 and model.offset_.tolist() == [3, 1]
    assert (model.color, model.shape) == ("none", "line"), "the runs differ in their color"
    assert [row["run"] for row in model.training_] == [GRID.name(3), GRID.name(1)]


def test_a_loaded_run_is_saved_as_a_model(finished, tmp_path):
    model = jaxephys.load(finished[0], run=2)
    again = LinearModel.load(model.save(tmp_path / "model"))
    jax.tree.map(np.testing.assert_array_equal, again._saved_arrays(), model._saved_arrays())
    assert again.training_ == model.training_ and again.get_params() == model.get_params()


def test_of_several_runs_with_a_level_the_best_on_validation_is_loaded(tmp_path):
    grid = RunGrid.cross(variant=("small net", "large"), seed=range(2))
    inputs = make_grid(range(4))[1]
    LinearModel().template(4).write(tmp_path)
    result = fit(TASK, DATA, inputs, grid, replace(LONG, max_epochs=4), folder=tmp_path)
    best = 2 + int(result.run_results.best_score[2:].argmin())
    assert_variables(jaxephys.load(tmp_path, run={"variant": "large"}), result, [best])
    assert_variables(jaxephys.load(tmp_path, run={"variant": "small net", "seed": 1}), result, [1])
    assert jaxephys.load(tmp_path, run={"variant": "large"}).random_state == grid[best]["seed"]


MISTAKES = {
    "there is no run 5: the grid has 5, counted from 0": {"run": 5},
    "there is no run -1": {"run": -1},
    "no factor 'fold': they have seed": {"run": {"fold": 1}},
    "no run has the levels {'seed': 77}: the first is seed=": {"run": {"seed": 77}},
    "holds no step 99: choose among": {"step": 99},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_run_or_step_that_does_not_exist_is_one_sentence(finished, message):
    with pytest.raises(CheckpointError) as error:
        jaxephys.load(finished[0], **MISTAKES[message])
    assert message in str(error.value)
    assert_one_sentence(error)


# ---- which step ------------------------------------------------------------------------------------------------------


def test_the_last_step_of_a_training_that_has_ended_holds_all_results(finished):
    folder, result = finished
    runs = read_runs(folder / "checkpoints")
    np.testing.assert_array_equal(runs.status, result.run_results.status)
    np.testing.assert_array_equal(runs.epochs, result.run_results.epochs)
    np.testing.assert_array_equal(runs.best_score, result.run_results.best_score)
    assert runs.names == tuple(GRID.name(run) for run in range(len(GRID))) and runs.config["monitor"] == "mse"


def test_a_training_that_has_ended_is_not_trained_again(finished, tmp_path):
    folder, result = finished
    copy = shutil.copytree(folder / "checkpoints", tmp_path / "copy")
    again = fit(TASK, DATA, INPUTS, GRID, LONG, folder=copy)
    assert_same_runs(again, result)
    assert again.compile_seconds == 0
    assert read_runs(copy).steps == read_runs(folder / "checkpoints").steps


def test_an_earlier_step_is_loaded(interrupted):
    first, last = read_runs(interrupted).steps
    assert (read_runs(interrupted, first).epochs[:2] < read_runs(interrupted, last).epochs[:2]).all()
    for step in (first, last):
        expected = restore_run(interrupted, 1, step)
        model = jaxephys.load(interrupted, run=1, step=step)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), model.variables_, expected.best)
        assert model.training_[0]["epochs"] == expected.epochs == read_runs(interrupted, step).epochs[1]
    assert jaxephys.load(interrupted, run=1).training_ == jaxephys.load(interrupted, run=1, step=last).training_


def test_a_run_that_has_not_begun_is_one_sentence(interrupted):
    assert read_runs(interrupted).epochs[4] == 0
    with pytest.raises(CheckpointError, match=f"the run {GRID.name(4)} has not been trained yet") as error:
        jaxephys.load(interrupted, run=4)
    assert_one_sentence(error)
    with pytest.raises(CheckpointError, match="holds no run 4: it has not begun"):
        restore_run(interrupted, 4)
    assert jaxephys.load(interrupted).training_[0]["run"] in (GRID.name(0), GRID.name(1)), "the best that has begun"


def test_what_is_read_of_a_run_is_what_training_continues_from(interrupted):
    snapshot = restore(interrupted, GRID, BATCHED)
    for slot, run in enumerate(snapshot.ids.tolist()):
        found = restore_run(interrupted, run).best
        np.testing.assert_array_equal(found["params"]["head"]["w"], snapshot.state["best_params"]["head"]["w"][slot])


# ---- which folder ----------------------------------------------------------------------------------------------------


def test_a_saved_model_is_preferred_unless_a_run_is_given(finished, tmp_path):
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    (folder / "config.json").write_text("{}")
    jaxephys.load(folder, run=[0, 1, 2]).save(folder / "model")
    assert jaxephys.load(folder).n_networks_ == 3
    assert jaxephys.load(folder, run=0).n_networks_ == 1
    assert jaxephys.load(folder, step=read_runs(folder / "checkpoints").steps[-1]).n_networks_ == 1
    with pytest.raises(CheckpointError, match="holds no checkpoints: give run and step with the folder") as error:
        jaxephys.load(folder / "model", run=0)
    assert_one_sentence(error)


def test_one_of_several_grids_is_named(finished, tmp_path):
    for name in ("checkpoints_a", "checkpoints_b"):
        shutil.copytree(finished[0] / "checkpoints", tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="several grids: give one of its folders checkpoints_a, checkpoints_b"):
        jaxephys.load(tmp_path)
    assert jaxephys.load(tmp_path / "checkpoints_b", run=1).offset_.tolist() == [1]
    shutil.rmtree(tmp_path / "checkpoints_a")
    assert jaxephys.load(tmp_path, run=1).offset_.tolist() == [1]


def test_one_of_several_models_is_named(finished, tmp_path):
    for name in ("a", "b"):
        jaxephys.load(finished[0]).save(tmp_path / "model" / name)
    with pytest.raises(CheckpointError, match="model holds the models a, b: give the folder of one of them"):
        jaxephys.load(tmp_path)


def test_runs_without_an_estimator_are_refused_with_what_can_be_done(finished, tmp_path):
    folder = shutil.copytree(finished[0] / "checkpoints", tmp_path / "checkpoints")
    shutil.rmtree(folder / "estimator")
    with pytest.raises(
        CheckpointError, match=r"cannot be loaded, .*: read .* jaxephys.engine.checkpoint.restore_run"
    ) as error:
        jaxephys.load(tmp_path)
    assert_one_sentence(error)
    jax.tree.map(
        np.testing.assert_array_equal, restore_run(folder, 2).best, jax.tree.map(lambda x: x[2], finished[1].best)
    )


def test_a_changed_description_of_the_runs_is_refused(finished, tmp_path):
    folder = shutil.copytree(finished[0] / "checkpoints", tmp_path / "checkpoints")
    (folder / "estimator" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="estimator/config.json was damaged or changed"):
        jaxephys.load(tmp_path)


# ---- run folders -----------------------------------------------------------------------------------------------------


def test_runs_of_a_search_are_loaded_with_their_levels(tmp_path):
    grid, inputs = make_grid(range(2))
    settings = Settings(search=("learning_rate=1e-6,3e-2",))
    folder = RunFolder(tmp_path, "test", settings, [], Console(quiet=True))
    config = replace(LONG, max_epochs=4)
    folder.fit(TASK, DATA, inputs, grid, config, template=LinearModel().template(2))
    names = read_runs(tmp_path / "checkpoints").names
    assert names == tuple(f"seed={seed} learning_rate={rate}" for seed in grid.seeds for rate in (1e-06, 0.03))
    offsets = [jaxephys.load(tmp_path, run=run).offset_.item() for run in range(4)]
    assert offsets == [0, 0, 1, 1]
    level = {"seed": int(grid.seeds[1]), "learning_rate": 0.03}
    assert jaxephys.load(tmp_path, run=level).training_[0]["run"] == names[3]


def test_a_resumed_run_keeps_the_description_of_its_runs(tmp_path):
    folder = tmp_path / "checkpoints"
    LinearModel().template(len(GRID)).write(folder)
    before = (folder / "estimator" / "config.json").stat().st_mtime_ns
    LinearModel("other").template(len(GRID)).write(folder)
    assert (folder / "estimator" / "config.json").stat().st_mtime_ns == before


def test_info_lists_runs_steps_and_scores(finished, interrupted, tmp_path, capsys):
    def info(path):
        assert main(["info", str(path)]) == 0
        return capsys.readouterr().out

    folder, result = finished
    text = info(folder / "checkpoints")
    steps = ", ".join(map(str, read_runs(folder / "checkpoints").steps))
    assert f"checkpoints/: 5 runs at the steps {steps}; loaded by run and step; epochs are selected by mse" in text
    best = f"best validation score {result.run_results.best_score[2]:.4g} in epoch {result.run_results.best_epoch[2]}"
    assert f"   2  {GRID.name(2)}: " in text and best in text
    assert f"   4  {GRID.name(4)}: not begun" in info(interrupted)
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    jaxephys.load(folder, run=[0, 1]).save(copy / "model")
    (copy / "manifest.json").write_text('{"experiment": "lines", "status": "complete", "jaxephys": "9.9"}')
    header = "experiment,variant,train_on,test_on,seed,fold,split,metric,value,n\n"
    rows = "".join(f"lines,net,a,b,{seed},0,test,mse,{seed}.5,9\n" for seed in range(2))
    (copy / "scores.csv").write_text(header + rows)
    text = info(copy)
    for line in (
        "experiment lines, complete, by jaxephys 9.9",
        "  net (trained on a, tested on b): mse 1.000",
        "2 networks of 18 parameters, in mV",
        f"  {GRID.name(1)}: ",
    ):
        assert line in text
