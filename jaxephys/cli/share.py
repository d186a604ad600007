"""The commands ``push`` and ``fetch``: upload a trained model to the Hugging Face hub, and download one."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.evaluation.intervals import corrected_interval
from jaxephys.models.hub import fetch_model, push_model
from jaxephys.models.loading import load
from jaxephys.models.model_card import ABOUT
from jaxephys.models.saved_model import SKOPS
from jaxephys.reporting.score_table import group_scores, read_scores, seed_means
from jaxephys.reporting.tables import format_mean_sd

PUSH = """Upload a trained model to the Hugging Face hub. This is the only command that uploads anything.

The model is saved anew with a model card, which lists its training, its input columns and, if FOLDER is the folder of an experiment, the test
scores of its networks and baselines. It needs the extra hub (pip install "jaxephys[hub]") and a login (hf auth login).

example: python -m jaxephys push runs/patchseq_mouse/FOLDER some-laboratory/interneurons --license cc-by-4.0"""
FETCH = """Download a saved model from the Hugging Face hub into the cache, compare its checksums, and copy it to a folder.

It needs the extra hub (pip install "jaxephys[hub]"). What is in the cache is not downloaded again, and is used where the hub is not reached.

example: python -m jaxephys fetch some-laboratory/interneurons interneurons"""
MOST_METRICS = 8  # of the score table of a model card


def add_commands(commands: Any) -> None:
    """Add the commands to the command line.

    Parameters
    ----------
    commands : argparse subparsers
        What ``ArgumentParser.add_subparsers`` returns. The new parsers store their functions as ``call``.
    """
    form = argparse.RawDescriptionHelpFormatter
    push = commands.add_parser(
        "push", help="upload a model to the Hugging Face hub", description=PUSH, formatter_class=form
    )
    push.add_argument("model", help="folder of a saved model, of an experiment, or for SpikeInterface")
    push.add_argument("repository", help="owner/name on the hub; it is created if there is none")
    push.add_argument("--private", action="store_true", help="create a repository that only its owner sees")
    push.add_argument("--message", help="message of the commit")
    for key, heading in ABOUT.items():
        if key != "scores":
            push.add_argument(
                f"--{key.replace('_', '-')}", metavar="TEXT", help=f"entry of the model card: {heading.lower()}"
            )
    fetch = commands.add_parser(
        "fetch", help="download a model from the Hugging Face hub", description=FETCH, formatter_class=form
    )
    fetch.add_argument("repository", help="owner/name on the hub")
    fetch.add_argument("out", nargs="?", help="folder to create (default: the model stays in the cache)")
    fetch.add_argument("--revision", help="branch, tag or commit (default: main)")
    for parser, call in ((push, push_text), (fetch, fetch_text)):
        parser.add_argument(
            "--endpoint", metavar="URL", help="address of the hub (default: HF_ENDPOINT or https://huggingface.co)"
        )
        parser.set_defaults(call=call)


def push_text(arguments: argparse.Namespace) -> str:
    """Upload a model and describe what was uploaded.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``repository``, ``private``, ``message``, ``endpoint`` and the entries of the model card.

    Returns
    -------
    str
        The model and the address of the commit.
    """
    options = {"private": arguments.private, "message": arguments.message, "endpoint": arguments.endpoint}
    if (Path(arguments.model) / SKOPS).exists():
        return f"-> {push_model(arguments.model, arguments.repository, **options)}"
    model = load(arguments.model)
    about = {key: getattr(arguments, key) for key in ABOUT if getattr(arguments, key, None) is not None}
    if scores := score_rows(Path(arguments.model)):
        about["scores"] = scores
    return f"{model.describe()}\n-> {model.push_to_hub(arguments.repository, about=about, **options)}"


def fetch_text(arguments: argparse.Namespace) -> str:
    """Download a model and describe it.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``repository``, ``out``, ``revision`` and ``endpoint``.

    Returns
    -------
    str
        The model and its folder.
    """
    folder = fetch_model(arguments.repository, arguments.out, arguments.revision, endpoint=arguments.endpoint)
    return f"{load(folder).describe()}\n-> {folder}"


def score_rows(folder: Path) -> list[dict[str, str]]:
    """Return the test scores of an experiment as rows of a model card.

    Parameters
    ----------
    folder : Path
        Folder of an experiment, or of its model.

    Returns
    -------
    list of dict
        One row for each model and test set, baselines included: ``model``, ``trained on``, ``tested on``, and each metric as its mean
        with the 95 % interval of Nadeau and Bengio over runs, or with the standard deviation over seeds where ``predictions.npz`` does
        not hold the numbers of rows that the interval needs. Empty without test scores.
    """
    folder = next((path for path in (folder, folder.parent) if (path / "scores.csv").exists()), folder)
    scores = read_scores(folder / "scores.csv") if (folder / "scores.csv").exists() else []
    if not any(score.split == "test" for score in scores):
        return []
    groups = group_scores(scores, ("variant", "train_on", "test_on", "metric"), "test")
    metrics = list(dict.fromkeys(metric for *_, metric in groups))[:MOST_METRICS]
    sizes = {score.metric: score.n for score in scores if score.split == "test"}
    n_train, rows = _training_rows(folder), {}
    for (variant, train_on, test_on, metric), runs in groups.items():
        if metric in metrics:
            row = rows.setdefault((variant, train_on, test_on), dict.fromkeys(metrics, ""))
            row[metric] = _mean_text(runs, n_train, sizes[metric])
    keys = ("model", "trained on", "tested on")
    return [{**dict(zip(keys, model, strict=True)), **row} for model, row in rows.items()]


def _training_rows(folder: Path) -> float:
    """The mean number of training rows of a run; NaN if it is not stored."""
    path = folder / "predictions.npz"
    if not path.exists():
        return math.nan
    with np.load(path, allow_pickle=False) as file:
        return float((file["part"] == 0).sum(axis=-1).mean()) if "part" in file.files else math.nan


def _mean_text(runs: dict[tuple[int, int], float], n_train: float, n_test: int) -> str:
    values = [value for value in runs.values() if math.isfinite(value)]
    if len(values) > 1 and n_train > 0:
        estimate, low, high = corrected_interval(values, n_train, n_test)
        return f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
    means = [mean for mean in seed_means(runs).values() if math.isfinite(mean)]
    return (
        format_mean_sd(float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else math.nan)
        if means
        else ""
    )
