"""Does pretraining on other data sets help? One data set is held out with all that shares recordings with it, then tuned on.

After the two stages of Gonzalez-Ferrer et al. (2025), which pretrain on the units that are tested later. Here the data set that is
held out, and every copy of its recordings, is absent from pretraining by name and by the registry of data_prep, and
test units are absent from tuning. Scores are of test units, five folds: variance explained of each curve, share of the latent
that is active.

    python -m experiments.hippie_pretrain --data FOLDER --held-out hull          one data set
    python -m experiments.hippie_pretrain smoke --data FOLDER

FOLDER holds a folder for each data set (CSV files, or units.npz of data_prep). Without --held-out the first of them.

    pretrained    the networks of the other data sets as they are: no unit of this one was seen
    tuned         then trained on the training units of a fold
    from scratch  trained on these alone, as long

Expected of Hull, pretrained on 3,880 units of five other data sets, variance explained of waveforms, intervals and correlograms: tuned
0.89, 0.79, 0.91; from scratch 0.62, 0.73, 0.85; pretrained, no unit of Hull seen, 0.87, 0.67, 0.85.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from data_prep.units.registry import find, held_out
from data_prep.units.table import UnitsError
from jaxephys.engine.fit import take_runs, transplant
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.predict import score
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import PyTree, Variables
from jaxephys.evaluation.splits import Split
from jaxephys.hippie.benchmark import read_tables
from jaxephys.hippie.combined_table import names_of
from jaxephys.hippie.embedding_grid import recorded
from jaxephys.hippie.grid import KNOWN, VALIDATION, Trained, cut_folds, train_grid
from jaxephys.hippie.task import OURS
from jaxephys.reporting.plots import draw_bars
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Score, table
from jaxephys.schemas.unit_table import UnitTable

ARMS = ("pretrained", "tuned", "from scratch")


@dataclass(frozen=True)
class Pretrain(Settings):
    data: Path = Path("hippie")
    """Folder with a folder for each data set."""
    held_out: str = ""
    """The data set that pretraining does not see."""
    seeds: int = 5
    """Networks of each stage; one a fold in tuning."""
    trunk: Literal["dense", "resnet"] = "dense"
    """What reads and draws curves."""
    width: int = 16
    """Channels of the first layer; a dense trunk has eight times as many hidden units."""
    latent: int = 30
    """Dimensions of the latent."""
    pretraining: int = 100
    """Epochs on the other data sets."""
    epochs: int = 100
    """Epochs on the data set itself."""


PRESETS = {
    "default": Pretrain(),
    "resnet": Pretrain(trunk="resnet", width=8, seeds=1, pretraining=40, epochs=40),
    "smoke": Pretrain(seeds=1, width=4, latent=6, pretraining=2, epochs=2),
}


def run(settings: Pretrain, folder: RunFolder) -> None:
    tables = read_tables(settings.data)
    name = settings.held_out or next(iter(tables))
    own, pool = recorded(name, named(name, tables)), others_of(name, tables)
    folder.greet(settings.seeds * 11, **{key: units.raw for key, units in {name: own, **pool}.items()})
    sizes = {key: getattr(settings, key) for key in ("latent", "width", "trunk")}
    first = RunGrid.cross(seed=range(settings.seeds))
    every = sum(map(len, pool.values()))
    splits = [halved(every, seed) for seed in first.column("seed")]
    pretrained = train_grid(
        folder, "pretrain", list(pool.values()), splits, first, [OURS] * len(first),
        epochs=settings.pretraining, lengths=KNOWN, **sizes,
    )  # fmt: skip
    check_apart(own, pretrained)

    folds = cut_folds(np.arange(len(own)), settings.seeds)
    axis = RunGrid(("arm", "seed", "fold"), tuple((arm, *place) for arm in ARMS[1:] for place in folds))
    start = weights_for(axis, pretrained)
    tuned = train_grid(
        folder, "tune", [own], [*folds.values()] * 2, axis, [OURS] * len(axis),
        epochs=settings.epochs, lengths=KNOWN, start=start, **sizes,
    )  # fmt: skip
    scores = scored(name, axis, tuned, tuned.result.best)
    before = RunGrid(("arm", "seed", "fold"), tuple((ARMS[0], *place) for place in folds))
    scores += scored(name, before, tuned, take_runs(pretrained.result.best, before.column("seed")))
    if not folder.first:
        return
    known = np.array([name for name, _ in KNOWN])[own.present.any(axis=0)]
    metrics = [f"r2_{modality}" for modality in known]
    pretrained.model(range(settings.seeds)).save(folder.path / "model", overwrite=True)
    shown = {
        f"{name}: {len(own)} units, pretrained on {every} of {', '.join(pool)}": table(scores, [*metrics, "active"])
    }
    figures = {metric: draw_bars(folder.path, scores, metric, name=metric) for metric in metrics}
    folder.close(scores, "Pretraining on other data sets", INTRO, shown, figures, NOTES)


INTRO = """Variance of each curve that is explained on test units, and the share of the latent that is active. The data set that is tested,
and what shares recordings with it, is absent from pretraining."""

NOTES = ["A curve is read and drawn again: these scores say how much of it the latent holds, not what it guesses."]


def named(name: str, tables: Mapping[str, UnitTable]) -> UnitTable:
    if name not in tables:
        raise ValueError(f"there is no data set {name!r} to hold out: choose one of {', '.join(tables)}")
    return tables[name]


def others_of(name: str, tables: Mapping[str, UnitTable]) -> dict[str, UnitTable]:
    """One table of every data set that shares no recording with the one that is held out."""
    gone, found = held_out([name]), {}
    for other, units in tables.items():
        try:
            known = find(other).name
        except UnitsError:
            raise ValueError(f"{other} is not a data set that is known: its siblings cannot be told apart") from None
        if other != name and known not in gone:
            found.setdefault(known, recorded(other, units))
    if not found:
        raise ValueError(
            f"no data set is left to pretrain on without {name} and its siblings: give --data more of them"
        )
    return found


def halved(count: int, seed: int) -> Split:
    order = np.random.default_rng(seed).permutation(count)
    cut = max(2, round(VALIDATION * count))
    return Split(np.sort(order[cut:]), np.sort(order[:cut]), np.array([], int))


def check_apart(own: UnitTable, pretrained: Trained) -> None:
    """By name; copies under another name are left out by the registry."""
    shared = np.intersect1d(names_of([own]), pretrained.names)
    if len(shared):
        raise ValueError(f"unit {shared[0]} is held out and stands in pretraining: give each data set names of its own")


def weights_for(axis: RunGrid, pretrained: Trained) -> PyTree:
    """Of the pretrained network of each run's seed; a run from scratch has one that its own seed draws."""
    task, seeds = pretrained.task, sorted(set(axis.column("seed")))
    fresh: Variables = jax.vmap(lambda seed: task.init(jax.random.key(seed)))(np.array(seeds) + 1000)
    both = jax.tree.map(lambda *leaves: np.concatenate(leaves), jax.device_get(fresh), pretrained.result.best)
    places = [run["seed"] + len(seeds) * (run["arm"] == "tuned") for run in axis]
    weights = transplant(take_runs(both, places))
    return {**weights, "tally": {"variance": weights["tally"]["variance"]}}


def scored(name: str, axis: RunGrid, tuned: Trained, variables: Variables) -> list[Score]:
    splits: Sequence[Split] = tuned.splits[: len(axis)]
    constants = take_runs(tuned.runs.constants, np.arange(len(axis)))
    tests = stack_rows([plain_rows(split.test) for split in splits])
    measured = score(tuned.task, tuned.data, variables, tests, constants)
    return [
        Score(
            "hippie_pretrain",
            run["arm"],
            "others",
            name,
            run["seed"],
            run["fold"],
            "test",
            metric,
            float(values[at]),
            n,
        )
        for metric, values in measured.items()
        if metric != "loss" and np.isfinite(values).all()
        for at, (run, n) in enumerate(zip(axis, (len(split.test) for split in splits), strict=True))
    ]


if __name__ == "__main__":
    main("hippie_pretrain", __doc__, PRESETS, run)
