"""Tables of several data sets: reading a folder, data sets that share recordings, names and labels of the units of all tables.

An array with one unit in each row is divided into curves by `split_columns`.

The registry of data sets is not part of this package; functions receive the parts of it that they need, see
``data_prep.units.registry``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxephys.evaluation.estimator_inputs import encode_classes
from jaxephys.hippie.network.cvae import LENGTHS
from jaxephys.schemas.unit_table import FILE, UnitTable

TextArray = Shaped[np.ndarray, "cell"]
Tables = UnitTable | Sequence[UnitTable]
# What `jaxephys.schemas.unit_sources.as_unit_table` reads (a UnitTable, a SpikeInterface analyzer, a path, ...), several of them, or an
# array with the curves of a unit in each row, see `split_columns`.
UnitsLike = Any
# Returns the data set of a folder by its name: an object with the attributes name (shared by all folders with the same recordings) and
# technology. ValueError for an unknown name.
FindDataset = Callable[[str], Any]
RelatedDatasets = Callable[[Iterable[str]], Collection[str]]  # names -> these and all that share recordings with them


def read_tables(folder: Path, find_dataset: FindDataset, required: Collection[str] = ()) -> dict[str, UnitTable]:
    """Read the data sets of a folder and fill in the recording technology of known ones.

    Parameters
    ----------
    folder : Path
        Folder with one folder per data set, or a single table of units.
    find_dataset : callable
        Registry of data sets.
    required : collection of str
        Names of data sets that must be there.

    Returns
    -------
    dict of UnitTable
        Tables by the name of their folder.

    Raises
    ------
    ValueError
        If there is no data set, or not a required one.
    """
    if folder.suffix == ".npz" or (folder / FILE).exists() or (folder / "waveforms.csv").exists():
        tables = {folder.stem: UnitTable.read(folder)}
    else:
        paths = [path for path in sorted(folder.glob("*/")) if any(path.glob("*.*"))]
        tables = {path.name: UnitTable.read(path) for path in paths}
    if not tables:
        raise ValueError(f"{folder} has no data set: give --data a folder with one folder per data set, or a table")
    if missing := set(required) - set(tables):
        raise ValueError(f"{folder} has no data set {min(missing)!r}: it has {', '.join(tables)}")
    return {name: fill_technology(name, table, find_dataset) for name, table in tables.items()}


def fill_technology(name: str, table: UnitTable, find_dataset: FindDataset) -> UnitTable:
    """Return a table with the recording technology of its data set, if it has none of its own.

    Parameters
    ----------
    name : str
        Name of the data set's folder.
    table : UnitTable
        Its units.
    find_dataset : callable
        Registry of data sets. A table of an unknown data set is returned unchanged.

    Returns
    -------
    UnitTable
        The table.
    """
    if (table.technology_codes >= 0).any():
        return table
    try:
        return table.with_technology(find_dataset(name).technology)
    except ValueError:
        return table


def unrelated_tables(
    names: Sequence[str], tables: Mapping[str, UnitTable], find_dataset: FindDataset, related_datasets: RelatedDatasets
) -> dict[str, UnitTable]:
    """Return one table of every data set that shares no recording with the held-out ones.

    Parameters
    ----------
    names : sequence of str
        Folders of the held-out data sets.
    tables : mapping of str to UnitTable
        All data sets, by the name of their folder.
    find_dataset : callable
        Registry of data sets.
    related_datasets : callable
        Returns the names of data sets that share recordings with some others.

    Returns
    -------
    dict of UnitTable
        Tables by the name of the data set in the registry. Of several folders with the same recordings the first one is used.

    Raises
    ------
    ValueError
        If there is no data set of a held-out name, or a data set is not in the registry.
    """
    for name in names:
        if name not in tables:
            raise ValueError(f"there is no data set {name!r} to hold out: choose one of {', '.join(tables)}")
    others = {name: table for name, table in tables.items() if name not in names}
    excluded = related_datasets(names) if others else ()
    found: dict[str, UnitTable] = {}
    for name, table in others.items():
        dataset = find_dataset(name).name
        if dataset not in excluded:
            found.setdefault(dataset, table)
    return found


def available_modalities(tables: Sequence[UnitTable]) -> tuple[tuple[str, int], ...]:
    """Return the modalities that any unit has.

    Parameters
    ----------
    tables : sequence of UnitTable
        Units.

    Returns
    -------
    tuple of (str, int)
        Names and the lengths that networks read.
    """
    present = np.any([table.present.any(axis=0) for table in tables], axis=0).tolist()
    return tuple(item for item, available in zip(LENGTHS.items(), present, strict=True) if available)


def combined_unit_names(tables: Tables) -> TextArray:
    """Return the names of the units of all tables, one table after the other.

    Parameters
    ----------
    tables : UnitTable or sequence of UnitTable
        Units.

    Returns
    -------
    array of str (n_units,)
        Names of the form ``dataset/unit``.

    Raises
    ------
    ValueError
        If two tables have a unit of the same name: such a unit could be in a training set and in a test set.
    """
    tables = [tables] if isinstance(tables, UnitTable) else tables
    names = np.concatenate([np.array([], str), *(table.name for table in tables)])
    unique, counts = np.unique(names, return_counts=True)
    if counts.max(initial=0) > 1:
        raise ValueError(f"unit {unique[counts.argmax()]} is in two tables: give each a dataset= of its own")
    return names


class EncodedLabels(NamedTuple):
    """Labels of units as integer codes.

    Parameters
    ----------
    codes : int array (n_units,)
        Index of the class of each unit in ``classes``; -1 where it is unknown.
    classes : array (n_classes,)
        Sorted classes of the type of the labels: text, integers or Booleans.
    """

    codes: Int[np.ndarray, "cell"]
    classes: Shaped[np.ndarray, "class"]


def encode_labels(labels: Any, count: int) -> EncodedLabels:
    """Return labels as integer codes. Their type and order are kept: integers are sorted as numbers and not as text.

    Parameters
    ----------
    labels : array-like (n_units,), optional
        One label for each unit: text, integers or Booleans; "", None or NaN where it is unknown. None: all are unknown.
    count : int
        Number of units.

    Returns
    -------
    EncodedLabels
        Codes and classes.

    Raises
    ------
    ValueError
        If the number of labels is not ``count``, they are measurements, or all are of one class.

    Examples
    --------
    >>> encode_labels(["PV", "", "EXC"], 3).codes.tolist()
    [1, -1, 0]
    >>> encode_labels([10, 2, 10], 3).classes.tolist()
    [2, 10]
    """
    if labels is None:
        return EncodedLabels(np.full(count, -1, np.int32), np.array([], str))
    values = np.asarray(labels)
    if values.shape != (count,):
        raise ValueError(
            f"labels have the shape {values.shape} for {count} units: give one for each unit, '' where unknown"
        )
    known = np.array([not (x is None or x != x or (isinstance(x, str) and x == "")) for x in values.tolist()], bool)
    codes = np.full(count, -1, np.int32)
    if not known.any():
        return EncodedLabels(codes, np.array([], str))
    classes, codes[known] = encode_classes(values[known].tolist() if values.dtype == object else values[known])
    return EncodedLabels(codes, classes)


def split_columns(
    rows: Float[np.ndarray, "cell column"], modalities: Sequence[str]
) -> dict[str, Float[np.ndarray, "cell _"]]:
    """Divide the columns of an array with one unit in each row into its curves.

    Parameters
    ----------
    rows : array (n_units, n_columns)
        All curves of each unit, one after the other: waveform of 50 samples, ISI of 100 bins, ACG of 100 bins, as far as they are
        among the modalities. If there is a single modality, all columns are its samples, of any number.
    modalities : sequence of str
        Modalities in this order.

    Returns
    -------
    dict of arrays (n_units, length)
        Curves by modality.

    Raises
    ------
    ValueError
        If the number of columns does not fit.

    Examples
    --------
    >>> {name: curves.shape for name, curves in split_columns(np.zeros((3, 150)), ["wave", "acg"]).items()}
    {'wave': (3, 50), 'acg': (3, 100)}
    """
    if len(modalities) == 1:
        return {modalities[0]: rows}
    lengths = [LENGTHS[name] for name in modalities]
    if rows.shape[1] != sum(lengths):
        listed = ", ".join(f"{name} {length}" for name, length in zip(modalities, lengths, strict=True))
        raise ValueError(
            f"an array of units has {rows.shape[1]} columns, not {sum(lengths)} ({listed}): give these, or curves of any length to "
            "UnitTable.from_arrays"
        )
    return dict(zip(modalities, np.split(rows, np.cumsum(lengths)[:-1], axis=1), strict=True))
