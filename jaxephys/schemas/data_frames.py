"""Feature tables from pandas data frames, and the grouping of named columns into families.

pandas is not imported: a data frame is recognized by its methods. Users call :meth:`FeatureTable.from_dataframe
<jaxephys.schemas.feature_table.FeatureTable.from_dataframe>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxephys.schemas.feature_table import FeatureTable, group_features
from jaxephys.schemas.storage import TableError

GROUPINGS = ("number", "prefix", "column")
TEXTS = ("label", "donor", "species")  # columns that a table knows by these names
NUMBERS = "fiub"  # kinds of dtype that are features
Families = str | Mapping[str, Sequence[str]]


def group_columns(names: Sequence[str], by: str) -> dict[str, list[str]]:
    """Group the columns of a table into families by their names.

    Parameters
    ----------
    names : sequence of str
        Names of the columns, in order.
    by : {"number", "prefix", "column"}
        "number": columns such as ``psth_0`` and ``psth_1`` are the family ``psth``, every other column is a family of its own (see
        :func:`~jaxephys.schemas.feature_table.group_features`). "prefix": columns that agree in the part of the name before the
        first ``_``, ``.``, ``-`` or blank are a family. "column": every column is a family of its own.

    Returns
    -------
    dict of str to list of str
        The columns of each family; families in the order of their first columns.

    Raises
    ------
    TableError
        If the grouping is unknown.

    Examples
    --------
    >>> group_columns(["ap_width", "sag", "ap_peak"], "prefix")
    {'ap': ['ap_width', 'ap_peak'], 'sag': ['sag']}
    """
    if by not in GROUPINGS:
        raise TableError(f"families by {by!r} are not known: give one of {', '.join(map(repr, GROUPINGS))}")
    if by == "number":
        return group_features(names)
    grouped: dict[str, list[str]] = {}
    for name in names:
        prefix = re.split(r"(?<=\w)[_.\-\s]", name, maxsplit=1)[0] if by == "prefix" else name
        grouped.setdefault(prefix, []).append(name)
    return grouped


def read_data_frame(
    frame: Any,
    labels: str | Sequence[Any] | np.ndarray | None = None,
    *,
    families: Families = "number",
    cell: str | None = None,
    donor: str | None = None,
    species: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> FeatureTable:
    """Make a feature table from a data frame, see ``FeatureTable.from_dataframe``.

    Parameters
    ----------
    frame : pandas.DataFrame of n_cells rows
        Features and texts of the cells.
    labels : str or array-like of length n_cells, optional
        Column that holds the class of each cell, or the classes.
    families : {"number", "prefix", "column"} or mapping of str to sequence of str, default "number"
        Grouping of the features, see :func:`group_columns`, or the columns of each family; then other columns are left out.
    cell, donor, species : str, optional
        Columns that hold identifier, donor and species of each cell.
    provenance : mapping, optional
        Origin of the values.

    Returns
    -------
    FeatureTable
        The table.

    Raises
    ------
    TableError
        If it is no data frame, has no such column or no column of numbers, or the values do not make a table.
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "dtypes"):
        raise TableError(
            f"a {type(frame).__name__} is no data frame: give a pandas.DataFrame, or arrays to from_arrays"
        )
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TableError(f"the data frame has {names.count(twice)} columns {twice!r}: give each column its own name")
    columns = {name: frame.iloc[:, i] for i, name in enumerate(names)}
    chosen = {"cell": cell, "donor": donor, "species": species, "label": labels if isinstance(labels, str) else None}
    for role, name in chosen.items():
        if name is not None and name not in columns:
            raise TableError(f"the data frame has no column {name!r} for the {role}: it has {', '.join(names)}")
    texts = {role: name for role, name in chosen.items() if name is not None and role != "cell"}
    texts |= {
        name: name for name in TEXTS if name in columns and name not in texts and not isinstance(families, Mapping)
    }
    taken = {cell, *texts.values()}
    numbers = [name for name in names if name not in taken and columns[name].dtype.kind in NUMBERS]
    if isinstance(families, Mapping):
        grouped = {family: list(some) for family, some in families.items()}
        absent = [name for some in grouped.values() for name in some if name not in columns]
        if absent:
            raise TableError(f"the data frame has no column {absent[0]!r} of the families: it has {', '.join(names)}")
    else:
        grouped = group_columns(numbers, families)
    if not grouped:
        raise TableError(f"no column of the data frame holds numbers: it has {', '.join(names) or 'none'}")
    order = [name for some in grouped.values() for name in some]
    about = {role: _as_text(columns[name]) for role, name in texts.items()}
    about |= {
        name: _as_text(columns[name])
        for name in names
        if name not in taken and name not in order and columns[name].dtype.kind not in NUMBERS
    }
    return FeatureTable.from_arrays(
        np.stack([_as_numbers(name, columns[name]) for name in order], axis=1),
        grouped,
        None if isinstance(labels, str) else labels,
        cell=_as_text(frame.index.to_series() if cell is None else columns[cell]),
        about=about,
        provenance=provenance,
    )


def _as_numbers(name: str, column: Any) -> np.ndarray:
    try:
        return column.to_numpy(dtype=np.float32, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise TableError(
            f"column {name!r} of the data frame holds no numbers ({error}): convert it, or leave it out"
        ) from None


def _as_text(column: Any) -> list[str]:
    """Return the entries of a column as text, "" where they are missing."""
    missing = column.isna().to_numpy()
    return ["" if absent else str(entry) for entry, absent in zip(column.tolist(), missing, strict=True)]
