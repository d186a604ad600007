"""What the transfer experiment trains: networks of two species in phases, and classical arms from few labels to all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.progress import track

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, take_runs, transplant
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import RunInputs, Variables
from jaxephys.evaluation.baselines import baseline_scores_of
from jaxephys.evaluation.comparison import Arms, Place
from jaxephys.evaluation.kernel_classifier import KernelClassifier, Metric
from jaxephys.evaluation.splits import k_folds
from jaxephys.patchseq.classical_models import make_robust
from jaxephys.patchseq.network.two_species import SHARED, TwoHeads
from jaxephys.patchseq.source_transfer import (
    BORROWED,
    OWN,
    SHARES,
    Labelled,
    Lender,
    choose,
    discriminants,
    joint_regressions,
    stacked_regression,
)
from jaxephys.patchseq.transfer_task import Mixture, make_transfer_runs, make_transfer_task, make_two_species
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.schemas.feature_table import FeatureTable

REFERENCE = "human vote"  # the best human-only arm on three other draws of the folds, named there
KERNEL, MOUSE_TYPES, SHUFFLED_TYPES = "kernel", "kernel, mouse types", "kernel, shuffled types"
WIDTHS = (0.25, 1.5)  # of the kernels that vote; the first is that of the arms that borrow a metric
NETWORK, BY_ACCURACY = "network", "network by accuracy"
PARTS = 5  # a fifth of the mouse cells selects the epoch of pretraining


@dataclass
class Networks:
    """The networks of all phases: one table of both species, human cells first, and one task."""

    folder: RunFolder
    arms: Arms  # of the human cells
    table: FeatureTable
    network: TwoHeads
    plan: TrainConfig

    def __post_init__(self) -> None:
        self.places = list(self.arms.splits)
        self.axis = RunGrid(("folds", "seed", "fold"), tuple(self.places))  # of a phase with one run a split
        self.task = make_transfer_task(self.network)
        self.data = make_two_species(self.table, self.network.stairs)

    def mixture(self, place: Place, **more: Any) -> Mixture:
        """What a run on the human cells of this split learns from."""
        split = self.arms.splits[place]
        return Mixture(split.validation, split.train, **more)

    def train(
        self, name: str, axis: RunGrid, mixtures: Sequence[Mixture], start: Any = None, **plan: Any
    ) -> tuple[FitResult, RunInputs]:
        """One phase of all runs, as one program, with checkpoints of its own."""
        runs, changed = make_transfer_runs(self.table, self.network.stairs, mixtures), replace(self.plan, **plan)
        result = self.folder.fit(name, self.task, self.data, runs, axis, changed, name, start)
        return result, runs

    def ask(self, weights: Variables, constants: Any, head: str = "human") -> Float[np.ndarray, "run row class"]:
        """What runs say of their human test cells; they go through the splits in order, once a level of another factor."""
        times = len(constants.alpha) // len(self.places)
        rows = stack_rows([plain_rows(self.arms.splits[place].test) for place in self.places] * times)
        return getattr(predict(self.task, self.data, weights, rows, constants), head)

    def add(self, arm: str, said: Float[np.ndarray, "run row class"]) -> None:
        """An arm from a run a split."""
        for place, probability in zip(self.places, said, strict=True):
            self.arms.add(arm, place, probability[: len(self.arms.splits[place].test)])


def train_human(networks: Networks, *, by_accuracy: bool) -> None:
    """Human cells alone; ``by_accuracy``: once more with the epoch that the released code would select."""
    selections = (False, True) if by_accuracy else (False,)
    axis = crossed("by_accuracy", selections, networks.places)
    mixtures = [networks.mixture(run[1:], by_accuracy=run[0]) for run in axis.levels]
    result, runs = networks.train("human", axis, mixtures)
    said = networks.ask(result.best, runs.constants)
    for selection in selections:
        networks.add(BY_ACCURACY if selection else NETWORK, said[axis.where(by_accuracy=selection)])


def train_sequential(networks: Networks) -> None:
    """Mouse cells, once a seed; then on every split a new human head, first alone and then with the encoder."""
    places, seeds = networks.places, sorted({seed for _, seed, _ in networks.places})
    humans = len(networks.arms.table)
    codes, mixtures = networks.table.codes()[humans:], []
    for seed in seeds:
        part = k_folds(codes, PARTS, seed)[0]
        train = np.sort(np.concatenate([part.train, part.validation]))
        mixtures.append(Mixture(humans + part.test, mouse=humans + train))
    pretrained, _ = networks.train("mouse", RunGrid.cross(seed=seeds), mixtures)
    copies = take_runs(pretrained.best, [seeds.index(seed) for _, seed, _ in places])

    axis, mixtures = networks.axis, [networks.mixture(place) for place in places]
    start = transplant(copies, drop=("human",))
    few = {"max_epochs": min(5, networks.plan.max_epochs), "patience": None}
    warm, runs = networks.train("warm_up", axis, mixtures, start, freeze=SHARED, **few)
    networks.add("mouse network", networks.ask(copies, runs.constants, "mouse"))  # has seen no human label
    tuned, runs = networks.train("sequential", axis, mixtures, transplant(warm.best), learning_rate=5e-4)
    networks.add("sequential network", networks.ask(tuned.best, runs.constants))


def train_joint(networks: Networks, alphas: Sequence[float], alpha: float, patience: int) -> None:
    """Both species at once, for every alpha; the best of them by human validation cells; and one tuned on human cells."""
    places, humans = networks.places, len(networks.arms.table)
    mouse = np.arange(humans, len(networks.table))
    axis = crossed("alpha", alphas, places)
    mixtures = [networks.mixture(run[1:], mouse=mouse, alpha=run[0]) for run in axis.levels]
    twice = 2 * networks.plan.batch_size  # as many human cells a batch as in the other phases
    plan = {"learning_rate": 5e-4, "batch_size": twice, "patience": patience}
    result, runs = networks.train("joint", axis, mixtures, **plan)
    said = networks.ask(result.best, runs.constants)
    for each in alphas:
        networks.add(f"joint network, alpha {each:g}", said[axis.where(alpha=each)])
    score = np.where(np.array(axis.column("alpha")) > 0, result.run_results.best_score, -np.inf)  # of validation cells
    best = np.reshape(score, (len(alphas), len(places))).argmax(axis=0)
    networks.add("joint network, chosen alpha", said[best * len(places) + np.arange(len(places))])
    start = transplant(take_runs(result.best, axis.where(alpha=alpha)))
    mixtures = [networks.mixture(place) for place in places]
    tuned, runs = networks.train("fine_tune", networks.axis, mixtures, start, learning_rate=3e-4)
    networks.add("joint network, tuned", networks.ask(tuned.best, runs.constants))


def crossed(factor: str, levels: Sequence[Any], places: Sequence[Place]) -> RunGrid:
    """A run a level of the factor and split."""
    return RunGrid((factor, "folds", "seed", "fold"), tuple((level, *place) for level in levels for place in places))


Say = Callable[[Labelled, np.ndarray, np.ndarray, int], np.ndarray]  # labelled, unlabelled, new, seed -> probabilities


def supervised_arms(lender: Lender) -> dict[str, Say]:
    """The arms that are trained with every number of labels."""
    return {
        REFERENCE: human_vote,
        KERNEL: partial(say_kernel, None),
        MOUSE_TYPES: partial(say_kernel, lender.metric),
        "lda": lambda own, _, new, seed: chosen_discriminant(own, new, lender, OWN, seed),
        "tethered lda": lambda own, _, new, seed: chosen_discriminant(own, new, lender, BORROWED, seed),
    }


def unlabelled_arms(lender: Lender) -> dict[str, Say]:
    """The arms that also see the training cells without a label, where labels are few."""
    return {
        "lda, unlabelled": lambda own, rest, new, seed: chosen_discriminant(own, new, lender, OWN, seed, rest),
        "tethered lda, unlabelled": lambda own, rest, new, seed: chosen_discriminant(
            own, new, lender, BORROWED, seed, rest
        ),
    }


def other_arms(lender: Lender) -> dict[str, Say]:
    """The arms that are trained with all labels only, or with none."""

    def joint(own: Labelled, _: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
        share = choose(own, SHARES, lambda some, asked: joint_regressions(some, asked, lender), seed)
        return joint_regressions(own, new, lender)(share)

    return {
        SHUFFLED_TYPES: partial(say_kernel, lender.shuffled),
        "logistic": partial(say_baseline, "logistic"),
        "svm": partial(say_baseline, "svm"),
        "stacked logistic": lambda own, _, new, seed: stacked_regression(own, new, lender),
        "joint logistic": joint,
        "mouse logistic": lambda own, _, new, seed: lender.regress(new, own.values),
    }


def say_kernel(
    metric: Metric | None, own: Labelled, _: np.ndarray, new: np.ndarray, seed: int, width: float = WIDTHS[0]
) -> np.ndarray:
    return KernelClassifier(width, metric).fit(own.values, own.codes).predict_proba(new)


def human_vote(own: Labelled, rest: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    """The mean of five classical models of the human cells."""
    said = [say_kernel(None, own, rest, new, seed, width) for width in WIDTHS]
    said += [say_baseline(name, own, rest, new, seed) for name in ("lda", "svm")]
    said.append(make_robust("robust rda", seed).fit(own.values, own.codes).predict_proba(new))
    return np.mean(said, axis=0)


def chosen_discriminant(
    own: Labelled, new: np.ndarray, lender: Lender, grid: Sequence, seed: int, rest: np.ndarray | None = None
) -> np.ndarray:
    """The discriminant of the grid that inner folds of the labelled cells choose."""
    strength = choose(own, grid, lambda some, asked: discriminants(some, asked, lender), seed)
    return discriminants(own, new, lender, rest)(strength)


def say_baseline(name: str, own: Labelled, _: np.ndarray, new: np.ndarray, seed: int) -> np.ndarray:
    values, codes = np.concatenate([own.values, new]), np.pad(own.codes, (0, len(new)))
    train, test = np.arange(len(own.values)), np.arange(len(own.values), len(values))
    return baseline_scores_of(name, values, codes, train, test, seed, int(own.codes.max()) + 1)


def train_classical(folder: RunFolder, arms: Arms, lender: Lender, fractions: Sequence[float]) -> dict[float, Arms]:
    """Every classical arm on every split, and some with a fraction of the labels; all select by inner folds, if at all."""
    supervised, unlabelled, other = supervised_arms(lender), unlabelled_arms(lender), other_arms(lender)
    curve = {fraction: Arms(arms.table, arms.splits) for fraction in fractions}
    shown, began = folder.console.is_terminal, time.perf_counter()
    bar = track(arms.splits.items(), "classical arms", console=folder.console, disable=not shown, transient=True)
    for place, split in bar:
        rows = np.sort(np.concatenate([split.train, split.validation]))
        for fraction, own in {1.0: arms, **curve}.items():
            labelled = rows if fraction == 1 else labelled_part(arms.codes, rows, fraction, place)
            groups = arms.table.donor[labelled] if place[0] == "donor" and arms.table.donor is not None else None
            known = Labelled(arms.table.values[labelled], arms.codes[labelled], groups)
            rest, new = (arms.table.values[some] for some in (np.setdiff1d(rows, labelled), split.test))
            for name, say in (supervised | (other if fraction == 1 else unlabelled)).items():
                own.add(name, place, say(known, rest, new, place[1]))
    folder.say(f"classical arms: {len(arms.splits)} splits in {time.perf_counter() - began:.0f} s")
    return curve


def labelled_part(codes: np.ndarray, rows: np.ndarray, fraction: float, place: Place) -> np.ndarray:
    """That part of each class, two cells at least. A larger fraction holds the smaller ones."""
    kind, seed, fold = place
    order = np.random.default_rng([len(kind), seed, fold]).permutation(rows)
    members = [order[codes[order] == code] for code in np.unique(codes[rows])]
    return np.sort(np.concatenate([some[: max(2, round(fraction * len(some)))] for some in members]))
