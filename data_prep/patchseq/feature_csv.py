"""Read scalar features of many cells from one CSV file as a feature table. Nothing is imputed and nothing is scaled.

The file has a column ``cell_id``, text columns such as ``subclass4``, ``donor`` and ``species``, and features under the old, the
new or the aligned names (:mod:`data_prep.patchseq.feature_names`). A table of another laboratory is described by a map of its columns
(:mod:`data_prep.patchseq.feature_columns`). Columns such as genotype, structure, layer and condition never become features unless
the map names them: they determine how a cell was chosen, and thereby predict its label. Start with :func:`read_feature_csv`, or
with :func:`read_species` for the labelled cells of one species.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_prep.csv_files import read_csv_rows
from data_prep.patchseq import feature_names
from data_prep.patchseq.feature_columns import FeatureMap, find_columns
from data_prep.patchseq.labels import clean_id, label_column
from data_prep.patchseq.table import TEXT_COLUMNS, make_table
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.storage import TableError

TERMS = {
    "allen_v1_gouwens2020": "features from daifengwanglab/scMNC, which has no licence file; labels under the terms of use "
    "of the Allen Institute",
    "allen_human_gaba_lee2023": "Allen Institute Software License: no redistribution for commercial purposes",
}
SPECIES_FILES = {"human": ("human.csv", "subclass4"), "mouse": ("mouse_v1.csv", "subclass5")}  # file and usual label


def read_feature_csv(
    path: str | Path,
    *,
    clock_times: bool = False,
    min_coverage: float = 0.5,
    feature_map: FeatureMap | None = None,
    naming: str | None = None,
    others: str | None = None,
) -> FeatureTable:
    """Read a CSV file of scalar features.

    Parameters
    ----------
    path : str or Path
        CSV file in UTF-8 with a column of identifiers, ``cell_id`` or another usual name. Empty entries are missing values.
    clock_times : bool, default False
        Whether to keep times that count from the start of the experiment (``peak_t_ramp``). They are no properties of the
        cell, and their differences are features of their own.
    min_coverage : float, default 0.5
        Smallest fraction of cells in which a feature has to be measured.
    feature_map : FeatureMap, optional
        Meaning of columns with other names.
    naming : {"old", "new", "aligned"}, optional
        Naming of the features; by default found from the names that only one naming has.
    others : {"drop", "number", "prefix", "column"}, optional
        What becomes of columns of numbers without a known name, see :func:`~data_prep.patchseq.feature_columns.find_columns`.

    Returns
    -------
    FeatureTable
        Families of scalar features in the order of ``feature_names.FAMILIES``, then those of features without a known name. The
        label is the column ``label``, else ``subclass5``, or ``subclass4`` if any cell is human. ``provenance`` lists the columns
        that are left out, and in ``without_values`` the cells without any value.

    Raises
    ------
    ValueError
        If the file cannot be read, has no cells or no features, or an entry is not a number.
    """
    columns, rows = read_csv_rows(path)
    found = find_columns(columns, rows, path, feature_map=feature_map, naming=naming, others=others)
    numbers = {
        name: _numbers(column, rows, path, found.id_column) * factor
        for name, (column, factor) in found.features.items()
    }
    left_out = dict(found.left_out)
    for name, values in numbers.items():
        coverage = np.isfinite(values).mean()
        if coverage < min_coverage:
            left_out[name] = f"measured in {coverage:.1%} of the cells"
        elif feature_names.is_clock_time(name) and not clock_times:
            left_out[name] = "clock time"
    about = {name: [row.get(found.text.get(name, name), "") for row in rows] for name in TEXT_COLUMNS}
    about["donor"] = [clean_id(text) for text in about["donor"]]
    if not any(about["label"]):
        about["label"] = about[label_column(about["species"])]
    cells = [clean_id(row[found.id_column]) for row in rows]
    if "" in cells:
        raise TableError(f"cell {cells.index('') + 1} of {path} has no {found.id_column}: give every cell an id")
    provenance = {
        "file": Path(path).name,
        "file_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "terms": {name: TERMS.get(name, "not known") for name in sorted({row.get("dataset", "") for row in rows})},
        "clock_times": clock_times,
        "min_coverage": min_coverage,
        "left_out": left_out,
        "infinite": sum(int(np.isinf(values).sum()) for values in numbers.values()),  # treated as missing
    }
    kept = {name: values for name, values in numbers.items() if name not in left_out}
    return make_scalar_table(cells, kept, found.naming, about, provenance, found.families)


def read_species(data: str | Path, species: Literal["human", "mouse"], label: str | None = None) -> FeatureTable:
    """Read the labelled cells of one species.

    Parameters
    ----------
    data : str or Path
        A folder with ``human.csv`` or ``mouse_v1.csv``, or a feature table (folder or ``.npz``) that may hold both species.
    species : {"human", "mouse"}
        The species.
    label : str, optional
        Text column that becomes the label; by default ``subclass4`` for human and ``subclass5`` for mouse cells.

    Returns
    -------
    FeatureTable
        The cells of the species that have a label and at least one value.

    Raises
    ------
    ValueError
        If there is no table, or it has no labelled cell of the species.
    """
    file, usual_label = SPECIES_FILES[species]
    cells = read_cells(data, file, label or usual_label)
    if cells.species is None:
        return cells
    rows = np.flatnonzero(cells.species == species)
    if not len(rows):
        raise TableError(f"no cell of the table is of species {species}: it has {', '.join(np.unique(cells.species))}")
    return cells.rows(rows)


def read_cells(data: str | Path, file: str, label: str) -> FeatureTable:
    """Read labelled cells from a CSV of scalar features, or from a feature table.

    Parameters
    ----------
    data : str or Path
        A folder that contains ``file``, or a feature table (folder or ``.npz``).
    file : str
        Name of the CSV.
    label : str
        Text column that becomes the label.

    Returns
    -------
    FeatureTable
        The cells that have a text in this column.

    Raises
    ------
    ValueError
        If ``data`` holds neither the CSV nor a table.
    """
    data = Path(data)
    if (data / file).is_file():
        return read_feature_csv(data / file).labelled(label)
    if data.suffix == ".npz" or (data / "table.npz").is_file():
        return FeatureTable.read(data).labelled(label)
    raise TableError(
        f"{data} holds neither {file} nor a table of data_prep: give the folder of one of them with --data"
    )


def align_table(table: FeatureTable) -> FeatureTable:
    """Compute the 25 features that mouse and human tables share.

    Parameters
    ----------
    table : FeatureTable
        Scalar features under the old, the new or the aligned names.

    Returns
    -------
    FeatureTable
        The aligned features. A value is observed if all values that it is computed from are.

    Raises
    ------
    ValueError
        If the naming is unknown or a feature is missing.
    """
    naming = table.provenance.get("naming") or feature_names.find_naming(table.features)
    measured = np.where(table.observed, table.values.astype(np.float64), np.nan)
    columns = feature_names.align_columns(dict(zip(table.features, measured.T, strict=True)), naming)
    provenance = {**table.provenance, "aligned_from": naming}
    return make_scalar_table(table.cell.tolist(), columns, "aligned", table.about, provenance)


def make_scalar_table(
    cell: Sequence[str],
    columns: Mapping[str, np.ndarray],
    naming: str | None,
    about: Mapping[str, Sequence[str] | np.ndarray],
    provenance: Mapping[str, Any],
    further: Mapping[str, Sequence[str]] | None = None,
) -> FeatureTable:
    """Group scalar features into families.

    Parameters
    ----------
    cell : sequence of str, length n_cells
        Unique identifiers.
    columns : mapping of str to ndarray of float, shape (n_cells,)
        Features; values that are not finite are missing.
    naming : {"old", "new", "aligned"} or None
        Naming of the features; None if it is not known.
    about : mapping of str to sequence of str, length n_cells
        Text columns.
    provenance : mapping
        Origin of the values; naming, units and the number of repeated rows are added.
    further : mapping of str to sequence of str, optional
        Columns without a known name, by family.

    Returns
    -------
    FeatureTable
        Families in the order of ``feature_names.FAMILIES``, then further ones; families without features are absent.

    Raises
    ------
    TableError
        If there is no feature or no cell with a value.
    """
    further = {family: [name for name in some if name in columns] for family, some in (further or {}).items()}
    placed = {name for some in further.values() for name in some}
    known = {
        name: feature
        for name in columns
        if name not in placed and (feature := feature_names.known_feature(name, naming)) is not None
    }
    families = {family: [name for name in known if known[name].family == family] for family in feature_names.FAMILIES}
    for family, some in further.items():
        families[family] = [*families.get(family, ()), *some]
    families = {family: features for family, features in families.items() if features}
    order = [name for features in families.values() for name in features]
    if not order:
        raise TableError(f"no feature is left of {provenance.get('file', 'the table')}: lower min_coverage")
    values = np.stack([columns[name] for name in order], axis=1).astype(np.float32)
    observed = np.isfinite(values)
    values[~observed] = np.nan
    units = {name: known[name].unit if name in known else "" for name in order}
    repeated = int(find_repeated_rows(values).sum())
    provenance = {**provenance, "naming": naming, "units": units, "repeated_rows": repeated}
    return make_table(cell, families, values, observed, about, provenance)


def find_repeated_rows(values: np.ndarray) -> np.ndarray:
    """Find cells with exactly the features of an earlier cell.

    Parameters
    ----------
    values : ndarray of float, shape (n_cells, n_columns)
        Features; missing values have to agree as well.

    Returns
    -------
    ndarray of bool, shape (n_cells,)
        True for each repetition, except for cells without any value.

    Examples
    --------
    >>> import numpy as np
    >>> find_repeated_rows(np.array([[1.0, np.nan], [2.0, 3.0], [1.0, np.nan]])).tolist()
    [False, False, True]
    """
    seen: set[bytes] = set()
    repeated = np.zeros(len(values), bool)
    for i, row in enumerate(np.ascontiguousarray(values, np.float32)):
        key = np.where(np.isnan(row), np.float32(np.nan), row).tobytes()  # all NaN alike
        repeated[i] = key in seen and not np.isnan(row).all()
        seen.add(key)
    return repeated


def _numbers(name: str, rows: Sequence[dict[str, str]], path: str | Path, id_column: str) -> np.ndarray:  # [cell]
    numbers = []
    for row in rows:
        try:
            numbers.append(float(row[name] or "nan"))
        except ValueError:
            where = f"{name} of cell {row[id_column]} in {path}"
            raise TableError(f"{where} is {row[name]!r}: it must be a number") from None
    return np.array(numbers)
