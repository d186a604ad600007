"""Finished runs are compared side by side, and looked up for every table of the papers, from small hand-made run folders."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import main, papers
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.files import write_csv
from jaxephys.reporting.published_values import PublishedItem, PublishedPaper, PublishedRow
from jaxephys.reporting.results_page import results_page
from jaxephys.reporting.run_comparison import compare_runs
from jaxephys.reporting.run_facts import load_lines
from jaxephys.reporting.saved_run import read_run
from jaxephys.reporting.score_table import write_scores

MEANS = {"published net": 0.7, "net": 0.8, "svm": 0.75, "knn": 0.6}
EXPERIMENT = "demo"


def write_run(
    folder: Path, preset: str, shift: float = 0.0, *, models=tuple(MEANS), data: str = "aa", **settings
) -> Path:
    """A run of two seeds and five folds, whose scores differ by ``shift`` from those of other runs."""
    rng = np.random.default_rng(0)
    path = folder / EXPERIMENT / f"{preset}-20260101-000000-{len(list(folder.rglob('config.json')))}"
    scores = [
        Score(EXPERIMENT, model, "hull", "hull", seed, fold, "test", "accuracy", MEANS[model] + shift + noise, 20)
        for model in models
        for seed, fold, noise in ((s, f, 0.01 * rng.normal()) for s in range(2) for f in range(5))
    ]
    write_scores(path / "scores.csv", scores)
    config = {"experiment": EXPERIMENT, "preset": preset, "settings": {"seeds": 2, "rate": 0.1, **settings}}
    summary = {"question": "Which is best?", "verdict": f"net of {preset}."}
    manifest = {"status": "complete", "command": ["python", "-m", "experiments.demo", preset], "wall_seconds": 120.0}
    manifest |= {"devices": ["cpu", "cpu"], "jaxephys": "0.1.0", "data_hull": data, "summary": summary}
    (path / "config.json").write_text(json.dumps(config))
    (path / "manifest.json").write_text(json.dumps(manifest))
    np.savez(path / "predictions.npz", part=np.arange(4), probability=rng.random(3))
    return path


def texts(table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in zip(*table.columns.values(), strict=True)]


def test_two_runs_are_compared_where_they_tested_the_same_rows(tmp_path):
    first = write_run(tmp_path, "default")
    second = write_run(tmp_path, "other", 0.05, models=("net", "svm"), rate=0.3)
    tables = compare_runs([read_run(first), read_run(second)])
    assert [row[:3] for row in texts(tables["Settings that differ"])] == [
        ["preset", "default", "other"],
        ["rate", "0.1", "0.3"],
    ]
    rows = {row[0]: row for row in texts(tables["Accuracy"])}
    assert rows["net"][2].startswith(("0.79", "0.80")) and rows["net"][3].startswith(("0.84", "0.85"))
    assert rows["knn"][3] == "-" and rows["knn"][4] == "-"
    assert rows["svm"][4].startswith("+0.0") and "[" in rows["svm"][4], "an interval over ten paired runs"
    assert "B (other) has the same test rows as A (default)." in tables["Runs"].notes


def test_runs_on_other_data_or_splits_have_no_difference(tmp_path):
    first, other = write_run(tmp_path, "default"), write_run(tmp_path, "other", data="bb")
    tables = compare_runs([read_run(first), read_run(other)], ["accuracy"])
    assert list(tables["Accuracy"].columns) == ["Model", "Data", "A (default)", "B (other)"]
    np.savez(first / "predictions.npz", part=np.arange(5))
    again = write_run(tmp_path, "default")
    assert not read_run(first).has_rows_of(read_run(again)), "the splits differ"
    with pytest.raises(ValueError, match="the metric 'recall' in common; they share accuracy"):
        compare_runs([read_run(first), read_run(other)], ["recall"])
    with pytest.raises(ValueError, match="two or more"):
        compare_runs([read_run(first)])


ROW = PublishedRow("net", "0.72 ± 0.01", "accuracy", ("published net",), ("net",), ("svm", "k*"), test_on="hu*")
ITEM = PublishedItem("Table 9", "Scores", EXPERIMENT, "published", "A defect.", [ROW])
FIGURE = PublishedItem("Figure 8", "A curve", EXPERIMENT, "published", "Another defect.")
PAPER = PublishedPaper("Demo", "Nobody (2026).", [ITEM, FIGURE], {})


def test_a_row_has_published_reproduced_ours_and_the_best_baseline(tmp_path):
    runs = [write_run(tmp_path, "default"), write_run(tmp_path, "published", -0.1), write_run(tmp_path, "smoke", 0.1)]
    page = results_page([PAPER], [read_run(path) for path in runs])
    row = next(line for line in page.splitlines() if line.startswith("| net |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["accuracy", "0.72 ± 0.01"]
    assert cells[3].startswith("0.6") and cells[3].endswith("(published net)"), "from the preset that reproduces"
    assert cells[4].startswith(("0.79", "0.80")) and cells[5].endswith("(svm)"), "from the other full run"
    assert cells[6].startswith("+0.0") and cells[6].endswith("]*"), "the interval excludes 0"
    assert cells[7:] == ["2 seeds x 5 folds, n = 20", "1, 2"]
    assert "A defect." in page and "Command of the reproduction: `python -m experiments.demo published`" in page
    assert "Run 1: Which is best? net of default." in page, "a figure without numbers has the main result"
    assert "**SMOKE: 1 of 3 runs" in page
    assert "| 2 | `python -m experiments.demo published` | published | 2.0 | cpu | 0.1.0 | complete | hull aa |" in page


def test_without_a_run_the_missing_command_is_named():
    page = results_page([PAPER], [])
    assert page.count("No run of this experiment was given. Command: `python -m experiments.demo published`.") == 2


def test_intervals_over_time_blocks_are_used_for_a_single_run(tmp_path):
    path = write_run(tmp_path, "default", models=("net", "svm"))
    scores = [score for score in read_run(path).scores if (score.seed, score.fold) == (0, 0)]
    write_scores(path / "scores.csv", scores)
    columns = ("train_on", "test_on", "model", "metric", "estimate", "low", "high")
    write_csv(path / "intervals.csv", columns, [("hull", "hull", "net - svm", "accuracy", 0.05, -0.01, 0.1)])
    page = results_page([PAPER], [read_run(path)])
    assert "+0.050 [-0.010, +0.100] |" in page


def test_every_published_row_names_an_experiment_with_its_preset():
    for paper in papers():
        assert paper.items and paper.questions
        for item in paper.items:
            module = importlib.import_module(f"experiments.{item.experiment}")
            assert item.reproduction in module.PRESETS, (item.label, item.experiment)
            assert item.experiment in paper.questions and item.deviation
            assert all(row.published and row.reproduced for row in item.rows), item.label


def test_the_commands_print_or_write(tmp_path, capsys):
    write_run(tmp_path, "default")
    second = write_run(tmp_path, "other")
    assert main(["results", str(tmp_path), "--out", str(tmp_path / "results.md")]) == 0
    assert (tmp_path / "results.md").read_text().startswith("# Results\n\nEvery table and figure of the three papers")
    assert main(["compare", str(second), str(second), "--out", str(tmp_path / "compare.md")]) == 0
    assert "## Settings that differ" in (tmp_path / "compare.md").read_text()
    assert main(["results", str(tmp_path / "none")]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    (second / "scores.csv").unlink()
    assert main(["compare", str(second), str(second)]) == 2
    assert "continue it with --resume" in capsys.readouterr().err


def test_the_lines_that_load_the_models_of_a_run(tmp_path):
    assert load_lines(tmp_path) == []
    (tmp_path / "model" / "hull 1").mkdir(parents=True)
    (tmp_path / "model" / "hull 1" / "config.json").touch()
    assert load_lines(tmp_path) == [f'model_hull_1 = jaxephys.load("{tmp_path.as_posix()}/model/hull 1")']
    (tmp_path / "model" / "config.json").touch()
    assert load_lines(tmp_path) == [f'model = jaxephys.load("{tmp_path.as_posix()}")']
