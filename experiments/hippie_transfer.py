"""Transfer between laboratories: learn the cells of one data set, tell those of another, of which nothing was seen.

After the cross-dataset table of Gonzalez-Ferrer et al. (2025): Hull (mouse, Neuropixels) <-> Lisberger (macaque, s-Probes),
the classes that both have. Published, best of all: NEMO 0.721 Lisberger -> Hull, VAE 0.593 Hull -> Lisberger, both with
the target's units in pretraining. Here neither a label nor a curve of the target is fitted to, not even a scale.

    python -m experiments.hippie_transfer heads --data FOLDER      no networks: a minute
    python -m experiments.hippie_transfer --data FOLDER            networks too
    python -m experiments.hippie_transfer smoke --data FOLDER      one seed of small networks

FOLDER as in hippie_probe, with the two data sets in it. hull_counts is the copy of Hull that was processed like Lisberger.

Which blocks of views the head has was settled on other tasks (see hippie_probe); ten choices of blocks, this head's
among them, were looked at on this task as well, and nothing was changed for it.

Expected without networks: our head 0.934 Lisberger -> Hull and 0.654 back; logistic regression 0.900 and 0.643, SVM on
intervals and correlograms 0.874 and 0.654, neighbours 0.818 and 0.560. With networks, in six minutes: neighbours on our embedding
0.880 and 0.622, a linear probe 0.909 and 0.648, on the published objective's 0.632 and 0.451, 0.678 and 0.506; our head with the
embedding besides 0.912 and 0.653. Epochs and contrast are those of hippie_probe, chosen on validation rows of other data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from jaxephys.evaluation.intervals import block_bootstrap, mean_sd
from jaxephys.hippie.benchmark import (
    HEAD,
    OPPONENTS,
    SHUFFLED,
    SHUFFLES,
    Benchmark,
    Said,
    ask_head,
    ask_opponent,
    read_tables,
)
from jaxephys.hippie.embedding_grid import Grid, Networks, ask_embedded, recorded
from jaxephys.hippie.network.cvae import LENGTHS
from jaxephys.hippie.preprocessing import resample
from jaxephys.hippie.ranking import METRIC, save_said, scores_of
from jaxephys.reporting.plots import draw_bars
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import EMPTY, Cell, Table, show
from jaxephys.schemas.unit_table import UnitTable

LEAST = 10  # units of a class in each of the two, as published: Hull has two Golgi cells
TIMING = ("isi", "acg")  # curves that do not depend on the electrode
PUBLISHED = {
    ("lisberger", "hull_counts"): {
        "NEMO, target's units in pretraining": "0.721",
        "HIPPIE": "0.404",
        "PhysMAP": "0.595",
    },
    ("hull_counts", "lisberger"): {
        "VAE, target's units in pretraining": "0.593",
        "HIPPIE": "0.319",
        "PhysMAP": "0.445",
    },
}


@dataclass(frozen=True)
class Transfer(Settings):
    data: Path = Path("hippie")
    """Folder with a folder for each data set."""
    pair: tuple[str, str] = ("lisberger", "hull_counts")
    """Two data sets; each is learnt from in turn."""
    seeds: int = 5
    """Of the networks, of forests and of inner folds."""
    trunk: Literal["dense", "resnet"] = "dense"
    """What reads and draws curves; the published ResNets are for tens of thousands of units."""
    width: int = 16
    """Channels of the first layer, a dense trunk has eight times as many hidden units; 0: no networks."""
    latent: int = 30
    """Dimensions of the embedding."""
    pretraining: int = 30
    """Epochs on all other data sets."""
    epochs: int = 100
    """Epochs on the data set that is learnt from."""
    contrast: float = 160.0
    """How strongly labels of training units pull the units of a class together."""


PRESETS = {
    "default": Transfer(),
    "heads": Transfer(width=0),
    "resnet": Transfer(trunk="resnet", width=8, seeds=1),
    "smoke": Transfer(seeds=1, width=4, latent=6, pretraining=1, epochs=2),
}


def run(settings: Transfer, folder: RunFolder) -> None:
    tables = read_tables(settings.data)
    if missing := set(settings.pair) - set(tables):
        raise ValueError(f"{settings.data} holds no data set {min(missing)!r}: it holds {', '.join(tables)}")
    one, other = settings.pair
    benches = [across(tables, *pair) for pair in ((one, other), (other, one))]
    networks = Networks.of(settings)
    grids = {bench: Grid(bench, tables, networks) for bench in benches} if settings.width else {}
    runs = sum(grid.runs for grid in grids.values())
    folder.greet(runs, **{name: [tables[name].raw, tables[name].label] for name in settings.pair})

    said = {bench: ask_simple(bench, settings.seeds) for bench in benches}
    for bench, grid in grids.items():
        said[bench] |= ask_embedded(bench, grid.train(folder), settings.seeds)
    if not folder.first:
        return
    save_said(folder.path, said)
    scores = [
        score
        for bench, arms in said.items()
        for arm, own in arms.items()
        for score in scores_of("hippie_transfer", arm, bench, own)
    ]
    figures = {}
    for bench in benches:
        own = [score for score in scores if score.test_on == bench.name]
        name = f"bars_{'_'.join(bench.sets)}"
        lines = {"chance": 1 / len(bench.classes)}
        opponents = [arm for arm in said[bench] if arm.startswith(OPPONENTS) and " on " not in arm]
        figures[bench.name] = draw_bars(folder.path, own, METRIC, lines, baselines=opponents, name=name)
    tables_ = {bench.name: results(bench, arms) for bench, arms in said.items()}
    folder.close(scores, "Transfer between laboratories", INTRO, tables_, figures, NOTES)


INTRO = f"""Balanced accuracy on all units of the data set behind the arrow, of the classes that both have. "{HEAD}" is our head,
settled on other tasks; opponents read the prepared curves side by side; "timing" is intervals and correlograms alone."""

NOTES = [
    "Mean ± sd over seeds, where an arm draws anything. Intervals: bootstrap over the units tested, 95%. They say nothing of "
    "another laboratory: there is one pair.",
    "Ten choices of the head's blocks were once looked at on these targets; none was taken over from that.",
    "Published numbers are of single runs.",
]


def across(tables: Mapping[str, UnitTable], source: str, target: str) -> Benchmark:
    """The units of both that have a class which both have: the source's always train, the target's are always tested."""
    known, asked = (tables[name].labelled(LEAST).classes for name in (source, target))
    both = np.intersect1d(known, asked)
    if len(both) < 2:
        raise ValueError(f"{source} and {target} share {len(both)} classes of {LEAST} units: a transfer needs two")
    parts = [
        recorded(name, tables[name].rows(np.flatnonzero(np.isin(tables[name].label, both))))
        for name in (source, target)
    ]
    told = set.intersection(*(set(part.about) for part in parts)) - {"fold"}
    about = {name: np.concatenate([part.about[name] for part in parts]) for name in sorted(told)}
    raw = {name: np.concatenate(alike([part.raw[name] for part in parts], LENGTHS[name])) for name in LENGTHS}
    table = UnitTable(raw, np.concatenate([part.name for part in parts]), about)
    fold = np.repeat([-1, 0], [len(part) for part in parts])
    return Benchmark(f"{source} to {target}", table, fold, (source, target))


def alike(curves: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    """As they are if they have the same columns; else each resampled, in its own rows, to what a network reads."""
    if len({rows.shape[1] for rows in curves}) == 1:
        return list(curves)
    if not all(rows.shape[1] for rows in curves):  # one of the two does not have it
        return [np.zeros((len(rows), 0), np.float32) for rows in curves]
    return [resample(rows, length).astype(np.float32) for rows in curves]


def timing(bench: Benchmark) -> Benchmark:
    raw = {name: rows if name in TIMING else rows[:, :0] for name, rows in bench.table.raw.items()}
    return Benchmark(bench.name, UnitTable(raw, bench.table.unit, bench.table.about), bench.fold, bench.sets)


def ask_simple(bench: Benchmark, seeds: int) -> dict[str, Said]:
    said = {HEAD: ask_head(bench), f"{HEAD}, {SHUFFLED}": ask_head(bench, SHUFFLES)}
    said |= {name: ask_opponent(bench, name, seeds) for name in OPPONENTS}
    alone = timing(bench)
    said[f"{HEAD}, timing"] = ask_head(alone)
    return said | {f"{name}, timing": ask_opponent(alone, name, seeds) for name in OPPONENTS}


def results(bench: Benchmark, said: Mapping[str, Said]) -> Table:
    """A line an arm: mean and sd over seeds, and an interval over the units tested."""
    label = bench.codes[bench.split(0)[1]]
    columns: dict[str, list[Cell]] = {"arm": [], METRIC: [], "[95%]": [], "published": []}
    reached = {}
    for arm, own in said.items():
        answers = np.stack([label, *(probability.argmax(axis=1) for probability in own.values())], axis=1)
        values = [balanced_accuracy_score(label, column) for column in answers.T[1:]]
        reached[arm] = float(np.mean(values))
        interval = block_bootstrap(mean_balanced, answers, 1, 500)
        spread = mean_sd(values).sd if len(values) > 1 else np.nan
        cells = (arm, show(reached[arm], spread), f"[{interval.low:.3f}, {interval.high:.3f}]", EMPTY)
        for column, text in zip(columns.values(), cells, strict=True):
            column.append(Cell(text))
    best = max(reached.values())
    columns[METRIC] = [
        Cell(cell.text, value == best) for cell, value in zip(columns[METRIC], reached.values(), strict=True)
    ]
    for method, text in PUBLISHED.get((bench.sets[0], bench.sets[1]), {}).items():
        for column, own in zip(columns.values(), (f"{method}, published", EMPTY, EMPTY, text), strict=True):
            column.append(Cell(own))
    return Table(columns, [])


def mean_balanced(answers: np.ndarray) -> float:
    """Over seeds; the first column holds the true classes, of those that were drawn."""
    right = answers[:, 1:] == answers[:, :1]
    return float(np.mean([right[answers[:, 0] == code].mean() for code in np.unique(answers[:, 0])]))


if __name__ == "__main__":
    main("hippie_transfer", __doc__, PRESETS, run)
