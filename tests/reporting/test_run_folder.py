"""Run folders: a run is not resumed with other data, and hyperparameters are searched."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from jaxephys.engine.fit import fit
from jaxephys.reporting import run_folder
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings
from tests.engine.linear_task import DATA, TASK, TRAIN_CONFIG, make_grid


def test_a_run_is_not_resumed_with_other_data(tmp_path):
    def announce(data: np.ndarray, settings: Settings) -> None:
        RunFolder(tmp_path, "test", settings, [], Console(quiet=True)).announce_run(1, cells=data)

    resumed = Settings(resume=tmp_path)
    announce(np.zeros(3), resumed)  # the run was killed before it wrote a manifest
    announce(np.zeros(3), resumed)
    with pytest.raises(ValueError, match="the data of cells are not those"):
        announce(np.ones(3), resumed)
    announce(np.ones(3), Settings())
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="damaged: remove it"):
        announce(np.ones(3), resumed)


def test_options_of_the_run_replace_those_of_the_training(tmp_path, monkeypatch):
    grid, inputs = make_grid(range(2))
    configs = []
    monkeypatch.setattr(run_folder, "fit", lambda *arguments, **_: configs.append(arguments[4]) or fit(*arguments))
    for settings in (Settings(), Settings(run_batch=1, precision="float32", execution="vmap")):
        folder = RunFolder(tmp_path, "test", settings, [], Console(quiet=True))
        folder.fit(TASK, DATA, inputs, grid, replace(TRAIN_CONFIG, max_epochs=1))
    default, chosen = configs
    assert default == replace(TRAIN_CONFIG, max_epochs=1)
    assert chosen == replace(default, run_batch=1, precision="float32", execution="vmap")


def test_levels_of_hyperparameters_are_trained_and_the_best_are_reported(tmp_path):
    grid, inputs = make_grid(range(2))
    config = replace(TRAIN_CONFIG, max_epochs=3, chunk_epochs=3)
    settings = Settings(search=("learning_rate=1e-6,3e-2", "scale=1"))
    folder = RunFolder(tmp_path, "test", settings, [], Console(quiet=True))
    result = folder.fit(TASK._replace(searchable=("scale",)), DATA, inputs, grid, config)
    assert result.grid == grid
    rows = list(csv.DictReader((tmp_path / "search.csv").read_text().splitlines()))
    assert [(row["learning_rate"], row["chosen"]) for row in rows] == [("1e-06", "0"), ("0.03", "1")] * 2
    trained = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [row["scale"] for row in trained] == ["1.0"] * 4
    best = [row["best_score"] for row in trained if row["learning_rate"] == "0.03"]
    np.testing.assert_allclose(result.run_results.best_score, np.asarray(best, float), rtol=1e-6)
    folder.write_report([], "Title", "Introduction.", {}, {}, [])
    report = (tmp_path / "report.md").read_text()
    assert "Hyperparameters of test" in report and "2 of 2" in report and "Test rows had no part in it" in report
