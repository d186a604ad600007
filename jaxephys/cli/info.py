"""The command ``info``: describe a saved model, the folder of an experiment, or its checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jaxephys.engine.checkpoint import read_runs
from jaxephys.models.loading import checkpoint_folders, find_model, load
from jaxephys.models.model_card import training_lines, training_rows
from jaxephys.models.run_template import FOLDER
from jaxephys.models.saved_model import CONFIG
from jaxephys.reporting.score_table import read_scores, summarize

N_RUNS = 60  # that are listed


def add_command(commands: Any) -> None:
    """Add the command to the command line.

    Parameters
    ----------
    commands : argparse subparsers
        What ``ArgumentParser.add_subparsers`` returns. The new parser stores its function as ``call``.
    """
    info = commands.add_parser(
        "info",
        help="describe a saved model, an experiment or its checkpoints",
        description="Print what a folder holds. Of a saved model: its parameters, its networks and their training. Of an experiment: its "
        "status, test scores, model, and the runs and steps of its checkpoints with their validation scores. Of a folder of checkpoints: its "
        "runs and steps.",
    )
    info.add_argument("model", help="folder of a saved model, of an experiment, or of its checkpoints")
    info.set_defaults(call=info_text)


def info_text(arguments: argparse.Namespace) -> str:
    """Describe what a folder holds.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, see :func:`add_command`.

    Returns
    -------
    str
        Lines of text.

    Raises
    ------
    CheckpointError
        If the folder holds neither a model nor checkpoints.
    """
    path = Path(arguments.model)
    if (path / "manifest.json").exists() or checkpoint_folders(path):
        return "\n".join(_experiment_lines(path))
    folder, has_runs = find_model(path)
    return "\n".join(_checkpoint_lines(folder) if has_runs else _model_lines(folder))


def _model_lines(folder: Path) -> list[str]:
    model, config = load(folder), json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    written = f"saved by jaxephys {config.get('version', 'unknown')}, schema version {config.get('schema_version', 0)}"
    return [repr(model), model.describe(), written, *(f"  {line}" for line in training_lines(model.training_))]


def _experiment_lines(path: Path) -> list[str]:
    lines = [str(path)]
    if (path / "manifest.json").exists():
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        lines = [f"experiment {manifest['experiment']}, {manifest['status']}, by jaxephys {manifest['jaxephys']}"]
    lines += _score_lines(path / "scores.csv")
    for config in sorted([*path.glob(f"model/{CONFIG}"), *path.glob(f"model/*/{CONFIG}")]):
        lines += ["", f"{config.parent.relative_to(path)}/", *_model_lines(config.parent)]
    for folder in checkpoint_folders(path):
        lines += ["", *_checkpoint_lines(folder)]
    return lines


def _checkpoint_lines(folder: Path) -> list[str]:
    runs = read_runs(folder)
    steps, monitor = ", ".join(map(str, runs.steps)), runs.config["monitor"]
    loadable = "loaded by run and step" if (folder / FOLDER).is_dir() else "no estimator: their variables can be read"
    rows = training_lines(training_rows(runs.names, runs, range(len(runs.names))))
    lines = [f"{index:4d}  {row}" for index, row in enumerate(rows[:N_RUNS])]
    left = [f"      and {len(rows) - N_RUNS} more"] if len(rows) > N_RUNS else []
    return [
        f"{folder.name}/: {len(rows)} runs at the steps {steps}; {loadable}; epochs are selected by {monitor}",
        *lines,
        *left,
    ]


def _score_lines(path: Path) -> list[str]:
    """The mean test scores of each model."""
    scores = read_scores(path) if path.exists() else []
    if not any(score.split == "test" for score in scores):
        return []
    by_model: dict[tuple[str, str, str], list[str]] = {}
    for (*model, metric), summary in summarize(scores, by=("variant", "train_on", "test_on", "metric")).items():
        variant, train_on, test_on = model
        by_model.setdefault((variant, train_on, test_on), []).append(f"{metric} {summary.mean:.3f}")
    lines = [
        f"  {variant} (trained on {train_on}, tested on {test_on}): {', '.join(values)}"
        for (variant, train_on, test_on), values in by_model.items()
    ]
    return ["mean test scores:", *lines]
