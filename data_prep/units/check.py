"""Check: what stands in a table of units, and what in it would mislead a model or a score. As text and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from data_prep.units.registry import differences, find
from data_prep.units.table import MODALITIES, Units

FOLDS = 5
FEW = 5  # rows below which a rising column is no sign of an index
SPREAD = 0.05  # of the waveform's length: a wider middle half of the troughs is misalignment
ZEROS = 0.5  # share of exact zeros that no measured waveform has


@dataclass(frozen=True)
class Finding:
    """Something to mend or to know before training."""

    kind: str
    modality: str  # "" where it is none of one
    units: Sequence[str]  # the units concerned; none where it is the table
    text: str


@dataclass(frozen=True)
class Report:
    facts: Mapping[str, Any]
    findings: Sequence[Finding]

    def json(self) -> dict[str, Any]:
        return {"facts": dict(self.facts), "findings": [asdict(finding) for finding in self.findings]}

    def lines(self) -> list[str]:
        facts = [f"{name:<12} {said(value)}" for name, value in self.facts.items()]
        head = f"{len(self.findings)} to look at:" if self.findings else "nothing looks wrong"
        return [*facts, "", head, *(f"  - {finding.text}" for finding in self.findings)]


def said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {said(entry)}" for key, entry in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def report(units: Units) -> Report:
    """Look at a table."""
    if not len(units):
        return Report({"units": 0}, [Finding("empty", "", [], "the table has no units")])
    checks = (indices, flat_rows, missing_rows, repeats, misaligned, damaged, mixed_scales, small_classes, unexpected)
    return Report(facts(units), [finding for check in checks for finding in check(units)])


def facts(units: Units) -> dict[str, Any]:
    labels = [label or "(none)" for label in units.column("label")]
    groups = {name: len(set(units.column(name)) - {""}) for name in ("subject", "session")}
    known = {name: count for name, count in groups.items() if count}
    present = dict(zip(MODALITIES, units.present.sum(axis=0).tolist(), strict=True))
    widths = {name: rows.shape[1] for name, rows in units.modalities.items() if rows.shape[1]}
    return {
        "units": len(units),
        "present": present,
        "columns": widths,
        "scale": {name: scale_of(rows) for name, rows in counted(units)},
        "classes": dict(Counter(labels).most_common()),
        "groups": known or "none known: folds cannot be grouped by subject or session",
        "technology": dict(Counter(name or "(none)" for name in units.column("technology"))),
        # Neighbouring rows of one class, against how many there would be in random order.
        "row order": order_tells(labels),
    }


def order_tells(labels: Sequence[str]) -> str:
    if len(labels) < 2:
        return "one row"
    same = np.mean([a == b for a, b in pairwise(labels)])
    chance = sum((count / len(labels)) ** 2 for count in Counter(labels).values())
    return f"{100 * same:.0f} % of neighbouring rows share their class, {100 * chance:.0f} % by chance"


def rows_of(units: Units) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each modality that is there: its name, its rows that are, and their places."""
    for name, rows in units.modalities.items():
        at = np.flatnonzero(np.isfinite(rows).any(axis=1))
        if at.size:
            yield name, rows[at], at


def counted(units: Units) -> Iterator[tuple[str, np.ndarray]]:
    yield from ((name, rows) for name, rows, _ in rows_of(units) if name != "waveform")


def scales(rows: np.ndarray) -> np.ndarray:
    """[row] "counts" (whole numbers, some above one), "density" (sums to one), or "other"."""
    whole = np.all(rows == np.round(rows), axis=1) & (rows.max(axis=1) > 1)
    unit = np.isclose(rows.sum(axis=1), 1.0, atol=1e-3)
    return np.where(whole, "counts", np.where(unit, "density", "other"))


def scale_of(rows: np.ndarray) -> str:
    """The scale of nearly all rows that hold anything, or "mixed"."""
    kinds = Counter(scales(rows[rows.any(axis=1)]).tolist()).most_common()
    if not kinds:
        return "other"
    return kinds[0][0] if kinds[0][1] > 0.9 * sum(count for _, count in kinds) else "mixed"


def some(units: Units, at: np.ndarray, shown: int = 5) -> str:
    names = [str(units.unit[i]) for i in at[:shown]]
    return ", ".join(names) + (f" and {len(at) - shown} more" if len(at) > shown else "")


def finding(units: Units, kind: str, modality: str, at: np.ndarray, text: str) -> Finding:
    return Finding(kind, modality, [str(units.unit[i]) for i in at], f"{modality}: {text}: {some(units, at)}")


def indices(units: Units) -> Iterator[Finding]:
    """Columns of whole numbers that rise from row to row: the number of the row, which tells the class where rows are sorted."""
    for name, rows, _ in rows_of(units):
        if len(rows) < FEW:
            continue
        rising = np.all(np.diff(rows, axis=0) > 0, axis=0) & np.all(rows == np.round(rows), axis=0)
        for column in np.flatnonzero(rising).tolist():
            text = f"{name}: column {column} rises by whole numbers from row to row: a row index, take it out of the source"
            yield Finding("index column", name, [], text)


def flat_rows(units: Units) -> Iterator[Finding]:
    for name, rows, at in rows_of(units):
        zero = ~rows.any(axis=1)
        constant = (np.ptp(rows, axis=1) == 0) & ~zero
        if zero.any():
            yield finding(units, "zero rows", name, at[zero], f"{int(zero.sum())} rows hold nothing but zeros")
        if constant.any():
            yield finding(units, "constant rows", name, at[constant], f"{int(constant.sum())} rows are constant")


def missing_rows(units: Units) -> Iterator[Finding]:
    for name, rows in units.modalities.items():
        gone = np.flatnonzero(np.isnan(rows).any(axis=1))
        if gone.size:
            yield finding(units, "missing rows", name, gone, f"{gone.size} units have none")
    nothing = np.flatnonzero(~units.present.any(axis=1))
    if nothing.size:
        yield finding(units, "empty units", "all", nothing, f"{nothing.size} units have no modality at all")


def repeats(units: Units) -> Iterator[Finding]:
    """Rows that stand twice: a copy in another fold or group is a test unit in training."""
    columns = {name: units.column(name) for name in ("fold", "subject", "session")}
    for name, rows, at in rows_of(units):
        same: dict[bytes, list[int]] = defaultdict(list)
        for row, place in zip(rows, at.tolist(), strict=True):
            if np.ptp(row) > 0:
                same[row.tobytes()].append(place)
        copies = [places for places in same.values() if len(places) > 1]
        if not copies:
            continue
        again = np.array(sorted(place for places in copies for place in places[1:]))
        across = {
            column: sum(len({values[place] for place in places} - {""}) > 1 for places in copies)
            for column, values in columns.items()
        }
        apart = ", ".join(f"{count} of them across {column}s" for column, count in across.items() if count)
        text = f"{again.size} rows repeat an earlier one exactly" + (f" ({apart})" if apart else "")
        yield finding(units, "repeated rows", name, again, text)


def misaligned(units: Units) -> Iterator[Finding]:
    for name, rows, _ in rows_of(units):
        if name == "waveform":
            trough = np.argmin(rows[np.ptp(rows, axis=1) > 0], axis=1)
            low, high = np.percentile(trough, [25, 75]) if trough.size else (0.0, 0.0)
            if high - low > SPREAD * rows.shape[1]:
                text = f"waveform: the middle half of the troughs lies from sample {low:.0f} to {high:.0f} of {rows.shape[1]}"
                yield Finding("misaligned", name, [], f"{text}: not aligned, a shape may be read as a delay")


def damaged(units: Units) -> Iterator[Finding]:
    for name, rows, at in rows_of(units):
        if name == "waveform":
            bad = (np.mean(rows == 0, axis=1) > ZEROS) & rows.any(axis=1)
            if bad.any():
                share = 100 * np.mean(rows[bad] == 0)
                text = f"{int(bad.sum())} rows are mostly exact zeros ({share:.0f} %), as after a cast to whole numbers"
                yield finding(units, "damaged rows", name, at[bad], text)


def mixed_scales(units: Units) -> Iterator[Finding]:
    kinds = {name: scale_of(rows) for name, rows in counted(units)}
    for name, kind in kinds.items():
        if kind == "mixed":
            yield Finding(
                "mixed scales", name, [], f"{name}: some rows are counts and others densities: logarithms differ"
            )
    if len(set(kinds.values())) > 1 and "counts" in kinds.values():
        text = " and ".join(f"{name} holds {kind}" for name, kind in kinds.items())
        yield Finding("mixed scales", "", [], f"{text}: one of them was scaled")


def small_classes(units: Units) -> Iterator[Finding]:
    labels = np.array(units.column("label"))
    for label in sorted(set(labels.tolist()) - {""}):
        at = np.flatnonzero(labels == label)
        if at.size < FOLDS:
            text = f"class {label} has {at.size} units: {FOLDS} folds cannot each hold one"
            yield Finding("small class", "", [str(units.unit[i]) for i in at.tolist()], text)
            continue
        for name in ("subject", "session"):
            groups = set(np.array(units.column(name))[at].tolist()) - {""}
            if groups and len(groups) < FOLDS:
                text = f"class {label} comes from {len(groups)} {name}s: {FOLDS} folds by {name} cannot each hold one"
                yield Finding("few groups", "", [], text)


def unexpected(units: Units) -> Iterator[Finding]:
    """In what the table is not the published data set it is said to be."""
    name = next(iter(units.column("dataset")), "")
    if name:
        differ = differences(units, find(name))
        if differ:
            yield Finding("unexpected", "", [], f"not the published {name}: {'; '.join(differ)}")
