"""Write the tables of labels of simulated cells, with the columns of the published ones, and the true parameters."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from data_prep.simulate.cells import NAMES, Cell

HUMAN_LABELS = {"Pvalb": "PVALB", "Sst": "SST", "Vip": "VIP", "Lamp5": "LAMP5/PAX6/Other"}
LOBES = {"MTG": "Temporal", "STG": "Temporal", "TemL": "Temporal", "SFG": "Frontal"}


def write_metadata(folder: Path, cells: Iterable[Cell]) -> None:
    """Write ``metadata_mouse.csv`` and ``metadata_human.csv`` for the species that are present, and ``truth.csv``.

    Parameters
    ----------
    folder : Path
        Folder of the recordings.
    cells : iterable of Cell
        All cells of the folder.
    """
    cells = list(cells)
    for species, row in (("mouse", _mouse_row), ("human", _human_row)):
        _write(folder / f"metadata_{species}.csv", [cell for cell in cells if cell.species == species], row)
    _write(folder / "truth.csv", cells, _truth_row)


def _mouse_row(cell: Cell) -> dict[str, str]:
    """Return a row of the mouse table, where as in the published one most cells have no MET-type."""
    known = cell.number % 8 == 0 and cell.defect != "no_label"
    line = "Gad2-IRES-Cre"
    return {
        "project": "simulated",
        "cell_specimen_id": cell.specimen,
        "cell_specimen_name": f"{line};Ai14-{cell.donor}.{cell.number:02d}",
        "structure": cell.structure,
        "donor_id": cell.donor,
        "donor_name": f"{line};Ai14-{cell.donor}",
        "biological_sex": cell.sex,
        "age": "P60",
        "full_genotype": f"{line}/wt;Ai14(RCL-tdT)/wt",
        "ephys_session_id": cell.cell,
        "T-type Label": "" if cell.defect == "no_label" else cell.t_type,
        "MET-type Label": f"{cell.subclass}-MET-1" if known else "NULL",
    }


def _human_row(cell: Cell) -> dict[str, str]:
    """Return a row of the human table; the blank at the end of one name is in the published table, too."""
    label = "" if cell.defect == "no_label" else HUMAN_LABELS[cell.subclass]
    return {
        "specimen_id_x": cell.specimen,
        "cell_name": f"{cell.donor}.{cell.number:02d}",
        "Donor": cell.donor,
        "structure": cell.structure,
        "lobe": LOBES[cell.structure],
        "disease_category": "Epilepsy" if cell.sex == "F" else "Tumor",
        "Transcriptomic_type ": label and cell.t_type,
        "condition": cell.condition,
        "condition2": cell.condition,
        "Days_In_culture": "4" if cell.condition == "culture" else "0",
        "subclass_label": label,
        "Revised_subclass_label": label,
        "nwb_id": cell.cell,
    }


def _truth_row(cell: Cell) -> dict[str, str]:
    names = ("cell", "species", "donor", "subclass", "t_type")
    row = {name: getattr(cell, name) for name in names} | {"fault": cell.defect}
    return row | {name: f"{cell.parameters[name]:.5g}" for name in NAMES}


def _write(path: Path, cells: Iterable[Cell], row: Callable[[Cell], Mapping[str, str]]) -> None:
    rows = [row(cell) for cell in cells]
    if not rows:
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
