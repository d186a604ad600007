"""Two pictures of all cells, and what they are worth: UMAP of sparse components and of signed-log features, with neighbours.

A picture alone persuades of anything. So beside each stands, in numbers, whose neighbours a cell has: of its 15
nearest cells, how many share its subclass, the condition of its slice, its donor; in the plane and in the space that
the plane was made of; and what chance would give, over all cells and with the confounder held fixed. The same UMAP
from other seeds says which of it is there every time.

    pip install ".[umap]"
    python -m experiments.patchseq_embedding --data FOLDER                 human, four subclasses
    python -m experiments.patchseq_embedding mouse --data FOLDER           mouse, five subclasses
    python -m experiments.patchseq_embedding smoke --data FOLDER           two seeds, few shuffles

FOLDER holds mouse_v1.csv and human.csv, or is a table that data_prep has written. Nothing here is trained on labels
and nothing is tested: components, scales and embeddings are fitted on all cells.

Expected, of the neighbours in the full space (and in the plane), signed-log features; chance with the confounder held
fixed: human subclass 0.69 (0.70), chance 0.37; condition 0.74 (0.71), chance 0.56; donor 0.037 (0.027), chance 0.022;
mouse subclass 0.85 (0.84), chance 0.28; donor 0.008 (0.006), chance 0.004. So in the human table acute and cultured
cells lie nearly as far apart as subclasses do, which the picture by subclass does not show; donors nearly mix.
Components are 0.03 to 0.05 less pure. Two seeds share 0.76 of the neighbours (mouse 0.63), but the plane only 0.40
with the full space (0.27): islands return, neighbours are lost. Human 4, mouse 12 minutes on two busy CPU cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.progress import track

from jaxephys.evaluation.neighbours import NEIGHBOURS, chance_purities, neighbours, overlap, purity
from jaxephys.patchseq.component_forest import SparseComponents, widths_of
from jaxephys.patchseq.grid import read_species
from jaxephys.patchseq.preprocessing import SignedLogScaler
from jaxephys.reporting.maps import draw_embedding
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Cell, Score, Table, class_table, show, summarise
from jaxephys.schemas.feature_table import FeatureTable

SPACES = ("components", "signed-log features")
PLANE = "UMAP of "
CHANCE = "by chance"


@dataclass(frozen=True)
class Embedding(Settings):
    species: Literal["human", "mouse"] = "human"
    """Whose cells: human, four subclasses in two conditions; mouse, five subclasses."""
    data: Path = Path("patchseq")
    """Folder with human.csv or mouse_v1.csv, or a table of data_prep."""
    seeds: int = 5
    """Embeddings of each space."""
    shuffles: int = 200
    """Of the labels, for the level of chance."""


PRESETS = {
    "default": Embedding(),
    "mouse": Embedding(species="mouse"),
    "smoke": Embedding(seeds=2, shuffles=20),
}


def run(settings: Embedding, folder: RunFolder) -> None:
    umap = load_umap()
    cells = read_species(settings.data, settings.species)
    if len(cells) <= NEIGHBOURS:
        raise ValueError(f"there are {len(cells)} cells: neighbourhoods of {NEIGHBOURS} need more")
    folder.greet(len(SPACES) * settings.seeds, cells=cells.values)
    if not folder.first:
        return
    spaces = spaces_of(cells)
    planes = {name: embed(folder, umap, name, space, settings.seeds) for name, space in spaces.items()}
    near = {name: [neighbours(space)] for name, space in spaces.items()}
    near |= {PLANE + name: [neighbours(plane) for plane in found] for name, found in planes.items()}

    known = attributes(cells)
    scores = [*purities(near, known, settings), *overlaps(near, settings.species, len(cells))]
    title = f"{settings.species.capitalize()} interneurons in the plane: what the neighbours say"
    folder.close(scores, title, INTRO, tables(scores, cells, known), draw(folder, scores, planes, known), NOTES)


INTRO = f"""Every number is of the {NEIGHBOURS} nearest cells of each cell, in the space named. Components, scales and embeddings
are fitted on all cells, without labels: pictures of this table, and no test of anything."""

NOTES = [
    "Chance shuffles the labels among all cells, or among those alike in what stands in brackets: most Sst cells of the human "
    "table are from cultured slices, and mouse donors are of lines that label few subclasses, so that neighbours of one subclass "
    "already share condition and donor. What is left above it is the excess: (purity - chance) / (1 - chance).",
    "Cells of a donor share days, hands and nearly always the condition. Shuffled one by one they count as independent, which "
    "they are not: a small excess of the condition may be that of a few donors.",
    "Islands, their distances and their sizes mean nothing in a UMAP; who is whose neighbour means something, as far as it is "
    "the same from another seed and in the full space.",
    "A missing value stands at the median of its column in both spaces.",
]


class Shared(NamedTuple):
    """What a cell may share with its neighbours, and the confounder of it."""

    label: np.ndarray  # [cell]
    confounder: str
    fixed: np.ndarray  # [cell], its label


def load_umap() -> type:
    """UMAP, an optional part of the installation: its compiler is large."""
    try:
        from umap import UMAP
    except ImportError:
        raise ValueError('umap-learn is not installed: pip install ".[umap]", in the folder of the project') from None
    return UMAP


def spaces_of(cells: FeatureTable) -> dict[str, np.ndarray]:
    """The cells as components of each family, and as features without the flags of what is missing."""
    found = SparseComponents(widths_of(cells)).fit_transform(cells.values)
    logged = SignedLogScaler().fit_transform(cells.values)[:, : cells.values.shape[1]]
    return dict(zip(SPACES, (found, logged), strict=True))


def embed(folder: RunFolder, umap: type, name: str, space: np.ndarray, seeds: int) -> list[np.ndarray]:
    """One plane a seed. One thread: with more, the same seed gives another plane each time."""
    shown = folder.console.is_terminal
    bar = track(range(seeds), f"{PLANE}{name}", console=folder.console, disable=not shown, transient=True)
    planes = [
        umap(n_neighbors=NEIGHBOURS, min_dist=0.1, random_state=seed, n_jobs=1).fit_transform(space) for seed in bar
    ]
    folder.say(f"{PLANE}{name}: {seeds} planes")
    return planes


def attributes(cells: FeatureTable) -> dict[str, Shared]:
    """What is known of a cell beside its features."""
    subclass = cells.classes[cells.codes()]
    known = {"subclass": Shared(subclass, "", np.zeros(len(cells)))}
    condition = cells.about.get("condition", np.full(len(cells), ""))
    varies = len(np.unique(condition)) > 1
    if varies:
        known["subclass"] = Shared(subclass, "condition", condition)
        known["condition"] = Shared(condition, "subclass", subclass)
    if cells.donor is not None and (cells.donor != "").all():
        fixed = np.char.add(np.char.add(subclass, ", "), condition)
        known["donor"] = Shared(cells.donor, "subclass and condition" if varies else "subclass", fixed)
    return known


def purities(near: Mapping[str, list[np.ndarray]], known: Mapping[str, Shared], settings: Embedding) -> list[Score]:
    """Purity in every space, by each label, and the mean and the middle 95 % of what shuffled labels reach."""
    scores = []
    for attribute, (label, _, fixed) in known.items():
        codes, strata = (np.unique(names, return_inverse=True)[1] for names in (label, fixed))
        for space, found in near.items():
            for seed, rows in enumerate(found):
                each, rng = purity(rows, codes), np.random.default_rng(seed)
                values = {"purity": each.mean()}
                for name, held in {"chance": np.zeros_like(codes), "chance, fixed": strata}.items():
                    draws = chance_purities(rows, codes, held, settings.shuffles, rng)
                    values[name] = draws.mean()
                    values[f"{name}, low"], values[f"{name}, high"] = np.quantile(draws, [0.025, 0.975])
                values["excess"] = (values["purity"] - values["chance, fixed"]) / (1 - values["chance, fixed"])
                if attribute == "subclass":
                    values |= {f"purity {name}": each[label == name].mean() for name in np.unique(label)}
                run = ("patchseq_embedding", space, settings.species, attribute, seed, 0, "all")
                scores += [Score(*run, metric, float(value), len(codes)) for metric, value in values.items()]
    label = known["subclass"].label
    run = ("patchseq_embedding", CHANCE, settings.species, "subclass", 0, 0, "all")
    alike = {name: ((label == name).sum() - 1) / (len(label) - 1) for name in np.unique(label)}
    return scores + [Score(*run, f"purity {name}", float(value), len(label)) for name, value in alike.items()]


def overlaps(near: Mapping[str, list[np.ndarray]], species: str, cells: int) -> list[Score]:
    """Is the plane the same from another seed, and how much of the space is in it?"""
    scores = []
    for space in SPACES:
        (full,), planes = near[space], near[PLANE + space]
        run = ("patchseq_embedding", PLANE + space, species, "neighbours")
        for a, b in combinations(range(len(planes)), 2):
            scores.append(Score(*run, a, b, "all", "overlap of two seeds", overlap(planes[a], planes[b]), cells))
        for seed, plane in enumerate(planes):
            scores.append(Score(*run, seed, 0, "all", "overlap with the full space", overlap(plane, full), cells))
    return scores


def tables(scores: Sequence[Score], cells: FeatureTable, known: Mapping[str, Shared]) -> dict[str, Table]:
    found = {}
    for attribute, shared in known.items():
        own = [score for score in scores if score.test_on == attribute and score.variant != CHANCE]
        found[f"Neighbours of the same {attribute}"] = purity_table(own, shared.confounder)
    own = [score for score in scores if score.test_on == "subclass"]
    spaces = (*SPACES, *(PLANE + space for space in SPACES), CHANCE)
    found["Neighbours of the same subclass, each subclass"] = class_table(
        own, cells.classes.tolist(), spaces, ("purity",), split="all"
    )
    summary = summarise([score for score in scores if score.test_on == "neighbours"], split="all")
    names = ("overlap of two seeds", "overlap with the full space")
    columns = {"space": [Cell(PLANE + space) for space in SPACES]}
    columns |= {name: [Cell(shown(summary.get((PLANE + space, name)))) for space in SPACES] for name in names}
    chance = NEIGHBOURS / (len(cells) - 1)
    found["Is it the same picture?"] = Table(
        columns, [f"Share of the {NEIGHBOURS} neighbours; by chance {chance:.3f}."]
    )
    return found


def purity_table(scores: Sequence[Score], confounder: str) -> Table:
    summary = summarise(scores, split="all")
    spaces = list(dict.fromkeys(score.variant for score in scores))

    def chance(space: str, name: str) -> str:
        mean, low, high = (summary[space, f"{name}{end}"].mean for end in ("", ", low", ", high"))
        return f"{mean:.3f} [{low:.3f}, {high:.3f}]"

    columns = {
        "space": [Cell(space) for space in spaces],
        "purity": [Cell(shown(summary[space, "purity"])) for space in spaces],
        "chance [95%]": [Cell(chance(space, "chance")) for space in spaces],
    }
    if confounder:
        columns[f"at the same {confounder}"] = [Cell(chance(space, "chance, fixed")) for space in spaces]
    columns["excess"] = [Cell(shown(summary[space, "excess"])) for space in spaces]
    return Table(columns, ["Mean ± sd over the seeds of UMAP. The excess is over the last column of chance."])


def shown(value) -> str:
    return "-" if value is None else show(value.mean, value.sd)


def draw(
    folder: RunFolder, scores: Sequence[Score], planes: Mapping[str, list[np.ndarray]], known: Mapping[str, Shared]
) -> dict[str, Path]:
    """The first seed of both spaces, by subclass and by condition; one space from three seeds. Purity stands in the titles."""
    note = f"UMAP of all cells, fitted without labels, {NEIGHBOURS} neighbours."
    said = f"{note} Purity: mean over seeds; chance: with the confounder, if any, held fixed."

    def title(attribute: str, name: str) -> str:
        own = summarise([score for score in scores if score.test_on == attribute], split="all")
        found, chance = (own[PLANE + name, what].mean for what in ("purity", "chance, fixed"))
        return f"{PLANE}{name}\npurity {found:.2f}, by chance {chance:.2f}"

    figures = {}
    for attribute in ("subclass", "condition"):
        if attribute in known:
            figures[f"Both spaces, by {attribute}"] = draw_embedding(
                folder.path,
                {title(attribute, name): found[0] for name, found in planes.items()},
                known[attribute].label,
                name=f"embedding_{attribute}",
                note=said,
                written=attribute == "subclass",
            )
    several = {f"seed {seed}": plane for seed, plane in enumerate(planes[SPACES[1]][:3])}
    figures[f"The same {SPACES[1]} from other seeds"] = draw_embedding(
        folder.path, several, known["subclass"].label, name="embedding_seeds", note=note
    )
    return figures


if __name__ == "__main__":
    main("patchseq_embedding", __doc__, PRESETS, run)
