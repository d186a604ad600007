"""What the Patch-seq experiments share: reading cells, training the ladder and the tabular networks, and the opponents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from rich.progress import track

from data_prep.patchseq.ready import read_ready
from data_prep.patchseq.table import Table as Prepared
from data_prep.patchseq.table import with_values
from experiments._run import RunFolder, Settings
from jaxephys.baselines import probability_of
from jaxephys.calibration import apply_temperature, fit_temperature
from jaxephys.engine.apply import predict
from jaxephys.engine.axis import RunAxis
from jaxephys.engine.rows import Split, plain_rows, stack_rows
from jaxephys.engine.types import TrainPlan
from jaxephys.figures import draw_bars, draw_confusion
from jaxephys.metrics import classification_scores, confusion
from jaxephys.patchseq.data import FamilyTable
from jaxephys.patchseq.network import SubclassNetwork
from jaxephys.patchseq.staircase import Staircase
from jaxephys.patchseq.tabular import TabularNetwork
from jaxephys.patchseq.tabular_task import make_columns, make_tabular_runs, make_tabular_task
from jaxephys.patchseq.task import LADDER, make_data, make_runs, make_task
from jaxephys.report import Score

Place = tuple[str, int, int]  # folds ("cell" or "donor"), seed, number of the fold
VOTE = "vote"
METRICS = ("macro_f1", "accuracy", "balanced_accuracy", "ece", "brier")


@dataclass(frozen=True)
class Comparison(Settings):
    """What the comparisons of all arms on one table have in common."""

    folds: tuple[Literal["cell", "donor"], ...] = ("cell", "donor")
    """What is held out: cells, and whole donors."""
    seeds: int = 10
    """Draws of the splits."""
    members: int = 5
    """Networks over all features that answer together."""
    hidden: int = 128
    """Hidden units of the LSTM in each direction."""
    max_epochs: int = 50
    """Epochs of the ladder at most; a run stops after 7 without a better validation macro-F1."""


def read_cells(data: Path, file: str, label: str) -> FamilyTable:
    """The cells of a table that data_prep has written, or of a ready-made ``file`` in the folder ``data``."""
    if (data / file).is_file():
        table = in_memory(read_ready(data / file))
    elif data.suffix == ".npz" or (data / "table.npz").is_file():
        table = FamilyTable.read(data)
    else:
        raise ValueError(f"{data} holds neither {file} nor a table of data_prep: give --data one of the two")
    return table.labelled(label)


def in_memory(prepared: Prepared) -> FamilyTable:
    """A table of data_prep without the way over the disk, and without cells of which nothing is known."""
    table, _ = with_values(prepared)
    about = {name: np.array(column, dtype=str) for name, column in table.about.items() if name != "label"}
    known = {name: about.pop(name) for name in ("donor", "species") if name in about}
    return FamilyTable(
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


def draw_splits(table: FamilyTable, folds: Sequence[str], seeds: int, cut: Callable) -> dict[Place, Split]:
    """The splits of all runs: by cell, and by donor, whose cells stay together. ``cut(codes, seed, groups)`` makes a seed's."""
    splits = {}
    for kind in folds:
        if kind == "donor" and table.donor is None:
            raise ValueError("the table knows no donors: ask for --folds cell, or give a table that has them")
        groups = table.donor if kind == "donor" else None
        for seed in range(seeds):
            splits |= {(kind, seed, fold): split for fold, split in enumerate(cut(table.codes(), seed, groups))}
    return splits


@dataclass
class Arms:
    """Probabilities of every arm on the test rows of every split, and where an arm has them, on the validation rows."""

    splits: Mapping[Place, Split]
    said: dict[str, dict[Place, np.ndarray]]
    valid: dict[str, dict[Place, np.ndarray]] = field(default_factory=dict)

    def add(self, arm: str, place: Place, test: np.ndarray, validation: np.ndarray | None = None) -> None:
        self.said.setdefault(arm, {})[place] = np.asarray(test, np.float32)
        if validation is not None:
            self.valid.setdefault(arm, {})[place] = np.asarray(validation, np.float32)

    def vote(self, arms: Iterable[str], codes: np.ndarray | None = None) -> None:
        """The mean of some arms; with the labels, each at the temperature that its validation rows ask for."""
        for place, split in self.splits.items():
            members = []
            for arm in arms:
                said = self.said[arm][place]
                if codes is not None:
                    said = apply_temperature(said, fit_temperature(self.valid[arm][place], codes[split.validation]))
                members.append(said)
            self.add(VOTE, place, np.mean(members, axis=0))

    def scores(self, experiment: str, train_on: str, table: FamilyTable) -> list[Score]:
        """Tidy scores: of all test cells, and of those of each condition where the table knows several."""
        codes = table.codes()
        condition = table.about.get("condition", np.full(len(table), ""))
        kinds = [kind for kind in np.unique(condition) if kind] if len(np.unique(condition)) > 1 else []
        found = []
        for arm, said in self.said.items():
            for (folds, seed, fold), probability in said.items():
                test = self.splits[folds, seed, fold].test
                parts = {folds: np.ones(len(test), bool)} | {
                    f"{folds}, {kind}": condition[test] == kind for kind in kinds
                }
                for name, chosen in parts.items():
                    found += tidy(
                        (experiment, arm, train_on, name, seed, fold), codes[test][chosen], probability[chosen]
                    )
        return found


def tidy(run: tuple[str, str, str, str, int, int], label: np.ndarray, probability: np.ndarray) -> list[Score]:
    if not len(label):
        return []
    values = classification_scores(label, probability, np.ones(len(label), np.float32))
    return [Score(*run, "test", metric, float(value), len(label)) for metric, value in values.items()]


def train_ladder(folder: RunFolder, arms: Arms, table: FamilyTable, plan: TrainPlan, hidden: int) -> None:
    """The paper's four variants on every split, as one program."""
    axis = RunAxis.cross(variant=tuple(LADDER), folds=kinds(arms), seed=seeds_of(arms), fold=folds_of(arms))
    of_run = [arms.splits[run["folds"], run["seed"], run["fold"]] for run in axis]
    stairs = Staircase.of(table.widths)
    runs = make_runs(table, stairs, of_run, [LADDER[run["variant"]] for run in axis], axis.column("seed"))
    task = make_task(SubclassNetwork(stairs, len(table.classes), hidden))
    data = make_data(table, stairs)
    result = folder.train("ladder", task, data, runs, axis, plan)
    folder.note_fit(result)
    test = stack_rows([plain_rows(split.test) for split in of_run])
    predicted = predict(task, data, result.best, test, runs.constants)
    for run, split, probability in zip(axis, of_run, predicted.probability, strict=True):
        arms.add(run["variant"], (run["folds"], run["seed"], run["fold"]), probability[: len(split.test)])


def train_tabular(folder: RunFolder, arms: Arms, table: FamilyTable, plan: TrainPlan, members: int) -> None:
    """Networks over all features at once: ``members`` initial weights a split, which answer together."""
    axis = RunAxis.cross(folds=kinds(arms), draw=seeds_of(arms), fold=folds_of(arms), seed=range(members))
    places = [(run["folds"], run["draw"], run["fold"]) for run in axis]
    of_run = [arms.splits[place] for place in places]
    runs = make_tabular_runs(table, of_run)
    task = make_tabular_task(TabularNetwork(len(table.classes)), table.values.shape[1])
    data = make_columns(table)
    result = folder.train("tabular", task, data, runs, axis, plan, "checkpoints_tabular")
    folder.diverged += result.diverged()
    tested, valid = (
        predict(task, data, result.best, stack_rows([plain_rows(rows) for rows in part]), runs.constants)
        for part in ([split.test for split in of_run], [split.validation for split in of_run])
    )
    for place, split in arms.splits.items():
        own = [i for i, other in enumerate(places) if other == place]
        mean = tested[own].mean(axis=0)[: len(split.test)], valid[own].mean(axis=0)[: len(split.validation)]
        arms.add("tabular", place, *mean)


def train_opponents(
    folder: RunFolder, arms: Arms, table: FamilyTable, opponents: Mapping[str, Callable], *, with_validation: bool
) -> None:
    """Each opponent on every split; ``with_validation``: it selects nothing, so it may train on the validation rows too."""
    codes, classes = table.codes(), len(table.classes)
    shown = folder.console.is_terminal
    for name, make in opponents.items():
        began = time.perf_counter()
        for place, split in track(arms.splits.items(), name, console=folder.console, disable=not shown, transient=True):
            fitted = np.sort(np.concatenate([split.train, split.validation])) if with_validation else split.train
            asked = np.concatenate([split.test, split.validation])
            said = probability_of(make(place[1]), table.values, codes, fitted, asked, classes)
            arms.add(name, place, said[: len(split.test)], None if with_validation else said[len(split.test) :])
        folder.say(f"{name}: {len(arms.splits)} splits in {time.perf_counter() - began:.0f} s")


def draw_figures(
    folder: RunFolder, arms: Arms, scores: list[Score], table: FamilyTable, shown: str, baselines: Sequence[str]
) -> dict[str, Path]:
    """Macro-F1 of every arm and the confusion of one, where the folds are cut in the first way."""
    codes, classes, kind = table.codes(), table.classes.tolist(), kinds(arms)[0]
    counts = np.zeros((len(classes), len(classes)))
    for place, probability in arms.said[shown].items():
        if place[0] == kind:
            label = codes[arms.splits[place].test]
            ones = np.ones(len(label), np.float32)
            counts += np.asarray(confusion(label, probability.argmax(axis=1), ones, len(classes)))
    own = [score for score in scores if score.test_on == kind]
    return {
        f"Test macro-F1 of every arm, by {kind}": draw_bars(folder.path, own, "macro_f1", {}, baselines=baselines),
        f"Confusion of {shown} on the test cells of all seeds, by {kind}": draw_confusion(
            folder.path, counts, classes, f"{shown}, all seeds"
        ),
    }


def kinds(arms: Arms) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kind for kind, _, _ in arms.splits))


def seeds_of(arms: Arms) -> tuple[int, ...]:
    return tuple(dict.fromkeys(seed for _, seed, _ in arms.splits))


def folds_of(arms: Arms) -> tuple[int, ...]:
    return tuple(dict.fromkeys(fold for _, _, fold in arms.splits))
