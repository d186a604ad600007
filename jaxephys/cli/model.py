"""The commands ``info`` and ``predict``: describe a saved model, and classify new cells with a Patch-seq classifier."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from jaxephys.models.saved_model import load
from jaxephys.patchseq.estimator import PatchSeqClassifier
from jaxephys.reporting.files import write_csv
from jaxephys.schemas.feature_table import FeatureTable

MODEL = "folder of a saved model, or of a finished experiment"


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the command line.

    Parameters
    ----------
    commands : argparse subparsers
        What ``ArgumentParser.add_subparsers`` returns. Each new parser stores its function as ``call``.
    """
    parser = commands.add_parser(
        "info",
        help="describe a saved model",
        description="Print the parameters of a saved model, the number of its networks, and what they were trained on.",
    )
    parser.add_argument("model", help=MODEL)
    parser.set_defaults(call=info)
    parser = commands.add_parser(
        "predict",
        help="predict the subclass of new cells (PatchSeqClassifier)",
        description="Write a CSV file with one row per cell: the most probable class, the probability of every class, and a "
        "prediction set, which contains the true class of a new cell with the given coverage. The set is 'unknown' if the "
        "cell resembles no class. Features are matched by name; missing, unused and suspicious features are listed.",
    )
    parser.add_argument("model", help=MODEL)
    parser.add_argument("table", help="table of cells: a folder or .npz file that data_prep has written")
    parser.add_argument("--out", default="predictions.csv", help="CSV file to write (default: %(default)s)")
    parser.add_argument(
        "--coverage",
        type=float,
        default=0.9,
        help="share of cells, in every class, whose prediction set contains the true class (default: %(default)s)",
    )
    parser.add_argument("--label", help="column with known classes (subclass4, ...), to compare the predictions with")
    parser.set_defaults(call=predict)


def info(arguments: argparse.Namespace) -> str:
    """Describe a saved model.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, the folder of the model.

    Returns
    -------
    str
        The parameters of the estimator, and its description.
    """
    model = load(arguments.model)
    return f"{model!r}\n{model.describe()}"


def predict(arguments: argparse.Namespace) -> str:
    """Predict the subclass of new cells and write a CSV file with one row per cell.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``model``, ``table``, ``out``, ``coverage`` and ``label``, see :func:`add_commands`.

    Returns
    -------
    str
        Summary of the predictions, with one sentence for each feature that does not match.

    Raises
    ------
    ValueError
        If the model is no PatchSeqClassifier, or the table cannot be read or has none of its features.
    """
    classifier = load(arguments.model)
    if not isinstance(classifier, PatchSeqClassifier):
        raise ValueError(f"{arguments.model} is a {type(classifier).__name__}: predict needs a PatchSeqClassifier")
    cells, messages = classifier.match_features(FeatureTable.read(arguments.table))
    probability, members = classifier.predict_proba(cells), classifier.predict_set(cells, arguments.coverage)
    classes, predicted = classifier.classes_, classifier.classes_[probability.argmax(axis=1)]
    sets = ["|".join(classes[row]) or "unknown" for row in members]
    columns = ("cell", "prediction", f"set_{arguments.coverage:g}", *(f"p_{name}" for name in classes))
    write_csv(Path(arguments.out), columns, zip(cells.cell, predicted, sets, *probability.T, strict=True))
    lines = [classifier.describe(), *(f"- {message}" for message in messages)]
    certain = Counter(predicted[members.sum(axis=1) == 1].tolist())
    for name, count in sorted(Counter(predicted.tolist()).items()):
        lines.append(f"{name}: {count} cells, for {certain[name]} of them no other class is possible")
    lines.append(f"{sets.count('unknown')} of {len(cells)} cells resemble no class of the model")
    if arguments.label is not None:
        row = classifier.score_table(cells.labelled(arguments.label))[0]
        scores = f"macro-F1 {row['macro_f1']:.3f}, accuracy {row['accuracy']:.3f}"
        lines.append(f"against {arguments.label} ({row['n']} cells): {scores}")
    return "\n".join([*lines, f"-> {arguments.out}"])
