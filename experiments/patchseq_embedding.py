"""UMAP embeddings of all cells, with the purity of neighborhoods: sparse components and signed-log features.

A figure of an embedding is hard to interpret by eye. For each space and plane the report therefore gives the share of the 15
nearest cells that have the same subclass, slice condition and donor; what shuffled labels give, over all cells and within
the confounder; and how many neighbors another seed of UMAP, and the space before UMAP, have in common with the plane.

    pip install ".[umap]"
    python -m experiments.patchseq_embedding --data FOLDER                 human, four subclasses
    python -m experiments.patchseq_embedding mouse --data FOLDER           mouse, five subclasses
    python -m experiments.patchseq_embedding smoke --data FOLDER           two seeds, few shuffles

FOLDER holds mouse_v1.csv and human.csv, or is a table that data_prep has written. Components, scales and embeddings are
fitted on all cells, without labels; nothing is tested.

Expected purity of signed-log features in the full space (and in the plane), and chance within the confounder:

=====  ==========================  =========================  ==============================
cells  subclass                    condition                  donor
=====  ==========================  =========================  ==============================
human  0.69 (0.70), chance 0.37    0.74 (0.71), chance 0.56   0.037 (0.027), chance 0.022
mouse  0.85 (0.84), chance 0.28                               0.008 (0.006), chance 0.004
=====  ==========================  =========================  ==============================

In the human table acute and cultured cells differ nearly as much as subclasses do; donors nearly mix. Components are 0.03 to
0.05 less pure. Two seeds share 0.76 of the neighbors (mouse 0.63), the plane shares 0.40 with the full space (mouse 0.27).
Time: 4 minutes for human, 12 for mouse cells on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep.patchseq.feature_csv import read_species
from experiments.command_line import main
from jaxephys.evaluation.neighbors import N_NEIGHBORS, load_umap, nearest_neighbors
from jaxephys.patchseq.preprocessing import SignedLogScaler
from jaxephys.patchseq.published_values import QUESTIONS
from jaxephys.patchseq.report.embedding import (
    PLANE,
    SPACES,
    cell_attributes,
    draw_planes,
    embedding_tables,
    overlap_scores,
    purity_rows,
    purity_scores,
)
from jaxephys.patchseq.sparse_components import SparseComponents, family_widths
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.settings import Settings


@dataclass(frozen=True)
class Embedding(Settings):
    """Settings of the experiment."""

    species: Literal["human", "mouse"] = "human"
    """Human cells, four subclasses in two conditions; or mouse cells, five subclasses."""
    data: Path = Path("patchseq")
    """Folder with human.csv or mouse_v1.csv, or a table of data_prep."""
    seeds: int = 5
    """Number of embeddings of each space."""
    shuffles: int = 200
    """Number of shuffles of the labels, for the level of chance."""


PRESETS = {
    "default": Embedding(),
    "mouse": Embedding(species="mouse"),
    "smoke": Embedding(seeds=2, shuffles=20),
}

INTRODUCTION = f"""Every number is about the {N_NEIGHBORS} nearest cells of each cell, in the space named. Components, scales and
embeddings are fitted on all cells, without labels: they describe this table and test nothing."""

NOTES = [
    "Chance shuffles the labels among all cells, or among those with the same confounder: most Sst cells of the human table are "
    "from cultured slices, and mouse donors are of lines that label few subclasses, so that neighbors of one subclass already "
    "share condition and donor. The excess is (purity - chance) / (1 - chance).",
    "Cells of a donor share days, experimenters and nearly always the condition. Shuffled one by one they count as independent, "
    "which they are not: a small excess of the condition may be due to a few donors.",
    "Clusters, their distances and their sizes have no meaning in a UMAP; neighborhoods have, as far as they are the same from "
    "another seed and in the full space.",
    "A missing value is replaced by the median of its column in both spaces.",
]


def run(settings: Embedding, folder: RunFolder) -> None:
    """Embed the cells, measure their neighborhoods and write the report.

    Parameters
    ----------
    settings : Embedding
        Settings of the experiment.
    folder : RunFolder
        The run folder.
    """
    umap = load_umap()
    cells = read_species(settings.data, settings.species)
    if len(cells) <= N_NEIGHBORS:
        raise ValueError(f"there are {len(cells)} cells: neighborhoods of {N_NEIGHBORS} need more")
    folder.announce_run(len(SPACES) * settings.seeds, cells=cells.values)
    if not folder.is_first_host:
        return
    components = SparseComponents(family_widths(cells)).fit_transform(cells.values)
    features = SignedLogScaler().fit_transform(cells.values)[:, : cells.values.shape[1]]  # without flags
    spaces = dict(zip(SPACES, (components, features), strict=True))
    planes = {}
    for name, space in spaces.items():
        bar, planes[name] = folder.track(range(settings.seeds), f"{PLANE}{name}"), []
        for seed in bar:  # one thread: with more, a seed gives another plane each time
            plane = umap(n_neighbors=N_NEIGHBORS, min_dist=0.1, random_state=seed, n_jobs=1).fit_transform(space)
            planes[name].append(plane)
    neighbors = {name: [nearest_neighbors(space)] for name, space in spaces.items()}
    neighbors |= {PLANE + name: [nearest_neighbors(plane) for plane in by_seed] for name, by_seed in planes.items()}

    attributes = cell_attributes(cells)
    scores = purity_scores(neighbors, attributes, settings.species, settings.shuffles)
    scores += overlap_scores(neighbors, settings.species, len(cells))
    title = f"{settings.species.capitalize()} interneurons: neighborhoods in UMAP embeddings"
    tables, figures = embedding_tables(scores, cells, attributes), draw_planes(folder, scores, planes, attributes)
    rows, question = purity_rows(scores, attributes), QUESTIONS["patchseq_embedding"]
    folder.write_report(scores, title, INTRODUCTION, tables, figures, NOTES, question, rows)


if __name__ == "__main__":
    main("patchseq_embedding", __doc__, PRESETS, run)
