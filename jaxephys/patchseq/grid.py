"""What the Patch-seq experiments share: reading cells, and training the ladders, the tabular networks and the opponents."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from rich.progress import track

from data_prep.patchseq.feature_csv import read_ready
from data_prep.patchseq.table import Table as Prepared
from data_prep.patchseq.table import with_values
from jaxephys import PatchSeqClassifier
from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Task
from jaxephys.evaluation.baselines import probability_of
from jaxephys.evaluation.comparison import Arms, Held, Place
from jaxephys.evaluation.splits import Split, k_folds
from jaxephys.patchseq.network.classifier import SubclassNetwork
from jaxephys.patchseq.network.ragged_layout import Staircase
from jaxephys.patchseq.network.tabular import TabularNetwork
from jaxephys.patchseq.tabular_task import make_columns, make_tabular_runs, make_tabular_task
from jaxephys.patchseq.task import LADDER, Variant, make_data, make_runs, make_task
from jaxephys.reporting.run_folder import RunFolder, Settings
from jaxephys.schemas.feature_table import FeatureTable

INNER = 5  # folds in which an opponent that trains on all but the test rows is calibrated
SHOWN = "attention"  # the variant that is trained several times a split, and saved
ENSEMBLE = "attention ensemble"
TABLES = {"human": ("human.csv", "subclass4"), "mouse": ("mouse_v1.csv", "subclass5")}  # and the usual label
TOKEN = 64  # numbers a family is projected to


@dataclass(frozen=True)
class Comparison(Settings):
    """What the comparisons of all arms on one table have in common."""

    folds: tuple[Literal["cell", "donor"], ...] = ("cell", "donor")
    """What is held out: cells, and whole donors."""
    seeds: int = 10
    """Draws of the splits."""
    members: int = 5
    """Networks of one kind that answer together."""
    hidden: int = 64
    """Hidden units of our LSTM in each direction; the published one has twice as many."""
    max_epochs: int = 50
    """Epochs of the ladder at most; a run stops after 7 without a better validation score."""
    released: bool = False
    """Train the published ladder by the rules of the released code as well."""

    def runs(self, splits: int, *, tabular: int) -> int:
        """Networks to train, with so many kinds of tabular ones."""
        ladders = 3 if self.released else 2
        return splits * (ladders * len(LADDER) + self.members - 1 + tabular * self.members)


@dataclass(frozen=True)
class Ladder:
    """The paper's four variants, with our encoder or the published one."""

    prefix: str = ""  # of the names of its arms
    variants: Mapping[str, Variant] = field(default_factory=lambda: LADDER)
    ours: bool = True  # our encoder and scaling
    prior: float = 0.0  # ArcFace's probabilities are multiplied by this power of the frequencies of the training cells


def read_cells(data: Path, file: str, label: str) -> FeatureTable:
    """The cells of a table that data_prep has written, or of a ready-made ``file`` in the folder ``data``."""
    if (data / file).is_file():
        table = in_memory(read_ready(data / file))
    elif data.suffix == ".npz" or (data / "table.npz").is_file():
        table = FeatureTable.read(data)
    else:
        raise ValueError(f"{data} holds neither {file} nor a table of data_prep: give --data one of the two")
    return table.labelled(label)


def read_species(data: Path, species: Literal["human", "mouse"], label: str | None = None) -> FeatureTable:
    """The cells of one species, of a folder of ready-made tables or of a table that may hold both."""
    file, usual = TABLES[species]
    cells = read_cells(data, file, label or usual)
    if cells.species is None:
        return cells
    own = np.flatnonzero(cells.species == species)
    if not len(own):
        raise ValueError(f"no cell of the table is of a {species}: it holds {', '.join(np.unique(cells.species))}")
    return cells.rows(own)


def in_memory(prepared: Prepared) -> FeatureTable:
    """A table of data_prep without the way over the disk, and without cells of which nothing is known."""
    table, _ = with_values(prepared)
    about = {name: np.array(column, dtype=str) for name, column in table.about.items() if name != "label"}
    known = {name: about.pop(name) for name in ("donor", "species") if name in about}
    return FeatureTable(
        values=table.values,
        families=tuple(table.families),
        widths=tuple(table.widths),
        features=tuple(table.features),
        cell=np.array(table.cell, dtype=str),
        **known,
        observed=table.observed,
        about=about,
        provenance=table.provenance,
    )


def draw_splits(table: FeatureTable, folds: Sequence[str], seeds: int, cut: Callable) -> dict[Place, Split]:
    """The splits of all runs: by cell, and by donor, whose cells stay together. ``cut(codes, seed, groups)`` makes a seed's."""
    splits = {}
    for kind in folds:
        if kind == "donor" and table.donor is None:
            raise ValueError("the table knows no donors: ask for --folds cell, or give a table that has them")
        groups = table.donor if kind == "donor" else None
        for seed in range(seeds):
            splits |= {(kind, seed, fold): split for fold, split in enumerate(cut(table.codes(), seed, groups))}
    return splits


class Grid(NamedTuple):
    """A trained grid, and what each run says of the cells that it was not trained on."""

    axis: RunGrid
    places: list[Place]  # the split of each run
    result: FitResult
    runs: RunInputs
    said: Any  # of its test cells, then of its validation cells


def train_grid(
    folder: RunFolder, arms: Arms, name: str, task: Task, data: Any, runs: RunInputs, axis: RunGrid, plan: TrainConfig
) -> Grid:
    """Train the runs of an axis with the factors folds, draw and fold, and ask them."""
    places = [(run["folds"], run["draw"], run["fold"]) for run in axis]
    result = folder.fit(name or "ladder", task, data, runs, axis, plan, name)
    asked = [np.concatenate([arms.splits[place].test, arms.splits[place].validation]) for place in places]
    said = predict(task, data, result.best, stack_rows([plain_rows(rows) for rows in asked]), runs.constants)
    return Grid(axis, places, result, runs, said)


def collect(arms: Arms, name: str, grid: Grid, chosen: Iterable[int], probability: np.ndarray) -> None:
    """An arm from runs of a grid: the mean of those that share a split."""
    for place, split in arms.splits.items():
        mean = probability[[run for run in chosen if grid.places[run] == place]].mean(axis=0)
        test, valid = np.split(mean[: len(split.test) + len(split.validation)], [len(split.test)])
        arms.add(name, place, test, Held(split.validation, valid))


def train_ladders(
    folder: RunFolder, arms: Arms, settings: Comparison, released: Ladder
) -> Float[np.ndarray, "class family"]:
    """Ours and the published one, on request also by the rules of the released code. Returns our attention to the families."""
    plan = TrainConfig(max_epochs=settings.max_epochs)
    grid = train_ladder(folder, arms, Ladder(), plan, settings)
    collect(arms, ENSEMBLE, grid, grid.axis.where(variant=SHOWN), grid.said.probability)
    arms.vote(ENSEMBLE, (ENSEMBLE,))
    save_model(folder, arms, grid, settings)
    train_ladder(folder, arms, Ladder("published ", ours=False), plan, settings)
    if settings.released:
        train_ladder(folder, arms, released, replace(plan, monitor="selection"), settings)
    return attention_of(arms, grid)


def train_ladder(folder: RunFolder, arms: Arms, ladder: Ladder, plan: TrainConfig, settings: Comparison) -> Grid:
    """The four variants on every split, as one program."""
    axis = ladder_axis(ladder, arms.splits, settings.members)
    splits = [arms.splits[run["folds"], run["draw"], run["fold"]] for run in axis]
    variants = [ladder.variants[name] for name in axis.column("variant")]
    table, stairs = arms.table, Staircase.of(arms.table.widths)
    runs = make_runs(table, stairs, splits, variants, axis.column("seed"), logged=ladder.ours)
    network = partial(SubclassNetwork, stairs, len(arms.classes))
    task = make_task(network(settings.hidden, token=TOKEN) if ladder.ours else network(2 * settings.hidden))
    grid = train_grid(folder, arms, ladder.prefix.strip(), task, make_data(table, stairs), runs, axis, plan)
    for name, variant in ladder.variants.items():
        collect(arms, ladder.prefix + name, grid, axis.where(variant=name, member=0), grid.said.probability)
        if ladder.prior and variant.arcface:
            arms.weigh(ladder.prefix + name, ladder.prefix + name, ladder.prior)
    return grid


def ladder_axis(ladder: Ladder, places: Iterable[Place], members: int) -> RunGrid:
    """A run a variant and split; of our attention variant several, which differ in their initial weights."""
    levels = [
        (variant, *place, member, place[1] + 1000 * member)
        for variant in ladder.variants
        for place in places
        for member in range(members if ladder.ours and variant == SHOWN else 1)
    ]
    return RunGrid(("variant", "folds", "draw", "fold", "member", "seed"), tuple(levels))


def save_model(folder: RunFolder, arms: Arms, grid: Grid, settings: Comparison) -> None:
    """``model/``: the networks of the attention variant on all folds of the first draw, which answer together."""
    chosen = grid.axis.where(variant=SHOWN, folds=arms.kinds[0], draw=0)
    model = PatchSeqClassifier(hidden=settings.hidden, token=TOKEN, seeds=len(chosen))
    splits = [arms.splits[place] for place in grid.places]
    model.adopt(grid.result, grid.runs, arms.table, splits, chosen)  # asks the networks: all hosts take part
    if folder.first:
        model.save(folder.path / "model", overwrite=True)


def attention_of(arms: Arms, grid: Grid) -> Float[np.ndarray, "class family"]:
    """Mean over the test cells of a class, then over runs, where the folds are cut in the first way."""
    found = []
    for run in grid.axis.where(variant=SHOWN, folds=arms.kinds[0]):
        test = arms.splits[grid.places[run]].test
        weights = grid.said.attention[run, : len(test)]
        found.append([weights[arms.codes[test] == code].mean(axis=0) for code in range(len(arms.classes))])
    return np.mean(found, axis=0)


def train_tabular(
    folder: RunFolder, arms: Arms, name: str, fit_scale: Callable, plan: TrainConfig, members: int
) -> None:
    """Networks over all features at once: ``members`` initial weights a split, which answer together."""
    levels = [(*place, member) for place in arms.splits for member in range(members)]
    axis = RunGrid(("folds", "draw", "fold", "seed"), tuple(levels))
    splits = [arms.splits[run[:3]] for run in axis.levels]
    runs = make_tabular_runs(arms.table, splits, fit_scale)
    task = make_tabular_task(TabularNetwork(len(arms.classes)), arms.table.values.shape[1])
    grid = train_grid(folder, arms, name.replace(" ", "_"), task, make_columns(arms.table), runs, axis, plan)
    collect(arms, name, grid, range(len(axis)), grid.said)


def train_opponents(
    folder: RunFolder,
    arms: Arms,
    opponents: Mapping[str, Callable],
    *,
    with_validation: bool,
    crossed: Container[str] = (),
) -> None:
    """Each opponent on every split; ``with_validation``: it selects nothing, so it may train on the validation rows too.

    Then no row is left to calibrate it, and for those ``crossed`` copies that are trained without a row speak of it.
    """
    values, codes, classes = arms.table.values, arms.codes, len(arms.classes)
    shown = folder.console.is_terminal
    for name, make in opponents.items():
        began = time.perf_counter()
        for place, split in track(arms.splits.items(), name, console=folder.console, disable=not shown, transient=True):
            train, valid = split.train, split.validation
            if not with_validation:
                asked = np.concatenate([split.test, valid])
                said = probability_of(make(place[1]), values, codes, train, asked, classes)
                arms.add(name, place, said[: len(split.test)], Held(valid, said[len(split.test) :]))
                continue
            both = np.sort(np.concatenate([train, valid]))
            said = probability_of(make(place[1]), values, codes, both, split.test, classes)
            arms.add(name, place, said, cross_fit(arms, make, place, both) if name in crossed else None)
        folder.say(f"{name}: {len(arms.splits)} splits in {time.perf_counter() - began:.0f} s")


def cross_fit(arms: Arms, make: Callable, place: Place, rows: np.ndarray) -> Held:
    """What an opponent says of each of the rows when it is trained on the others, in folds cut like those of the test."""
    kind, seed, _ = place
    codes = arms.codes[rows]
    groups = None if kind == "cell" or arms.table.donor is None else arms.table.donor[rows]
    said = np.zeros((len(rows), len(arms.classes)), np.float32)
    for part in k_folds(codes, INNER, seed, groups=groups):
        others = np.concatenate([part.train, part.validation])
        model = make(seed)
        said[part.test] = probability_of(model, arms.table.values[rows], codes, others, part.test, len(arms.classes))
    return Held(rows, said)
