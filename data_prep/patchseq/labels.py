"""Labels: what the published metadata, or a lab's own CSV, say of each cell. A cell without a usable label keeps a reason.

Mouse: the first word of a transcriptomic type is its subclass ("Vip Gpc3 Slc18a3" is Vip). Human: the table names the
subclass, and its LAMP5/PAX6/Other is called Lamp5 here. ``subclass5`` keeps Sncg; ``subclass4`` has Sncg with Vip, so that
mouse and human share their classes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.patchseq.table import ABOUT

CLASSES = ("Lamp5", "Pvalb", "Sncg", "Sst", "Vip")
HUMAN = {"PVALB": "Pvalb", "SST": "Sst", "VIP": "Vip", "LAMP5/PAX6/OTHER": "Lamp5"}
# "as published": a slip of the pen ("SNGC") sent Sncg to LAMP5/PAX6/Other in the published four-class runs.
SNCG = {"Vip": "Vip", "as published": "Lamp5"}
EMPTY = ("", "null", "nan", "na", "n/a", "none")
Row = Mapping[str, str]
Outcome = dict[str, str] | str  # the columns of text of a cell, or the reason why it has no label


class LabelError(ValueError):
    """A file of labels that cannot be used, in one sentence."""


@dataclass(frozen=True, eq=False, repr=False)
class Labels(Mapping[str, Mapping[str, str]]):
    """Cell id -> its columns of text, those of ``table.ABOUT``; and why the other cells of the file have none."""

    known: Mapping[str, Mapping[str, str]]
    dropped: Mapping[str, str]  # cell -> reason
    layout: str  # "mouse", "human" or "plain"

    def __getitem__(self, cell: str) -> Mapping[str, str]:
        return self.known[cell]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)

    def __repr__(self) -> str:
        return f"Labels({self.layout}: {len(self)} cells, {len(self.dropped)} dropped)"


def read_labels(path: str | Path, *, strict_lamp5: bool = False, revised: bool = True, sncg: str = "Vip") -> Labels:
    """Read the mouse metadata (keyed by ephys_session_id), the human metadata (nwb_id), or a CSV with ``cell,label``.

    Parameters
    ----------
    strict_lamp5
        Human: keep of LAMP5/PAX6/Other only the types that are LAMP5.
    revised
        Human: take ``Revised_subclass_label`` rather than ``subclass_label``.
    sncg
        Where ``subclass4`` has Sncg: "Vip", or "as published".
    """
    if sncg not in SNCG:
        raise LabelError(f"sncg is {sncg!r}: it is one of {', '.join(map(repr, SNCG))}")
    columns, rows = read_rows(path)
    subclass = "Revised_subclass_label" if revised else "subclass_label"
    layouts: dict[str, tuple[tuple[str, ...], Callable[[Row], tuple[str, Outcome]]]] = {
        "mouse": (("ephys_session_id", "cell_specimen_id", "T-type Label"), lambda row: _mouse(row, sncg)),
        "human": (
            ("nwb_id", "specimen_id_x", "Transcriptomic_type", subclass),
            lambda row: _human(row, subclass, strict_lamp5),
        ),
        "plain": (("cell", "label"), lambda row: _plain(row, sncg)),
    }
    layout = next((name for name, (wanted, _) in layouts.items() if set(wanted) <= set(columns)), None)
    if layout is None:
        wanted = "; or ".join(", ".join(names) for names, _ in layouts.values())
        raise LabelError(f"{path} has the columns {', '.join(columns)}, and labels need {wanted}")
    outcomes: dict[str, list[Outcome]] = {}
    for row in rows:
        cell, outcome = layouts[layout][1](row)
        if not cell:
            said = ", ".join(filter(None, row.values()))
            raise LabelError(f"a row of {path} names no cell ({said}): give every row an id")
        outcomes.setdefault(cell, []).append(outcome)
    # Rows that say the same of a cell are one; of rows that disagree none is believed.
    settled = {cell: said[0] if all(x == said[0] for x in said) else "repeated id" for cell, said in outcomes.items()}
    known = {cell: said for cell, said in settled.items() if not isinstance(said, str)}
    return Labels(known, {cell: said for cell, said in settled.items() if isinstance(said, str)}, layout)


def label_column(species: Iterable[str]) -> str:
    """Which subclass is the label: human cells have no Sncg, so a table that holds any goes by the four classes."""
    return "subclass4" if "human" in species else "subclass5"


def read_rows(path: str | Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a CSV file, names and entries without the blanks around them, what is empty as ""."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if any(entry.strip() for entry in line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one") from None
    except OSError as error:
        raise LabelError(f"{path} cannot be read ({error.strerror}): give a CSV file") from None
    if not lines:
        raise LabelError(f"{path} is empty: give a CSV file with a header")
    columns = [name.strip() for name in lines[0][1]]
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise LabelError(f"{path} has {columns.count(repeated[0])} columns {repeated[0]!r}: keep one")
    for number, line in lines[1:]:
        if len(line) != len(columns):
            raise LabelError(f"line {number} of {path} has {len(line)} entries for {len(columns)} columns: mend it")
    return columns, [dict(zip(columns, map(clean, line), strict=True)) for _, line in lines[1:]]


def clean(text: str) -> str:
    """The entry without blanks; "" where it says that there is none."""
    text = text.strip()
    return "" if text.lower() in EMPTY else text


def clean_id(text: str) -> str:
    """An id that a spreadsheet has turned into a float is itself again: 636982248.0 is 636982248."""
    whole, point, rest = clean(text).partition(".")
    return whole if point and whole.isdigit() and not rest.strip("0") else clean(text)


def _about(subclass5: str, sncg: str, **known: str) -> dict[str, str]:
    subclass4 = SNCG[sncg] if subclass5 == "Sncg" else subclass5
    known = {"label": subclass5, "subclass4": subclass4, "subclass5": subclass5, **known}
    return {name: known.get(name, "") for name in ABOUT}


def _mouse(row: Row, sncg: str) -> tuple[str, Outcome]:
    cell = clean_id(row["ephys_session_id"])
    if not cell:
        return f"specimen {clean_id(row['cell_specimen_id'])}", "no ephys_session_id"
    t_type = row["T-type Label"]
    if not t_type:
        return cell, "no label"
    subclass = t_type.split()[0]
    if subclass not in CLASSES:  # Serpinf1, 47 cells, and what is no interneuron
        return cell, "label outside the classes"
    known = {"donor": clean_id(row.get("donor_id", "")), "structure": row.get("structure", "")}
    # All of this data set was recorded in acute slices; the file has no column for it.
    known |= {"species": "mouse", "condition": "acute", "t_type": t_type, "subclass_raw": subclass}
    return cell, _about(subclass, sncg, **known)


def _human(row: Row, column: str, strict_lamp5: bool) -> tuple[str, Outcome]:
    cell = clean_id(row["nwb_id"])
    if not cell:
        return f"specimen {clean_id(row['specimen_id_x'])}", "no nwb_id"
    raw, t_type = row[column], row["Transcriptomic_type"]
    if not raw:
        return cell, "no label"
    subclass = HUMAN.get(raw.upper())
    if subclass is None:
        return cell, "label outside the classes"
    if strict_lamp5 and subclass == "Lamp5" and "LAMP5" not in t_type.split():
        return cell, "pax6 or other (strict lamp5)"
    known = {name: row.get(name, "") for name in ("structure", "condition")}
    known |= {"species": "human", "donor": row.get("Donor", ""), "t_type": t_type, "subclass_raw": raw}
    return cell, _about(subclass, "Vip", **known)


def _plain(row: Row, sncg: str) -> tuple[str, Outcome]:
    """A lab's own classes stay as they are; where they are ours in another spelling, the subclasses are filled in."""
    cell, label = clean_id(row["cell"]), row["label"]
    if not label:
        return cell, "no label"
    ours = {name.upper(): name for name in CLASSES} | HUMAN
    known = {name: row.get(name, "") for name in ("donor", "species", "condition", "structure", "t_type")}
    return cell, _about(ours.get(label.upper(), ""), sncg, **known, label=label, subclass_raw=label)
