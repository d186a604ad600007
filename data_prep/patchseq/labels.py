"""Read the labels of cells: the published metadata of the mouse and human data, or a CSV with the columns cell and label.

Mouse: the first word of a transcriptomic type is the subclass ("Vip Gpc3 Slc18a3" is Vip). Human: the table names the subclass,
and its LAMP5/PAX6/Other is called Lamp5 here. ``subclass5`` has Sncg as a class of its own; ``subclass4`` merges Sncg with
Vip, so that mouse and human have the same classes. Start with :func:`read_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from data_prep.csv_files import clean_text, read_csv_rows
from data_prep.patchseq.table import TEXT_COLUMNS
from jaxephys.schemas.storage import DataError

CLASSES = ("Lamp5", "Pvalb", "Sncg", "Sst", "Vip")
HUMAN_CLASSES = {"PVALB": "Pvalb", "SST": "Sst", "VIP": "Vip", "LAMP5/PAX6/OTHER": "Lamp5"}
# "as published": a typing error ("SNGC") assigned Sncg to LAMP5/PAX6/Other in the published four-class runs.
SNCG_CLASSES = {"Vip": "Vip", "as published": "Lamp5"}
CsvRow = Mapping[str, str]
RowLabel = dict[str, str] | str  # text columns of a cell, or the reason code why it has no label


class LabelError(DataError):
    """A file of labels that cannot be used; the message is one sentence with the remedy."""


class Labels(dict[str, Mapping[str, str]]):
    """Text columns (``table.TEXT_COLUMNS``) of labelled cells by their identifier.

    Parameters
    ----------
    labels : mapping of str to (dict of str to str, or str)
        For each cell of the file its text columns, or the reason code why it has no usable label.
    layout : str
        Format of the file: "mouse", "human" or "plain".

    Attributes
    ----------
    dropped : dict of str to str
        Reason code of each cell without a usable label.
    layout : str
        As given.
    """

    def __init__(self, labels: Mapping[str, RowLabel], layout: str) -> None:
        super().__init__((cell, label) for cell, label in labels.items() if not isinstance(label, str))
        self.dropped = {cell: label for cell, label in labels.items() if isinstance(label, str)}
        self.layout = layout


def read_labels(path: str | Path, *, strict_lamp5: bool = False, revised: bool = True, sncg: str = "Vip") -> Labels:
    """Read a table of labels.

    Parameters
    ----------
    path : str or Path
        The mouse metadata (with ``ephys_session_id``), the human metadata (with ``nwb_id``), or a CSV file with the columns
        ``cell`` and ``label``. Cells are matched to recordings by these identifiers.
    strict_lamp5 : bool, default False
        Human: keep only the LAMP5 types of the subclass LAMP5/PAX6/Other.
    revised : bool, default True
        Human: use ``Revised_subclass_label``, else ``subclass_label``.
    sncg : {"Vip", "as published"}, default "Vip"
        Class of Sncg cells in ``subclass4``; "as published" repeats an error of the published code (Lamp5).

    Returns
    -------
    Labels
        The labelled cells, and the reason for every other cell. Rows that disagree about a cell drop it.

    Raises
    ------
    DataError
        If the file cannot be read, has other columns, or has a row without an identifier.
    """
    if sncg not in SNCG_CLASSES:
        raise LabelError(f"sncg is {sncg!r}: it is one of {', '.join(map(repr, SNCG_CLASSES))}")
    columns, rows = read_csv_rows(path)
    subclass = "Revised_subclass_label" if revised else "subclass_label"
    layouts: dict[str, tuple[tuple[str, ...], Callable[[CsvRow], tuple[str, RowLabel]]]] = {
        "mouse": (("ephys_session_id", "cell_specimen_id", "T-type Label"), lambda row: _mouse_label(row, sncg)),
        "human": (
            ("nwb_id", "specimen_id_x", "Transcriptomic_type", subclass),
            lambda row: _human_label(row, subclass, strict_lamp5),
        ),
        "plain": (("cell", "label"), lambda row: _plain_label(row, sncg)),
    }
    layout = next((name for name, (needed, _) in layouts.items() if set(needed) <= set(columns)), None)
    if layout is None:
        needed = "; or ".join(", ".join(names) for names, _ in layouts.values())
        raise LabelError(f"{path} has the columns {', '.join(columns)}, but labels need {needed}")
    labels_of: dict[str, list[RowLabel]] = {}
    for row in rows:
        cell, label = layouts[layout][1](row)
        if not cell:
            entries = ", ".join(filter(None, row.values()))
            raise LabelError(f"a row of {path} names no cell ({entries}): give every row an id")
        labels_of.setdefault(cell, []).append(label)
    unique = {
        cell: some[0] if all(one == some[0] for one in some) else "repeated id" for cell, some in labels_of.items()
    }
    return Labels(unique, layout)


def label_column(species: Iterable[str]) -> str:
    """Return the text column that serves as the label.

    Parameters
    ----------
    species : iterable of str
        Species of the cells of a table.

    Returns
    -------
    str
        "subclass4" if any cell is human, since human cells have no Sncg class; else "subclass5".

    Examples
    --------
    >>> label_column(["mouse", "human"]), label_column(["mouse"])
    ('subclass4', 'subclass5')
    """
    return "subclass4" if "human" in species else "subclass5"


def clean_id(text: str) -> str:
    """Clean an identifier and undo the conversion to a float by a spreadsheet.

    Parameters
    ----------
    text : str
        An entry of a CSV file.

    Returns
    -------
    str
        The identifier; "" if it is missing.

    Examples
    --------
    >>> clean_id(" 636982248.0"), clean_id("H21.03.001"), clean_id("NULL")
    ('636982248', 'H21.03.001', '')
    """
    whole, point, rest = clean_text(text).partition(".")
    return whole if point and whole.isdigit() and not rest.strip("0") else clean_text(text)


def _text_columns(subclass5: str, sncg: str, **known: str) -> dict[str, str]:
    subclass4 = SNCG_CLASSES[sncg] if subclass5 == "Sncg" else subclass5
    known = {"label": subclass5, "subclass4": subclass4, "subclass5": subclass5, **known}
    return {name: known.get(name, "") for name in TEXT_COLUMNS}


def _mouse_label(row: CsvRow, sncg: str) -> tuple[str, RowLabel]:
    cell = clean_id(row["ephys_session_id"])
    if not cell:
        return f"specimen {clean_id(row['cell_specimen_id'])}", "no ephys_session_id"
    t_type = row["T-type Label"]
    if not t_type:
        return cell, "no label"
    subclass = t_type.split()[0]
    if subclass not in CLASSES:  # Serpinf1 (47 cells), and types that are no interneurons
        return cell, "label outside the classes"
    known = {"donor": clean_id(row.get("donor_id", "")), "structure": row.get("structure", "")}
    # The file has no column for the condition: all cells of this data set were recorded in acute slices.
    known |= {"species": "mouse", "condition": "acute", "t_type": t_type, "subclass_raw": subclass}
    return cell, _text_columns(subclass, sncg, **known)


def _human_label(row: CsvRow, column: str, strict_lamp5: bool) -> tuple[str, RowLabel]:
    cell = clean_id(row["nwb_id"])
    if not cell:
        return f"specimen {clean_id(row['specimen_id_x'])}", "no nwb_id"
    raw, t_type = row[column], row["Transcriptomic_type"]
    if not raw:
        return cell, "no label"
    subclass = HUMAN_CLASSES.get(raw.upper())
    if subclass is None:
        return cell, "label outside the classes"
    if strict_lamp5 and subclass == "Lamp5" and "LAMP5" not in t_type.split():
        return cell, "pax6 or other (strict lamp5)"
    known = {name: row.get(name, "") for name in ("structure", "condition")}
    known |= {"species": "human", "donor": row.get("Donor", ""), "t_type": t_type, "subclass_raw": raw}
    return cell, _text_columns(subclass, "Vip", **known)


def _plain_label(row: CsvRow, sncg: str) -> tuple[str, RowLabel]:
    """Keep the label of a laboratory; if it is a known subclass in any spelling, fill in the subclass columns."""
    cell, label = clean_id(row["cell"]), row["label"]
    if not label:
        return cell, "no label"
    subclasses = {name.upper(): name for name in CLASSES} | HUMAN_CLASSES
    known = {name: row.get(name, "") for name in ("donor", "species", "condition", "structure", "t_type")}
    return cell, _text_columns(subclasses.get(label.upper(), ""), sncg, **known, label=label, subclass_raw=label)
