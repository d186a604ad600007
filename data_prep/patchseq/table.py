"""Make a feature table from prepared arrays, and write it with the reasons for everything that was left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.patchseq.drop_reasons import DROPPED, Note, QcRow, note, write_qc
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


def drop_incomplete_cells(table: FeatureTable, min_observed: float) -> tuple[FeatureTable, list[QcRow]]:
    """Leave out the cells in which too few features were measured.

    Parameters
    ----------
    table : FeatureTable
        The table.
    min_observed : float
        Smallest share of the features that must be measured in a cell, from 0 (every cell is kept) to 1. Features that were
        measured in no cell, such as columns that only pad a family, do not count.

    Returns
    -------
    table : FeatureTable
        The cells that are kept. Their provenance holds ``min_observed``.
    rows : list of (str, Note)
        Rows of ``qc.csv`` for the other cells, with the measured share.

    Raises
    ------
    TableError
        If the share is below 0 or above 1, or no cell is left.

    Notes
    -----
    The published cross-species study removes cells with excessive missing values. Its code has no such step, and no limit of it is
    known to us.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[1.0, 2.0, np.nan], [np.nan, 3.0, np.nan]])
    >>> kept, rows = drop_incomplete_cells(FeatureTable.from_arrays(values, {"isi_shape": 3}, cell=["a", "b"]), 0.6)
    >>> kept.cell.tolist(), rows[0][0], rows[0][1].detail
    (['a'], 'b', '50.0 % of the features measured')
    """
    if not 0 <= min_observed <= 1:
        raise TableError(f"a smallest share of {min_observed:g} is not possible: give a number from 0 to 1")
    share = table.observed[:, table.observed.any(axis=0)].mean(axis=1)
    kept = share >= min_observed
    if not kept.any():
        raise TableError(
            f"every cell has less than {min_observed:.1%} of the features, at most {share.max():.1%}: lower min_observed"
        )
    rows = [
        (cell, note("cell", "", DROPPED, "too many missing values", f"{100 * part:.1f} % of the features measured"))
        for cell, part in zip(table.cell[~kept].tolist(), share[~kept].tolist(), strict=True)
    ]
    provenance = {**table.provenance, "min_observed": min_observed}
    return replace(table.rows(np.flatnonzero(kept)), provenance=provenance), rows


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
