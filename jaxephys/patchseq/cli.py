"""The ``components`` command of ``python -m jaxephys``: sparse principal components of a feature table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxephys.patchseq.sparse_components import SparseComponents, family_widths
from jaxephys.schemas.feature_table import FeatureTable


def add_commands(commands: Any) -> None:
    """Add the commands of this module to the command line.

    Parameters
    ----------
    commands : argparse subparsers
        What ``ArgumentParser.add_subparsers`` returns. Each new parser stores its function as ``call``.
    """
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
    names = model.get_feature_names_out().tolist()
    families = {family: [name for name in names if name.rsplit("_", 1)[0] == family] for family in model.fitted_}
    scores = FeatureTable.from_arrays(
        model.transform(source.values),
        {family: components for family, components in families.items() if components},
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
