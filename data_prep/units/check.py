"""Summarize a table of units, and list problems in it that would make models or scores misleading. Start with :func:`check_units`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from data_prep.report import Finding, Report, shorten
from data_prep.units.registry import differences, find_dataset
from jaxephys.schemas.unit_table import MODALITIES, UnitTable

N_FOLDS = 5
MIN_ROWS_FOR_INDEX = 5  # with fewer rows an increasing column may be by chance
MAX_TROUGH_SPREAD = 0.05  # of the waveform's length: largest interquartile range of aligned troughs
MAX_ZEROS = 0.5  # share of exact zeros that no measured waveform has


def check_units(units: UnitTable) -> Report:
    """Describe a table and list what would mislead a model or a score.

    Parameters
    ----------
    units : UnitTable
        The table.

    Returns
    -------
    Report
        Facts and findings: row indices among the features, zero, constant, missing or repeated rows, waveforms that are
        not aligned or mostly zero, counts mixed with densities, small classes, and differences from the published data
        set.

    Examples
    --------
    >>> import numpy as np
    >>> waves = np.random.default_rng(0).normal(size=(6, 50))
    >>> waves[4] = waves[1]
    >>> units = UnitTable.from_arrays(wave=waves, unit=list("uvwxyz"), subject=["a", "a", "a", "b", "b", "b"])
    >>> report = check_units(units)
    >>> [finding.text for finding in report.findings if finding.kind == "repeated rows"]
    ['waveform: 1 rows repeat an earlier one exactly (1 of them across subjects): y']
    """
    checks = (
        _row_indices, _flat_rows, _missing_rows, _repeated_rows, _unusual_waveforms, _mixed_scales, _small_classes,
        _differences_from_published,
    )  # fmt: skip
    return Report(_facts(units), [finding for check in checks for finding in check(units)])


# Facts.


def _facts(units: UnitTable) -> dict[str, Any]:
    labels = [label or "(none)" for label in units.label.tolist()]
    groups = {name: len(set(units.column(name).tolist()) - {""}) for name in ("subject", "session")}
    known = {name: count for name, count in groups.items() if count}
    return {
        "units": len(units),
        "present": dict(zip(MODALITIES.values(), units.finite.sum(axis=0).tolist(), strict=True)),
        "columns": {MODALITIES[name]: curves.shape[1] for name, curves in units.raw.items() if curves.shape[1]},
        "scale": {name: _scale(curves) for name, curves, _ in _present_curves(units) if name != "waveform"},
        "classes": dict(Counter(labels).most_common()),
        "groups": known or "none known: folds cannot be grouped by subject or session",
        "technology": dict(Counter(name or "(none)" for name in units.column("technology").tolist())),
        "row order": _describe_row_order(labels),
    }


def _describe_row_order(labels: Sequence[str]) -> str:
    """Compare how many neighbouring rows share their class with how many would in random order."""
    if len(labels) < 2:
        return "one row"
    same = np.mean([a == b for a, b in pairwise(labels)])
    chance = sum((count / len(labels)) ** 2 for count in Counter(labels).values())
    return f"{100 * same:.0f} % of neighbouring rows share their class, {100 * chance:.0f} % by chance"


def _present_curves(units: UnitTable) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield, for each modality that any unit has, its name in the file, the finite curves and their row numbers."""
    for name, curves in units.raw.items():
        rows = np.flatnonzero(np.isfinite(curves).any(axis=1))
        if rows.size:
            yield MODALITIES[name], curves[rows], rows


def _scale(curves: np.ndarray) -> str:
    """Return the scale of at least 90 % of the rows that are not zero: "counts", "density" or "other"; else "mixed"."""
    curves = curves[curves.any(axis=1)]
    if not len(curves):
        return "other"
    whole = np.all(curves == np.round(curves), axis=1) & (curves.max(axis=1) > 1)
    sums_to_one = np.isclose(curves.sum(axis=1), 1.0, atol=1e-3)
    scales = Counter(np.where(whole, "counts", np.where(sums_to_one, "density", "other")).tolist()).most_common()
    return scales[0][0] if scales[0][1] > 0.9 * len(curves) else "mixed"


# Findings.


def _finding(units: UnitTable, kind: str, modality: str, rows: np.ndarray, text: str) -> Finding:
    """Return a finding about some rows, the first of which its text names."""
    names = [str(name) for name in units.unit[rows]]
    return Finding(kind, f"{modality}: {text}: {shorten(names)}", modality, names)


def _row_indices(units: UnitTable) -> Iterator[Finding]:
    """Find columns of increasing whole numbers, which reveal the class where rows are sorted by it."""
    for name, curves, _ in _present_curves(units):
        if len(curves) < MIN_ROWS_FOR_INDEX:
            continue
        increasing = np.all(np.diff(curves, axis=0) > 0, axis=0) & np.all(curves == np.round(curves), axis=0)
        for column in np.flatnonzero(increasing).tolist():
            text = f"{name}: column {column} increases by whole numbers from row to row: a row index, remove it from the source"
            yield Finding("index column", text, name)


def _flat_rows(units: UnitTable) -> Iterator[Finding]:
    for name, curves, rows in _present_curves(units):
        zero = ~curves.any(axis=1)
        constant = (np.ptp(curves, axis=1) == 0) & ~zero
        if zero.any():
            yield _finding(units, "zero rows", name, rows[zero], f"{int(zero.sum())} rows hold only zeros")
        if constant.any():
            yield _finding(units, "constant rows", name, rows[constant], f"{int(constant.sum())} rows are constant")


def _missing_rows(units: UnitTable) -> Iterator[Finding]:
    for name, curves in units.raw.items():
        missing = np.flatnonzero(np.isnan(curves).any(axis=1))
        if missing.size:
            yield _finding(units, "missing rows", MODALITIES[name], missing, f"{missing.size} units have none")
    empty = np.flatnonzero(~units.finite.any(axis=1))
    if empty.size:
        yield _finding(units, "empty units", "all", empty, f"{empty.size} units have no modality at all")


def _repeated_rows(units: UnitTable) -> Iterator[Finding]:
    """Find rows that occur more than once: a copy in another fold or group is a test unit in training."""
    columns = {name: units.column(name).tolist() for name in ("fold", "subject", "session")}
    for name, curves, rows in _present_curves(units):
        same: dict[bytes, list[int]] = defaultdict(list)
        for curve, row in zip(curves, rows.tolist(), strict=True):
            if np.ptp(curve) > 0:
                same[curve.tobytes()].append(row)
        copies = [group for group in same.values() if len(group) > 1]
        if not copies:
            continue
        repeated = np.array(sorted(row for group in copies for row in group[1:]))
        across = {
            column: sum(len({values[row] for row in group} - {""}) > 1 for group in copies)
            for column, values in columns.items()
        }
        apart = ", ".join(f"{count} of them across {column}s" for column, count in across.items() if count)
        text = f"{repeated.size} rows repeat an earlier one exactly" + (f" ({apart})" if apart else "")
        yield _finding(units, "repeated rows", name, repeated, text)


def _unusual_waveforms(units: UnitTable) -> Iterator[Finding]:
    for name, curves, rows in _present_curves(units):
        if name != "waveform":
            continue
        trough = np.argmin(curves[np.ptp(curves, axis=1) > 0], axis=1)
        low, high = np.percentile(trough, [25, 75]) if trough.size else (0.0, 0.0)
        if high - low > MAX_TROUGH_SPREAD * curves.shape[1]:
            text = f"waveform: the middle half of the troughs is between samples {low:.0f} and {high:.0f} of {curves.shape[1]}"
            yield Finding("misaligned", f"{text}: not aligned, a model may take a delay for a shape", name)
        damaged = (np.mean(curves == 0, axis=1) > MAX_ZEROS) & curves.any(axis=1)
        if damaged.any():
            share = 100 * np.mean(curves[damaged] == 0)
            text = f"{int(damaged.sum())} rows are mostly exact zeros ({share:.0f} %), as after a cast to whole numbers"
            yield _finding(units, "damaged rows", name, rows[damaged], text)


def _mixed_scales(units: UnitTable) -> Iterator[Finding]:
    scales = {name: _scale(curves) for name, curves, _ in _present_curves(units) if name != "waveform"}
    for name, scale in scales.items():
        if scale == "mixed":
            text = f"{name}: some rows are counts and others densities: their logarithms differ"
            yield Finding("mixed scales", text, name)
    if len(set(scales.values())) > 1 and "counts" in scales.values():
        text = " and ".join(f"{name} holds {scale}" for name, scale in scales.items())
        yield Finding("mixed scales", f"{text}: one of them was scaled")


def _small_classes(units: UnitTable) -> Iterator[Finding]:
    for label in units.classes.tolist():
        rows = np.flatnonzero(units.label == label)
        if rows.size < N_FOLDS:
            text = f"class {label} has {rows.size} units: {N_FOLDS} folds cannot each hold one"
            yield Finding("small class", text, units=[str(name) for name in units.unit[rows]])
            continue
        for name in ("subject", "session"):
            groups = set(units.column(name)[rows].tolist()) - {""}
            if groups and len(groups) < N_FOLDS:
                text = f"class {label} comes from {len(groups)} {name}s: {N_FOLDS} folds by {name} cannot each hold one"
                yield Finding("few groups", text)


def _differences_from_published(units: UnitTable) -> Iterator[Finding]:
    """Compare a table that names a published data set with its description."""
    name = str(units.column("dataset")[0])
    if name:
        found = differences(units, find_dataset(name))
        if found:
            yield Finding("unexpected", f"not the published {name}: {'; '.join(found)}")
