"""Make a feature table from prepared arrays, and write it with the reasons for everything that was left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.patchseq.drop_reasons import Note, write_qc
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import TableError

# Text columns with a fixed meaning; a table may have others.
TEXT_COLUMNS = (
    *("label", "subclass4", "subclass5", "subclass_raw", "t_type"),
    *("donor", "species", "condition", "structure"),
)
QC = "qc.csv"


def make_table(
    cell: Sequence[str],
    families: Mapping[str, Sequence[str]],
    values: np.ndarray,
    observed: np.ndarray,
    about: Mapping[str, Sequence[str] | np.ndarray],
    provenance: Mapping[str, Any],
) -> FeatureTable:
    """Make a table of the cells that have any value.

    Parameters
    ----------
    cell : sequence of str, length n_cells
        Unique identifiers.
    families : mapping of str to sequence of str
        Names of the features of each family, in the order of the columns.
    values : ndarray of float32, shape (n_cells, n_columns)
        Features; NaN where missing.
    observed : ndarray of bool, shape (n_cells, n_columns)
        False where a value is missing or a substitute.
    about : mapping of str to sequence of str, length n_cells
        Text columns.
    provenance : mapping
        Origin of the values. ``without_values`` is added to it: the identifiers of the cells that are left out because all
        their values are NaN.

    Returns
    -------
    FeatureTable
        The table of the other cells.

    Raises
    ------
    TableError
        If no cell has a value, or the arrays do not fit together.
    """
    empty = np.isnan(values).all(axis=1)
    if empty.all():
        raise TableError(f"none of the {len(cell)} cells has a value in any of the {values.shape[1]} features")
    kept = np.flatnonzero(~empty)
    left_out = [*provenance.get("without_values", ()), *(cell[i] for i in np.flatnonzero(empty).tolist())]
    return FeatureTable.from_arrays(
        values[kept],
        families,
        cell=[cell[i] for i in kept.tolist()],
        observed=observed[kept],
        about={name: [texts[i] for i in kept.tolist()] for name, texts in about.items()},
        provenance={**provenance, "without_values": left_out},
    )


def save_table(table: FeatureTable, rows: Iterable[tuple[str, Note]], folder: str | Path) -> Path:
    """Write a table folder with ``table.npz``, ``provenance.json`` and ``qc.csv``.

    Parameters
    ----------
    table : FeatureTable
        The table.
    rows : iterable of (str, Note)
        Cell identifier and note for everything that was dropped, repaired or missing; the rows of ``qc.csv``.
    folder : str or Path
        Folder to write; it is created if needed.

    Returns
    -------
    Path
        The path of ``table.npz``.
    """
    path = table.write(folder)
    write_qc(Path(folder) / QC, rows)
    return path
