"""Arms: what every arm of a comparison says of the same test cells, how arms vote, and how often each is right.

An arm also says something of *held* rows: cells that it was not trained on and is not tested on. Temperatures, offsets and
thresholds are fitted there and nowhere else; a held row among the test rows is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from jaxephys.evaluation.calibration import (
    apply_offsets,
    apply_prior,
    apply_temperature,
    conformal_sets,
    conformal_thresholds,
    fit_offsets,
    fit_temperature,
    selective_curve,
)
from jaxephys.evaluation.metrics import class_scores, classification_scores
from jaxephys.evaluation.splits import Split
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.reporting.score_table import Score
from jaxephys.schemas.feature_table import FeatureTable

Place = tuple[str, int, int]  # folds ("cell" or "donor"), seed, number of the fold
COVERAGE = 0.9  # of each class by the sets of classes that cannot be ruled out


class Held(NamedTuple):
    """Rows that neither train an arm nor test it, and what it says of them."""

    rows: np.ndarray
    probability: np.ndarray


@dataclass
class Arms:
    """Probabilities of every arm: on the test rows of every split, and on rows held for calibration where it has some."""

    table: FeatureTable
    splits: Mapping[Place, Split]
    tested: dict[str, dict[Place, np.ndarray]] = field(default_factory=dict)
    held: dict[str, dict[Place, Held]] = field(default_factory=dict)

    @cached_property
    def codes(self) -> np.ndarray:
        return self.table.codes()

    @property
    def classes(self) -> list[str]:
        return self.table.classes.tolist()

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is held out: "cell", "donor"."""
        return tuple(dict.fromkeys(kind for kind, _, _ in self.splits))

    def add(self, arm: str, place: Place, test: np.ndarray, held: Held | None = None) -> None:
        self.tested.setdefault(arm, {})[place] = np.asarray(test, np.float32)
        if held is None:
            return
        if len(leaked := np.intersect1d(held.rows, self.splits[place].test)):
            raise ValueError(
                f"{arm}, {place}: test row {leaked[0]} is among the rows that calibrate, {len(leaked)} leak"
            )
        self.held.setdefault(arm, {})[place] = Held(held.rows, np.asarray(held.probability, np.float32))

    def derive(self, name: str, arm: str, change: Callable[[np.ndarray, Place], np.ndarray]) -> None:
        """The arm ``name``: another one, changed alike on test rows and on held ones."""
        for place in self.splits:
            held = self.held[arm][place]
            kept = Held(held.rows, change(held.probability, place))
            self.add(name, place, change(self.tested[arm][place], place), kept)

    def offset(self, name: str, arm: str) -> None:
        """An arm with the offsets of the classes that its held rows ask for."""
        at = {place: fit_offsets(held.probability, self.codes[held.rows]) for place, held in self.held[arm].items()}
        self.derive(name, arm, lambda probability, place: apply_offsets(probability, at[place]))

    def weigh(self, name: str, arm: str, power: float) -> None:
        """An arm times a power of the frequencies of its training cells."""

        def weighed(probability: np.ndarray, place: Place) -> np.ndarray:
            counts = np.bincount(self.codes[self.splits[place].train], minlength=len(self.classes))
            return apply_prior(probability, counts / counts.sum(), power)

        self.derive(name, arm, weighed)

    def vote(self, name: str, members: Sequence[str]) -> None:
        """The mean of some arms, each at the temperature that its held rows ask for; of one arm: that arm, cooled."""
        for place in self.splits:
            held = [self.held[arm][place] for arm in members]
            if any(not np.array_equal(one.rows, held[0].rows) for one in held):
                raise ValueError(
                    f"{', '.join(members)} are calibrated on different rows: a vote needs the same for all"
                )
            at = [fit_temperature(one.probability, self.codes[one.rows]) for one in held]
            tested = [apply_temperature(self.tested[arm][place], t) for arm, t in zip(members, at, strict=True)]
            kept = [apply_temperature(one.probability, t) for one, t in zip(held, at, strict=True)]
            self.add(name, place, np.mean(tested, axis=0), Held(held[0].rows, np.mean(kept, axis=0)))

    def scores(self, experiment: str, train_on: str) -> list[Score]:
        """Tidy scores: of all test cells, and of those of each condition where the table knows several."""
        condition = self.table.about.get("condition", np.full(len(self.table), ""))
        conditions = [name for name in np.unique(condition) if name] if len(np.unique(condition)) > 1 else []
        longest = max(len(split.test) for split in self.splits.values())
        found = []
        for arm, said in self.tested.items():
            for place, probability in said.items():
                kind, test = place[0], self.splits[place].test
                parts = {kind: np.ones(len(test), bool)}
                parts |= {f"{kind}, {name}": condition[test] == name for name in conditions}
                for name, chosen in parts.items():
                    values = measure(self.codes[test], probability, chosen, longest, self.classes)
                    values |= self.doubts(arm, place) if name == kind else {}
                    run = (experiment, arm, train_on, name, place[1], place[2], "test")
                    found += [Score(*run, metric, value, int(chosen.sum())) for metric, value in values.items()]
        return found

    def doubts(self, arm: str, place: Place) -> dict[str, float]:
        """How well an arm knows what it does not know: by its confidence, and by sets of classes that hold the truth."""
        label, probability = self.codes[self.splits[place].test], self.tested[arm][place]
        values = {"selective_error": selective_curve(probability, label).area}
        if arm not in self.held:
            return values
        held = self.held[arm][place]
        sets = conformal_sets(probability, conformal_thresholds(held.probability, self.codes[held.rows], COVERAGE))
        size, inside = sets.sum(axis=1), sets[np.arange(len(label)), label]
        values |= {"set_size": float(size.mean()), "single": float((size == 1).mean())}
        values |= {"empty": float((size == 0).mean()), "several": float((size > 1).mean())}
        for code, name in enumerate(self.classes):
            own = inside[label == code]
            values[f"covered {name}"] = float(own.mean()) if len(own) else math.nan
        return values

    def save(self, folder: RunFolder) -> None:
        """``predictions.npz`` of all arms; see ``RunFolder.write_predictions``."""
        longest = max(len(split.test) for split in self.splits.values())
        shape = (len(self.tested), len(self.splits), longest, len(self.classes))
        probability = np.full(shape, np.nan, np.float32)
        for arm, said in enumerate(self.tested.values()):
            for run, place in enumerate(self.splits):
                probability[arm, run, : len(said[place])] = said[place]
        folds, seed, fold = (np.array(column) for column in zip(*self.splits, strict=True))
        names = {"arm": np.array(list(self.tested)), "folds": folds, "seed": seed, "fold": fold}
        about = {"cell": self.table.cell, "label": self.codes}
        folder.write_predictions(
            list(self.splits.values()), len(self.table), self.table.classes, probability, **names, **about
        )


def measure(
    label: np.ndarray, probability: np.ndarray, chosen: np.ndarray, length: int, classes: Sequence[str]
) -> dict[str, float]:
    """Every score of the chosen rows, and precision, recall and F1 of each class; nothing where no row is chosen.

    Rows are padded to one ``length``, so that this compiles once.
    """
    if not chosen.any():
        return {}
    missing = length - len(label)
    padded = np.pad(label, (0, missing)), np.pad(probability, ((0, missing), (0, 0)))
    overall, each = _measured(*padded, np.pad(chosen, (0, missing)).astype(np.float32))
    values = {name: float(value) for name, value in overall.items()}
    return values | {
        f"{what} {name}": float(value)
        for what, column in each.items()
        for name, value in zip(classes, column, strict=True)
    }


@jax.jit
def _measured(label: np.ndarray, probability: np.ndarray, weight: np.ndarray):
    overall = classification_scores(label, probability, weight)
    return overall, class_scores(label, probability.argmax(axis=-1), weight, probability.shape[-1])
