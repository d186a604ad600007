"""Command line of the experiments: list, help, presets, run folders, and one-sentence messages for mistakes."""

import csv
import json
import sys

import numpy as np
import pytest

import jaxephys
from experiments import quickstart
from experiments.command_line import main
from jaxephys.patchseq.synthetic import make_synthetic_cells
from tests.experiments.command import only_run, run


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    done = run("experiments.quickstart", "smoke", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, only_run(folder)


def test_list_names_the_experiments(tmp_path):
    done = run("experiments", cwd=tmp_path)
    assert "experiments.quickstart" in done.stdout


def test_help_lists_presets_and_options(tmp_path):
    done = run("experiments.quickstart", "--help", cwd=tmp_path)
    for word in ("smoke", "--seeds", "--resume", "--device", "synthetic cells", "default: 10"):
        assert word in done.stdout


def test_first_lines_name_version_device_data_and_runs(smoke):
    printed = smoke[0].stderr
    for word in ("jaxephys 0", "CPU core", "sha256", "8 runs", "compiled in"):
        assert word in printed


def test_run_folder_is_complete(smoke):
    _, folder = smoke
    files = {path.name for path in folder.iterdir()}
    wanted = "config.json manifest.json runs.csv history.csv scores.csv predictions.npz checkpoints model figures report.md report.html"
    assert set(wanted.split()) == files
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["summary"]["verdict"].startswith("No conclusion from a smoke run.")
    assert "SMOKE" in (folder / "report.html").read_text()
    assert f'jaxephys.load("{folder.relative_to(folder.parents[2]).as_posix()}")' in (folder / "report.md").read_text()
    assert manifest["seeds"] == [0, 1]
    assert manifest["wall_seconds"] > manifest["run_seconds"] > 0
    with open(folder / "runs.csv") as file:
        assert len(list(csv.DictReader(file))) == 8
    for link in ("bars_macro_f1", "curves", "confusion", "attention"):
        assert f"figures/{link}.png" in (folder / "report.md").read_text()
        assert (folder / "figures" / f"{link}.csv").exists()


def test_baselines_are_in_the_score_table(smoke):
    with open(smoke[1] / "scores.csv") as file:
        variants = {row["variant"] for row in csv.DictReader(file)}
    assert variants == {"bilstm", "attention", "attention+smote", "arcface+smote", "logistic", "svm", "bayes"}


def test_predictions_reproduce_the_scores(smoke):
    file = np.load(smoke[1] / "predictions.npz")
    label = make_synthetic_cells(400).table.codes()
    with open(smoke[1] / "scores.csv") as scores:
        accuracy = [float(row["value"]) for row in csv.DictReader(scores) if row["metric"] == "accuracy"]
    for run_number, rows in enumerate(file["test"]):
        rows = rows[rows >= 0]
        assert (file["part"][run_number, rows] == 2).all()
        right = file["probability"][run_number, : len(rows)].argmax(axis=1) == label[rows]
        assert any(abs(right.mean() - value) < 1e-6 for value in accuracy)


def test_each_run_of_the_checkpoints_predicts_what_the_experiment_has_written(smoke):
    file, cells = np.load(smoke[1] / "predictions.npz"), make_synthetic_cells(400).table
    with open(smoke[1] / "runs.csv") as rows:
        levels = [{"variant": row["variant"], "seed": row["seed"]} for row in csv.DictReader(rows)]
    assert len(levels) == len(file["probability"])
    for index, expected in enumerate(file["probability"]):
        test = cells.rows(file["test"][index])
        for selected in (index, levels[index]):
            model = jaxephys.load(smoke[1], run=selected)
            np.testing.assert_allclose(model.predict_proba(test), expected, rtol=1e-5, atol=1e-6)
        assert (model.head == "arcface") == ("arcface" in levels[index]["variant"])
    with pytest.raises(ValueError, match="is not calibrated: call calibrate first"):
        model.predict_set(test)
    part = cells.rows(np.flatnonzero(file["part"][index] == 1))
    assert model.calibrate(part).predict_set(test).any(axis=0).sum() > 1
    assert model.temperature_ != 1.0


def test_saved_model_loads_and_predicts(smoke):
    model = jaxephys.load(smoke[1])
    assert model.predict_proba(make_synthetic_cells(400).table).shape == (400, 5)


MISTAKES = {
    "a preset that is misspelt": (("smok",), "did you mean 'smoke'?"),
    "a field that is misspelt": (("smoke", "--sedes", "3"), "did you mean '--seeds'?"),
    "a folder to resume that is none": (("--resume", "nowhere"), "nowhere is not a run folder"),
    "too few cells": (("smoke", "--cells", "20"), "too few"),
    "no seed": (("smoke", "--seeds", "0"), "the run grid is empty"),
    "no epochs": (("smoke", "--max-epochs", "0"), "max_epochs"),
    "an output folder that is a file": (("smoke", "--out", "file"), "choose another --out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_reported_in_one_sentence(mistake, tmp_path, monkeypatch, capsys):
    arguments, hint = MISTAKES[mistake]
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quickstart", *arguments])
    with pytest.raises(SystemExit) as ended:
        main("quickstart", quickstart.__doc__, quickstart.PRESETS, quickstart.run)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2
    assert last.startswith("error: ")
    assert hint in last
    assert not list(tmp_path.glob("runs/*/*")), "a failed invocation leaves no run folder"


@pytest.mark.parametrize(("device", "hint"), [("abacus", "abacus"), ("tpu", "'tpu' is not available")])
def test_unknown_or_absent_device_is_rejected(device, hint, tmp_path):
    done = run("experiments.quickstart", "smoke", "--device", device, cwd=tmp_path)
    assert done.returncode == 2
    assert hint in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/*"))


def test_full_disk_is_reported_in_one_sentence(tmp_path):
    cache = str(tmp_path / "cache")  # its files are cut short, too
    done = run("experiments.quickstart", "smoke", cwd=tmp_path, largest_file=4096, JAX_COMPILATION_CACHE_DIR=cache)
    assert done.returncode == 2
    assert "error: the checkpoint cannot be written to" in done.stderr
    assert "free space" in done.stderr
    assert not list(tmp_path.glob("runs/*/*/scores.csv"))
