"""Preview of a CSV file of features: what each column is taken for, whether its values fit the unit, and a map to correct it.

Start with :func:`preview_csv`; :func:`suggest_map` writes the map that :mod:`data_prep.patchseq.feature_columns` reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep.csv_files import read_csv_rows
from data_prep.patchseq import feature_names
from data_prep.patchseq.check import describe_implausible
from data_prep.patchseq.feature_columns import DESIGN, Columns, FeatureMap, find_columns
from data_prep.report import Block, Report
from jaxephys.schemas.storage import TableError

# Usual names of laboratories, without unit and punctuation: our name of the feature under the aligned names.
USUAL_NAMES = {
    **dict.fromkeys(("rmp", "vm", "resting potential", "resting membrane potential", "v rest", "vrest"), "vrest"),
    **dict.fromkeys(("rin", "rm", "ir", "input resistance", "input res", "r input", "membrane resistance"), "ri"),
    **dict.fromkeys(("tau m", "taum", "membrane tau", "time constant", "membrane time constant", "tau"), "tau"),
    **dict.fromkeys(("sag ratio", "sag index", "sag", "h current sag"), "sag"),
    **dict.fromkeys(("rheobase", "rheo", "rheobase i", "rheobase current"), "rheobase_i"),
    **dict.fromkeys(("fi slope", "f i slope", "fi curve slope", "gain", "io slope"), "fi_slope"),
    **dict.fromkeys(("adaptation", "adaptation index", "adaptation ratio", "adapt"), "adapt"),
    **dict.fromkeys(("latency", "first spike latency", "ap latency", "spike latency"), "latency"),
    **dict.fromkeys(("mean isi", "avg isi", "average isi"), "avg_isi"),
    **dict.fromkeys(("ap threshold", "threshold", "spike threshold", "vthresh"), "threshold_v_long_square"),
    **dict.fromkeys(
        ("ap amplitude", "amplitude", "spike amplitude", "ap amp", "spike height", "ap height"), "peak_dv_long_square"
    ),
    **dict.fromkeys(("ahp", "fast ahp", "fahp", "ahp amplitude"), "fast_trough_dv_long_square"),
}
# Factor from the unit in the name of a column to ours.
FACTORS = {
    ("ms", "s"): 1e-3,
    ("s", "ms"): 1e3,
    ("us", "s"): 1e-6,
    ("v", "mV"): 1e3,
    ("na", "pA"): 1e3,
    ("a", "pA"): 1e12,
    ("gohm", "MOhm"): 1e3,
    ("ohm", "MOhm"): 1e-6,
    ("mv/ms", "V/s"): 1.0,
    ("%", ""): 1e-2,
}


def preview_csv(
    path: str | Path, *, feature_map: FeatureMap | None = None, naming: str | None = None, others: str | None = None
) -> Report:
    """Describe what each column of a file of features is taken for.

    Parameters
    ----------
    path : str or Path
        CSV file of features.
    feature_map : FeatureMap, optional
        Meaning of columns as the user describes it.
    naming : {"old", "new", "aligned"}, optional
        Naming of the features.
    others : {"drop", "number", "prefix", "column"}, optional
        What becomes of columns of numbers without a known name.

    Returns
    -------
    Report
        A table of the features with their family, unit, median and share of measured values, a table of the columns that are left
        out, and values that do not fit their unit.

    Raises
    ------
    TableError
        If the file cannot be read, or has no column of identifiers or of numbers.
    """
    columns, rows = read_csv_rows(path)
    found = find_columns(columns, rows, path, feature_map=feature_map, naming=naming, others=others)
    features, findings = [], []
    for name, (column, factor) in sorted(found.features.items(), key=lambda item: _order(found.family(item[0]))):
        values = _values(column, rows, path) * factor
        finite = values[np.isfinite(values)]
        known = feature_names.known_feature(name, found.naming)
        unit = known.unit if known is not None and not _is_further(name, found) else "?"
        median = f"{np.median(finite):.4g}" if finite.size else "none"
        share = f"{100 * finite.size / len(rows):.0f} %"
        features.append([column, name, found.family(name), unit or "-", median, share])
        problem = describe_implausible(finite, known) if finite.size and known is not None and unit != "?" else ""
        findings += [f"{column}: {problem}"] if problem else []
    left_out = [[column, reason, _suggestion(column)] for column, reason in found.left_out.items()]
    blocks = [Block("features", ("column", "feature", "family", "unit", "median", "measured"), features)]
    blocks += [Block("left out", ("column", "reason", "perhaps"), left_out)] if left_out else []
    texts = [f"{name} = {column}" for name, column in found.text.items()]
    facts = {
        "cells": f"{len(rows)}, identified by {found.id_column!r}",
        "texts": ", ".join(texts) or "none: there is no label, give its column with --label",
        "naming": found.naming
        or "not known: the unit of tau is not checked, and features cannot be aligned (--naming)",
    }
    return Report(facts, findings, blocks)


def suggest_map(
    path: str | Path, *, feature_map: FeatureMap | None = None, naming: str | None = None, others: str | None = None
) -> str:
    """Return a map of the columns of a file, to be completed by hand.

    Parameters
    ----------
    path : str or Path
        CSV file of features.
    feature_map : FeatureMap, optional
        Meaning of columns as the user describes it.
    naming : {"old", "new", "aligned"}, optional
        Naming of the features.
    others : {"drop", "number", "prefix", "column"}, optional
        What becomes of columns of numbers without a known name.

    Returns
    -------
    str
        TOML text. Columns that are left out are in comments, with a suggestion where their name is a usual one.
    """
    columns, rows = read_csv_rows(path)
    found = find_columns(columns, rows, path, feature_map=feature_map, naming=naming, others=others)
    return "\n".join(_map_lines(found)) + "\n"


def _map_lines(found: Columns) -> Iterator[str]:
    quote = json.dumps  # a JSON text is a basic string of TOML
    yield f"id = {quote(found.id_column)}"
    yield from ("", "[text]  # our text column = column of the file")
    yield from (f"{name} = {quote(column)}" for name, column in found.text.items())
    yield from ("", '[features]  # our name = column of the file, or { column = "...", times = factor to our unit }')
    for name, (column, factor) in found.features.items():
        if not _is_further(name, found):
            entry = quote(column) if factor == 1.0 else f"{{ column = {quote(column)}, times = {factor!r} }}"
            yield f"{quote(name)} = {entry}"
    for column in (*found.left_out, *(name for some in found.families.values() for name in some)):
        suggested = _suggested_feature(column)
        if suggested:
            factor = _factor(column, suggested)
            entry = quote(column) if factor is None else f"{{ column = {quote(column)}, times = {factor!r} }}"
            yield f"# {suggested} = {entry}"
    yield from ("", "[families]  # further features, under their own names")
    yield from (f"{quote(family)} = {json.dumps(list(some))}" for family, some in found.families.items())
    unused = [column for column in found.left_out if DESIGN.fullmatch(column) is None]
    if unused:
        yield f"# other = {json.dumps(unused)}"


def _is_further(name: str, found: Columns) -> bool:
    return any(name in some for some in found.families.values())


def _order(family: str) -> int:
    return feature_names.FAMILIES.index(family) if family in feature_names.FAMILIES else len(feature_names.FAMILIES)


def _values(column: str, rows: Sequence[Mapping[str, str]], path: str | Path) -> np.ndarray:  # [cell]
    try:
        return np.array([float(row[column] or "nan") for row in rows])
    except ValueError as error:
        raise TableError(
            f"{column} of {path} is not a column of numbers ({error}): correct it, or leave it out"
        ) from None


def _suggested_feature(column: str) -> str:
    """Return the feature that a column with a usual name of another laboratory may be, "" if there is none."""
    plain = re.sub(r"[\(\[].*?[\)\]]", " ", column.lower())
    words = re.sub(r"[^a-z0-9]+", " ", plain).split()
    units = {unit for unit, _ in FACTORS} | {"mv", "pa", "mohm", "hz"}
    return USUAL_NAMES.get(" ".join(word for word in words if word not in units or len(words) == 1), "")


def _factor(column: str, feature: str) -> float | None:
    """Return the factor from the unit in the name of a column to ours; None if it is 1 or the name has no unit."""
    known = feature_names.known_feature(feature, "aligned")
    words = re.sub(r"[^a-z0-9/%]+", " ", column.lower()).split()
    return next(
        (FACTORS[word, known.unit] for word in words if known is not None and (word, known.unit) in FACTORS), None
    )


def _suggestion(column: str) -> str:
    feature = _suggested_feature(column)
    factor = _factor(column, feature) if feature else None
    return feature + (f", times {factor:g}" if factor is not None else "")
