"""Check: what stands in a table, what looks wrong in it, and what a model will see of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from data_prep.patchseq import feature_names
from data_prep.patchseq.feature_csv import repeats
from data_prep.patchseq.labels import clean_id
from data_prep.patchseq.table import Table

FOLDS = 5
MANY = 0.05  # a share of values that is no accident
# Unit -> what a value looks like that becomes plausible when multiplied by the factor.
SLIPS = {
    "mV": ((1e3, "volts: multiply by 1000"), (1e-3, "microvolts: divide by 1000")),
    "s": ((1e-3, "milliseconds: divide by 1000"),),
    "ms": ((1e3, "seconds: multiply by 1000"),),
    "pA": ((1e3, "nanoamperes: multiply by 1000"), (1e12, "amperes: multiply by 1e12")),
    "MOhm": ((1e3, "gigaohms: multiply by 1000"), (1e-6, "ohms: divide by 1e6")),
    "Hz": ((1e3, "kilohertz: multiply by 1000"),),
    "V/s": ((1e3, "volts per millisecond: multiply by 1000"), (1e-3, "millivolts per second: divide by 1000")),
    "": ((1e-2, "per cent: divide by 100"),),
}


@dataclass(frozen=True)
class Block:
    """A small table of the report."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    blocks: Sequence[Block]
    facts: Sequence[str]
    problems: Sequence[str]

    def lines(self) -> list[str]:
        """The report as plain text."""
        text = []
        for block in self.blocks:
            widths = [max(map(len, column)) for column in zip(block.header, *block.rows, strict=True)]
            text.append(block.title)
            for row in (block.header, *block.rows):
                first, *others = [entry.rjust(width) for entry, width in zip(row, widths, strict=True)]
                text.append("  " + "  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
            text.append("")
        return [*text, *self.facts, "", self.verdict, *(f"  - {problem}" for problem in self.problems)]

    @property
    def verdict(self) -> str:
        return f"{len(self.problems)} to look at:" if self.problems else "nothing looks wrong"


def report(table: Table) -> Report:
    """Look at a table; what it says is for the eye, ``problems`` is what ought to be mended or understood first."""
    if not len(table):
        return Report([], [], ["the table has no cells"])
    kinds = {name: _column(table, name) for name in ("label", "species", "condition")}
    blocks = [_counts("classes and species", kinds["label"], kinds["species"])]
    if any(table.about.get("condition", ())):
        blocks.append(_counts("classes and conditions", kinds["label"], kinds["condition"]))
    blocks.append(_families(table))
    problems = [*_about_cells(table), *_about_columns(table), *_about_values(table)]
    return Report(blocks, _facts(table), problems)


def print_report(found: Report, console: Console | None = None) -> None:
    """With colours and frames on a terminal, as plain text elsewhere."""
    console = console or Console()
    if not console.is_terminal:
        for line in found.lines():
            console.file.write(line + "\n")
        return
    for block in found.blocks:
        grid = Grid(title=block.title, title_justify="left")
        for i, name in enumerate(block.header):
            grid.add_column(escape(name), justify="right" if i else "left")
        for row in block.rows:
            grid.add_row(*map(escape, row))
        console.print(grid)
    for fact in found.facts:
        console.print(fact, markup=False, highlight=False)
    console.print(f"[bold {'yellow' if found.problems else 'green'}]{found.verdict}[/]", highlight=False)
    for problem in found.problems:
        console.print(f"  - {problem}", markup=False, highlight=False)


def _column(table: Table, name: str) -> list[str]:
    return [text or "(none)" for text in table.about.get(name, [""] * len(table))]


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"


def _some(items: Sequence[str], shown: int = 5) -> str:
    return ", ".join(items[:shown]) + (f" and {len(items) - shown} more" if len(items) > shown else "")


def _pick(items: Sequence[str], chosen: np.ndarray) -> str:  # bool [item]
    return _some([item for item, taken in zip(items, chosen, strict=True) if taken])


def _counts(title: str, labels: list[str], groups: list[str]) -> Block:
    pairs, columns = Counter(zip(labels, groups, strict=True)), sorted(set(groups))
    rows = [[label, *(str(pairs[label, group]) for group in columns)] for label in sorted(set(labels))]
    total = ["all", *(str(groups.count(group)) for group in columns)]
    rows = [[*row, str(sum(map(int, row[1:])))] for row in (*rows, total)]
    return Block(title, ["class", *columns, "all"], rows)


def _spans(table: Table) -> Iterator[tuple[str, slice]]:
    ends = np.cumsum([0, *table.widths])
    for name, start, end in zip(table.families, ends[:-1], ends[1:], strict=True):
        yield name, slice(int(start), int(end))


def _families(table: Table) -> Block:
    rows = []
    for i, (name, span) in enumerate(_spans(table), 1):
        seen = table.observed[:, span]
        none = str(int((~seen.any(axis=1)).sum()))
        rows.append([f"{i} {name}", str(seen.shape[1]), _share(1 - seen.mean() if seen.size else 1.0), none])
    return Block("what a model will see", ["family", "width", "not measured", "cells with none"], rows)


def _facts(table: Table) -> list[str]:
    """Donors, and the numbers any score is to be held against."""
    donors = Counter(filter(None, table.about.get("donor", ())))
    shared = sum(n for n in donors.values() if n > 1)
    facts = ["no donor is known: folds cannot be grouped by donor"]
    if donors:
        donor, most = donors.most_common(1)[0]
        facts = [f"{len(donors)} donors, at most {most} cells of one ({donor})"]
        if shared:
            facts += [
                f"{shared} cells share their donor with another cell: folds by cell put one donor on both sides, "
                f"so report folds by donor as well"
            ]
    unknown = [
        name for name in table.families if name not in feature_names.FAMILIES and feature_names.vector(name) is None
    ]
    if unknown:
        facts.append(f"no unit is known of {_some(unknown)}: values there were not looked at")
    labels = list(filter(None, table.about.get("label", ())))
    facts.append(f"{len(table)} cells, {len(table.families)} families, {sum(table.widths)} features")
    if labels:
        label, most = Counter(labels).most_common(1)[0]
        facts.append(
            f"{len(set(labels))} classes; always saying {label} is right for {_share(most / len(labels))} of the cells"
        )
    return facts


def _about_cells(table: Table) -> Iterator[str]:
    """Ids, rows that stand twice, labels, and classes too small for folds."""
    cells = [str(cell) for cell in table.cell]
    twice = [cell for cell, n in Counter(clean_id(cell).lower() for cell in cells).items() if n > 1]
    if twice:
        yield f"ids that differ only in how they are written: {_some(twice)}"
    again = repeats(np.where(table.observed, table.values, np.nan))
    if again.any():
        yield f"cells with exactly the features of an earlier one, perhaps copies: {_pick(cells, again)}"
    empty = np.logical_not(np.any(table.observed, axis=1))
    if empty.any():
        yield f"cells with nothing measured: {_pick(cells, empty)}"
    labels = np.array(table.about.get("label", [""] * len(table)))
    donors = np.array(table.about.get("donor", [""] * len(table)))
    if (labels == "").any():
        yield f"cells without a label, to be left out of training: {_pick(cells, labels == '')}"
    if (donors != "").any() and (donors == "").any():
        yield f"cells without a donor, where others have one: {_pick(cells, donors == '')}"
    for label in sorted(set(labels) - {""}):
        n, given = int((labels == label).sum()), set(donors[labels == label])
        if n < FOLDS:
            yield f"class {label} has fewer than {FOLDS} cells ({n}): {FOLDS} folds cannot each hold one"
        elif given != {""} and len(given) < FOLDS:
            yield f"class {label} has fewer than {FOLDS} donors ({len(given)}): {FOLDS} folds by donor cannot each hold one"


def _about_columns(table: Table) -> Iterator[str]:
    """Columns from which nothing can be learnt."""
    for family, span in _spans(table):
        features, seen = table.families[family], table.observed[:, span]
        values = np.where(seen, table.values[:, span], np.nan)
        lowest, highest = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
        never = [name for name, any_seen in zip(features, np.any(seen, axis=0).tolist(), strict=True) if not any_seen]
        constant = [name for name, same in zip(features, lowest == highest, strict=True) if same]
        if never:
            yield f"{family}: {len(never)} of {len(features)} columns were never measured: {_some(never)}"
        if constant:
            yield f"{family}: {len(constant)} of {len(features)} columns are constant: {_some(constant)}"


def _about_values(table: Table) -> Iterator[str]:
    """Values outside what their unit allows, each species by itself: one unit may hold for mouse and another for human."""
    species = np.array(_column(table, "species"))
    groups = sorted(set(species))
    for name, said, columns in _known(table):
        for group in groups:
            values, seen = (array[species == group, columns] for array in (table.values, table.observed))
            text = _judge(values[seen], said) if seen.any() else ""
            if text:
                yield f"{name}{f' ({group})' if len(groups) > 1 else ''}: {text}"


def _known(table: Table) -> Iterator[tuple[str, feature_names.Feature, slice]]:
    """What has a known unit: a scalar feature by itself, a family of feature vectors as a whole."""
    naming = _naming(table)
    for family, span in _spans(table):
        parts = [(family, feature_names.vector(family), span)]
        if family in feature_names.FAMILIES:
            columns = zip(table.families[family], range(span.start, span.stop), strict=True)
            parts = [(name, feature_names.feature(name, naming), slice(j, j + 1)) for name, j in columns]
        yield from ((name, said, columns) for name, said, columns in parts if said is not None)


def _naming(table: Table) -> str | None:
    if "naming" in table.provenance:
        return table.provenance["naming"]
    try:
        return feature_names.naming_of(table.features)
    except ValueError:  # features of our own, or vectors only: then no unit depends on the naming
        return None


def _judge(values: np.ndarray, said: feature_names.Feature) -> str:  # values [value]
    """A slip of the unit moves the median; a bad cell stands outside the range. "" if neither."""
    middle = float(np.median(np.abs(values)))
    outside = values[(values < said.low) | (values > said.high)]
    if said.typical and not _within(middle, said.typical):
        low, high = said.typical
        text, size = f"the median size is {middle:.3g}, expected {low:g} to {high:g} {said.unit}", middle
    elif outside.size:
        text = f"{outside.size} of {values.size} values outside {said.low:g} to {said.high:g} {said.unit}".rstrip()
        text += f" ({', '.join(f'{x:.4g}' for x in sorted({outside.min(), outside.max()}))})"
        # One or two wild cells are no slip of the unit.
        size = float(np.median(np.abs(outside))) if outside.size > MANY * values.size else 0.0
    else:
        return ""
    looks = [look for times, look in SLIPS.get(said.unit, ()) if said.typical and _within(size * times, said.typical)]
    return text.rstrip() + (f"; looks like {looks[0]}" if looks else "")


def _within(size: float, span: tuple[float, float]) -> bool:
    return span[0] <= size <= span[1]
