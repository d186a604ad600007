"""Neighborhoods in low-dimensional embeddings of cells: purity with its chance level, overlap, tables and figures.

``cell_attributes`` collects what a cell may share with its neighbors, ``purity_scores`` and ``overlap_scores`` measure it,
``embedding_tables`` and ``draw_planes`` report it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxephys.evaluation.neighbors import N_NEIGHBORS, chance_purity, neighbor_overlap, neighbor_purity
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.headline import BETTER, UNCLEAR, SummaryRow
from jaxephys.reporting.maps import draw_embedding
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import Cell, Table, class_table, summary_cell
from jaxephys.schemas.feature_table import FeatureTable

EXPERIMENT = "patchseq_embedding"
SPACES = ("components", "signed-log features")
PLANE = "UMAP of "
CHANCE = "by chance"
Neighbors = Mapping[str, list[np.ndarray]]  # space or plane -> for each seed the neighbors of each cell


class Attribute(NamedTuple):
    """Something that a cell may share with its neighbors.

    Parameters
    ----------
    label : array of str, shape (cell,)
        Value of each cell.
    confounder : str
        Name of the confounder; "" where there is none.
    strata : array, shape (cell,)
        Value of the confounder, within which labels are shuffled for the chance level.
    """

    label: np.ndarray
    confounder: str
    strata: np.ndarray


def cell_attributes(cells: FeatureTable) -> dict[str, Attribute]:
    """Return the attributes of cells that are known besides their features.

    Parameters
    ----------
    cells : FeatureTable of n_cells
        Labelled cells.

    Returns
    -------
    dict of str to Attribute
        "subclass"; "condition" where the slices have several conditions; "donor" where every cell has one.
    """
    subclass = cells.classes[cells.codes()]
    attributes = {"subclass": Attribute(subclass, "", np.zeros(len(cells)))}
    condition = cells.about.get("condition", np.full(len(cells), ""))
    varies = len(np.unique(condition)) > 1
    if varies:
        attributes["subclass"] = Attribute(subclass, "condition", condition)
        attributes["condition"] = Attribute(condition, "subclass", subclass)
    if cells.donor is not None and (cells.donor != "").all():
        strata = np.char.add(np.char.add(subclass, ", "), condition)
        confounder = "subclass and condition" if varies else "subclass"
        attributes["donor"] = Attribute(cells.donor, confounder, strata)
    return attributes


def purity_scores(
    neighbors: Neighbors, attributes: Mapping[str, Attribute], species: str, shuffles: int
) -> list[Score]:
    """Return the purity of neighborhoods in every space, with the level that shuffled labels reach.

    Parameters
    ----------
    neighbors : mapping of str to list of arrays of shape (cell, neighbor)
        For each space, and each seed of a plane, the nearest neighbors of each cell.
    attributes : mapping of str to Attribute
        Attributes of the cells.
    species : str
        Species of the cells.
    shuffles : int
        Number of shuffles.

    Returns
    -------
    list of Score
        "purity"; "chance" and "chance, fixed" (within the confounder) with the middle 95 % of the shuffles ("low", "high");
        "excess", (purity - chance) / (1 - chance) with the fixed chance; and the purity of each subclass.
    """
    scores = []
    for name, (label, _, strata_names) in attributes.items():
        codes, strata = (np.unique(values, return_inverse=True)[1] for values in (label, strata_names))
        for space, by_seed in neighbors.items():
            for seed, nearest in enumerate(by_seed):
                purity, rng = neighbor_purity(nearest, codes), np.random.default_rng(seed)
                values = {"purity": purity.mean()}
                for level, fixed in {"chance": np.zeros_like(codes), "chance, fixed": strata}.items():
                    draws = chance_purity(nearest, codes, fixed, shuffles, rng)
                    values[level] = draws.mean()
                    values[f"{level}, low"], values[f"{level}, high"] = np.quantile(draws, [0.025, 0.975])
                values["excess"] = (values["purity"] - values["chance, fixed"]) / (1 - values["chance, fixed"])
                if name == "subclass":
                    values |= {f"purity {name}": purity[label == name].mean() for name in np.unique(label)}
                origin = (EXPERIMENT, space, species, name, seed, 0, "all")
                scores += [Score(*origin, metric, float(value), len(codes)) for metric, value in values.items()]
    label = attributes["subclass"].label
    origin = (EXPERIMENT, CHANCE, species, "subclass", 0, 0, "all")
    shares = {name: ((label == name).sum() - 1) / (len(label) - 1) for name in np.unique(label)}
    return scores + [Score(*origin, f"purity {name}", float(share), len(label)) for name, share in shares.items()]


def overlap_scores(neighbors: Neighbors, species: str, n_cells: int) -> list[Score]:
    """Return how many neighbors two seeds of a plane share, and how many a plane shares with its space.

    Parameters
    ----------
    neighbors : mapping of str to list of arrays of shape (cell, neighbor)
        For each space, and each seed of a plane, the nearest neighbors of each cell.
    species : str
        Species of the cells.
    n_cells : int
        Number of cells.

    Returns
    -------
    list of Score
        "overlap of two seeds" and "overlap with the full space".
    """
    scores = []
    for space in SPACES:
        (full,), planes = neighbors[space], neighbors[PLANE + space]
        origin = (EXPERIMENT, PLANE + space, species, "neighbours")
        for a, b in combinations(range(len(planes)), 2):
            overlap = neighbor_overlap(planes[a], planes[b])
            scores.append(Score(*origin, a, b, "all", "overlap of two seeds", overlap, n_cells))
        for seed, plane in enumerate(planes):
            overlap = neighbor_overlap(plane, full)
            scores.append(Score(*origin, seed, 0, "all", "overlap with the full space", overlap, n_cells))
    return scores


def embedding_tables(
    scores: Sequence[Score], cells: FeatureTable, attributes: Mapping[str, Attribute]
) -> dict[str, Table]:
    """Return the tables of the report.

    Parameters
    ----------
    scores : sequence of Score
        Purities and overlaps.
    cells : FeatureTable of n_cells
        The cells.
    attributes : mapping of str to Attribute
        Attributes of the cells.

    Returns
    -------
    dict of str to Table
        Purity by attribute, purity of each subclass, and overlaps.
    """
    tables = {}
    for name, attribute in attributes.items():
        selected = [score for score in scores if score.test_on == name and score.variant != CHANCE]
        tables[f"Neighbors of the same {name}"] = _purity_table(selected, attribute.confounder)
    selected = [score for score in scores if score.test_on == "subclass"]
    spaces = (*SPACES, *(PLANE + space for space in SPACES), CHANCE)
    tables["Neighbors of the same subclass, each subclass"] = class_table(
        selected, cells.classes.tolist(), spaces, ("purity",), split="all"
    )
    summary = summarize([score for score in scores if score.test_on == "neighbours"], split="all")
    columns = {"Space": [Cell(PLANE + space) for space in SPACES]}
    for metric in ("overlap of two seeds", "overlap with the full space"):
        columns[metric] = [summary_cell(summary.get((PLANE + space, metric))) for space in SPACES]
    chance = N_NEIGHBORS / (len(cells) - 1)
    note = f"Share of the {N_NEIGHBORS} neighbors; by chance {chance:.3f}."
    tables["Stability of the embedding"] = Table(columns, [note])
    return tables


def purity_rows(scores: Sequence[Score], attributes: Mapping[str, Attribute]) -> list[SummaryRow]:
    """Return the comparisons of purity with chance in the full space of features, for the summary of a report.

    Parameters
    ----------
    scores : sequence of Score
        Scores of `purity_scores`.
    attributes : mapping of str to Attribute
        Attributes of the cells.

    Returns
    -------
    list of SummaryRow
        One row per attribute. The result is "better" if the purity is above the middle 95 % of the shuffles.
    """
    rows, space = [], SPACES[1]
    for name, attribute in attributes.items():
        found = summarize([score for score in scores if score.test_on == name and score.variant == space], split="all")
        purity, chance, high = (found[space, key].mean for key in ("purity", "chance, fixed", "chance, fixed, high"))
        fixed = f" within each {attribute.confounder}" if attribute.confounder else ""
        rows.append(
            SummaryRow(
                f"neighbors of the same {name}",
                "purity",
                space,
                f"{purity:.3f}",
                baseline=f"labels shuffled{fixed}",
                baseline_score=f"{chance:.3f}",
                difference=f"{purity - chance:+.3f} [{purity - high:+.3f}, above]",
                result=BETTER if purity > high else UNCLEAR,
                text=f"Of the {N_NEIGHBORS} nearest cells, {purity:.1%} have the same {name}; with labels shuffled{fixed} {chance:.1%}.",
            )
        )
    return rows


def _purity_table(scores: Sequence[Score], confounder: str) -> Table:
    summary = summarize(scores, split="all")
    spaces = list(dict.fromkeys(score.variant for score in scores))

    def chance(space: str, level: str) -> str:
        mean, low, high = (summary[space, f"{level}{end}"].mean for end in ("", ", low", ", high"))
        return f"{mean:.3f} [{low:.3f}, {high:.3f}]"

    columns = {
        "Space": [Cell(space) for space in spaces],
        "Purity": [summary_cell(summary[space, "purity"]) for space in spaces],
        "Chance [95 %]": [Cell(chance(space, "chance")) for space in spaces],
    }
    if confounder:
        columns[f"Chance at the same {confounder} [95 %]"] = [Cell(chance(space, "chance, fixed")) for space in spaces]
    columns["Excess"] = [summary_cell(summary[space, "excess"]) for space in spaces]
    return Table(columns, ["Mean ± sd over the seeds of UMAP. The excess is over the last column of chance."])


def draw_planes(
    folder: RunFolder,
    scores: Sequence[Score],
    planes: Mapping[str, list[np.ndarray]],
    attributes: Mapping[str, Attribute],
) -> dict[str, Path]:
    """Draw the first seed of both spaces by subclass and condition, and one space from three seeds.

    Parameters
    ----------
    folder : RunFolder
        The run folder.
    scores : sequence of Score
        Purities, which the titles quote.
    planes : mapping of str to list of arrays of shape (cell, 2)
        Planes of each space, one per seed.
    attributes : mapping of str to Attribute
        Attributes of the cells.

    Returns
    -------
    dict of str to Path
        Figures by caption.
    """
    note = f"UMAP of all cells, fitted without labels, {N_NEIGHBORS} neighbors."
    purity_note = f"{note} Purity: mean over seeds; chance: with the confounder, if any, fixed."

    def title(attribute: str, space: str) -> str:
        summary = summarize([score for score in scores if score.test_on == attribute], split="all")
        purity, chance = (summary[PLANE + space, metric].mean for metric in ("purity", "chance, fixed"))
        return f"{PLANE}{space}\npurity {purity:.2f}, by chance {chance:.2f}"

    figures = {}
    for attribute in ("subclass", "condition"):
        if attribute in attributes:
            figures[f"Both spaces, by {attribute}"] = draw_embedding(
                folder.path,
                {title(attribute, space): by_seed[0] for space, by_seed in planes.items()},
                attributes[attribute].label,
                name=f"embedding_{attribute}",
                note=purity_note,
                write_names=attribute == "subclass",
            )
    several = {f"seed {seed}": plane for seed, plane in enumerate(planes[SPACES[1]][:3])}
    figures[f"The same {SPACES[1]} from other seeds"] = draw_embedding(
        folder.path, several, attributes["subclass"].label, name="embedding_seeds", note=note
    )
    return figures
