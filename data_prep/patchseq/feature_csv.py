"""Ready-made tables: scalar features of many cells in one CSV, as a Table. Nothing is imputed and nothing is scaled.

The file has a column ``cell_id``, columns of text such as ``subclass4``, ``donor`` and ``species``, and features under the
old, the new or the aligned names (``feature_names.py``). A column that is no known feature never becomes one: genotype, structure,
layer and condition say how a cell was chosen, and the label with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.patchseq import feature_names
from data_prep.patchseq.labels import clean_id, label_column, read_rows
from data_prep.patchseq.table import ABOUT, Table, TableError

TERMS = {
    "allen_v1_gouwens2020": "features from daifengwanglab/scMNC, which has no licence file; labels under the terms of use "
    "of the Allen Institute",
    "allen_human_gaba_lee2023": "Allen Institute Software License: no redistribution for commercial purposes",
}
KEYS = ("cell_id", "dataset", *ABOUT)


def read_ready(path: str | Path, *, clock_times: bool = False, min_coverage: float = 0.5) -> Table:
    """Cells x families of scalar features.

    Parameters
    ----------
    clock_times
        Take the columns that say when in the recording something happened (``peak_t_ramp``). They are no properties of the
        cell, and their differences are features anyway.
    min_coverage
        Leave out a feature that was measured in a smaller share of the cells.
    """
    columns, rows = read_rows(path)
    if "cell_id" not in columns or not rows:
        raise TableError(
            f"{path} has {len(rows)} rows and the columns {', '.join(columns)}: it needs cell_id and cells"
        )
    known = [name for name in columns if feature_names.feature(name, None) is not None]
    try:
        naming = feature_names.naming_of(known)
    except ValueError as error:
        raise TableError(f"{path} is no table of features: {error}") from None
    found = {name: _numbers(name, rows, path) for name in known}
    left_out = {name: "no known feature" for name in columns if name not in found and name not in KEYS}
    left_out |= {name: why for name in known if (why := _unfit(name, found[name], clock_times, min_coverage))}
    about = {name: [row.get(name, "") for row in rows] for name in ABOUT}
    about["donor"] = [clean_id(text) for text in about["donor"]]
    if not any(about["label"]):
        about["label"] = about[label_column(about["species"])]
    provenance = {
        "file": Path(path).name,
        "file_sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "terms": {name: TERMS.get(name, "not known") for name in sorted({row.get("dataset", "") for row in rows})},
        "clock_times": clock_times,
        "min_coverage": min_coverage,
        "left_out": left_out,
        "infinite": sum(int(np.isinf(values).sum()) for values in found.values()),  # taken as missing
    }
    kept = {name: values for name, values in found.items() if name not in left_out}
    cells = [clean_id(row["cell_id"]) for row in rows]
    if "" in cells:
        raise TableError(f"cell {cells.index('') + 1} of {path} has no cell_id: give every cell an id")
    return scalar_table(cells, kept, naming, about, provenance)


def aligned(table: Table) -> Table:
    """The 25 features that mouse and human share, from a table of scalar features under the old or the new feature_names."""
    naming = table.provenance.get("naming") or feature_names.naming_of(table.features)
    seen = np.where(table.observed, table.values.astype(np.float64), np.nan)
    columns = feature_names.to_aligned(dict(zip(table.features, seen.T, strict=True)), naming)
    return scalar_table(table.cell, columns, "aligned", dict(table.about), {**table.provenance, "aligned_from": naming})


def repeats(values: np.ndarray) -> np.ndarray:  # bool [cell]
    """Which cells repeat the features of an earlier one, missing values included; cells without any value do not count."""
    seen: set[bytes] = set()
    found = np.zeros(len(values), bool)
    for i, row in enumerate(np.ascontiguousarray(values, np.float32)):
        key = np.where(np.isnan(row), np.float32(np.nan), row).tobytes()  # one kind of NaN
        found[i] = key in seen and not np.isnan(row).all()
        seen.add(key)
    return found


def scalar_table(
    cell: Sequence[str], columns: dict[str, np.ndarray], naming: str, about: dict, provenance: dict
) -> Table:
    """Columns grouped into families, in the order of ``feature_names.FAMILIES``; a family of which nothing is left does not stand."""
    said = {name: found for name in columns if (found := feature_names.feature(name, naming)) is not None}
    families = {family: [name for name in said if said[name].family == family] for family in feature_names.FAMILIES}
    families = {family: features for family, features in families.items() if features}
    order = [name for features in families.values() for name in features]
    if not order:
        raise TableError(f"no feature is left of {provenance.get('file', 'the table')}: ask for a lower min_coverage")
    values = np.stack([columns[name] for name in order], axis=1).astype(np.float32)
    observed = np.isfinite(values)
    values[~observed] = np.nan
    units = {name: said[name].unit for name in order}
    facts = {**provenance, "naming": naming, "units": units, "repeated_rows": int(repeats(values).sum())}
    return Table(cell=cell, families=families, values=values, observed=observed, about=about, provenance=facts)


def _unfit(name: str, values: np.ndarray, clock_times: bool, min_coverage: float) -> str:  # values [cell]
    """Why a feature is left out, or ""."""
    coverage = np.isfinite(values).mean()
    if coverage < min_coverage:
        return f"measured in {coverage:.1%} of the cells"
    return "clock time" if feature_names.is_clock(name) and not clock_times else ""


def _numbers(name: str, rows: Sequence[dict[str, str]], path: str | Path) -> np.ndarray:  # [cell]
    def number(row: dict[str, str]) -> float:
        try:
            return float(row[name] or "nan")
        except ValueError:
            raise TableError(
                f"{name} of cell {row['cell_id']} in {path} is {row[name]!r}: it must be a number"
            ) from None

    return np.array([number(row) for row in rows])
