"""The commands ``predict`` and ``components`` of ``python -m jaxephys``: subclasses of new cells, and sparse principal components."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.patchseq.estimator import PatchSeqClassifier
from jaxephys.patchseq.sparse_components import SparseComponents, family_widths
from jaxephys.reporting.files import write_csv
from jaxephys.schemas.feature_table import FeatureTable


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the command line.

    Parameters
    ----------
    commands : argparse subparsers
        What ``ArgumentParser.add_subparsers`` returns. Each new parser stores its function as ``call``.
    """
    parser = commands.add_parser(
        "predict",
        help="predict the subclass of new cells (PatchSeqClassifier)",
        description="Write a CSV file with one row per cell: the most probable class, the probability of every class, and a "
        "prediction set, which contains the most probable class, and the true class of a new cell with at least the given "
        "coverage. 'unusual' is 1 if every class is less probable than for most known cells of that class. Features are "
        "matched by name; missing, unused and suspicious features are listed.",
    )
    parser.add_argument("model", help="folder of a saved model, or of a finished experiment")
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
    parser = commands.add_parser(
        "components",
        help="sparse principal components of each feature family",
        description="Fit sparse principal components of each family on training cells and write the scores of all cells as "
        "a new feature table. Tables with the families of Gouwens et al. (2020) get the components of that study; in other "
        "tables ordinary components that explain at least 1 % of a family are kept.",
    )
    parser.add_argument("table", help="a table folder or .npz that data_prep has written")
    parser.add_argument("out", help="folder for the table of components, and for components.npz with the loadings")
    parser.add_argument(
        "--train",
        help="text file with the identifiers of the training cells, one on each line. Without it all cells are used for "
        "fitting, and scores of a model on these components are biased upwards",
    )
    parser.set_defaults(call=components)


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
    classifier = PatchSeqClassifier.load(arguments.model)
    cells, messages = classifier.match_features(FeatureTable.read(arguments.table))
    probability, members = classifier.predict_proba(cells), classifier.predict_set(cells, arguments.coverage)
    unusual = ~classifier.predict_set(cells, arguments.coverage, include_predicted=False).any(axis=1)
    classes = classifier.classes_.astype(str)
    predicted, sets = classes[probability.argmax(axis=1)], ["|".join(classes[row]) for row in members]
    columns = ("cell", "prediction", f"set_{arguments.coverage:g}", "unusual", *(f"p_{name}" for name in classes))
    rows = zip(cells.cell, predicted, sets, unusual.astype(int), *probability.T, strict=True)
    write_csv(Path(arguments.out), columns, rows)
    lines = [classifier.describe(), *(f"- {message}" for message in messages)]
    certain = Counter(predicted[members.sum(axis=1) == 1].tolist())
    for name, count in sorted(Counter(predicted.tolist()).items()):
        lines.append(f"{name}: {count} cells, for {certain[name]} of them the set has no other class")
    lines.append(
        f"{unusual.sum()} of {len(cells)} cells are unusual: every class is less probable than for {arguments.coverage:.0%} of "
        f"its held-out training cells, which is true of about {1 - arguments.coverage:.0%} of ordinary cells if the model hardly errs"
    )
    if arguments.label is not None:
        row = classifier.score_table(cells.labelled(arguments.label))[0]
        scores = f"macro-F1 {row['macro_f1']:.3f}, accuracy {row['accuracy']:.3f}"
        lines.append(f"against {arguments.label} ({row['n']} cells): {scores}")
    return "\n".join([*lines, f"-> {arguments.out}"])


def components(arguments: argparse.Namespace) -> str:
    """Fit sparse components on training cells and save the scores of all cells.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``table``, ``out`` and ``train``, see :func:`add_commands`.

    Returns
    -------
    str
        The report for the terminal: components and explained variance of each family.

    Raises
    ------
    ValueError
        If the table or the file of training cells cannot be read, or there are fewer training cells than components.
    """
    source = FeatureTable.read(arguments.table)
    rows = np.arange(len(source)) if arguments.train is None else training_rows(source, Path(arguments.train))
    model = SparseComponents(family_widths(source)).fit(source.values[rows])
    kept = {family: len(fitted.explained) for family, fitted in model.fitted_.items() if len(fitted.explained)}
    scores = FeatureTable.from_arrays(
        model.transform(source.values),
        kept,
        cell=source.cell,
        about=source.about,
        provenance={"components_of": source.sha256, "fitted_on": source.cell[rows].tolist(), **source.provenance},
    )
    out = Path(arguments.out)
    scores.write(out)
    model.save(out / "components.npz")
    return f"{model.summary()}\n{len(scores)} cells x {len(scores.features)} components -> {out}"


def training_rows(table: FeatureTable, path: Path) -> np.ndarray:
    """Read the identifiers of the training cells.

    Parameters
    ----------
    table : FeatureTable
        The table that holds the cells.
    path : Path
        Text file with identifiers separated by white space.

    Returns
    -------
    ndarray of int, shape (n_training_cells,)
        Sorted rows of these cells in the table.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, or names a cell that is not in the table.
    """
    try:
        names = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): give a text file of cell identifiers") from None
    row_of = {cell: row for row, cell in enumerate(table.cell.tolist())}
    unknown = [name for name in names if name not in row_of]
    if unknown or not names:
        raise ValueError(f"{path} names {unknown[0] if unknown else 'no cell'}, which is not in the table")
    return np.array(sorted(row_of[name] for name in names))
