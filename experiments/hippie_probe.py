"""The benchmark of HIPPIE: which class is a unit of, by our heads, our embedding, the published objective and opponents.

After the tables of Gonzalez-Ferrer et al. (2025): balanced accuracy in the published folds (folds.csv) of Hull, Lisberger,
A1, S1, Watson and Hausser. Published scores of HIPPIE, PhysMAP, NEMO, VAE and a waveform forest are quoted from
published_scores.csv. The published networks were trained on the curves of test units too; nothing here sees them.

    python -m experiments.hippie_probe heads --data FOLDER     no networks: our head and the opponents
    python -m experiments.hippie_probe --data FOLDER           networks too
    python -m experiments.hippie_probe smoke --data FOLDER     one seed of small networks

FOLDER holds a folder for each data set (CSV files, or units.npz of data_prep), or is itself such a folder.

Our head is the kernel probe on the views of the curves (jaxephys/hippie/probes.py, views.py), alone, and with the
embedding as one more block. It was declared before any network was trained, yet not before anything was known: 66 choices
of views, widths and classifiers were compared by inner folds within the training parts of the folds of Lisberger, A1, S1,
Watson and Hull. Every unit of these five stands in four such parts, so that their scores are somewhat optimistic; the folds
of Hausser and folds by subject or session took no part in it. Labels that are shuffled must end at chance.

Expected of our head without networks: Hull 0.986, Lisberger 0.853, A1 0.762, S1 0.791, Watson 0.781 (by subject 0.812, by
session 0.748), Hausser by its waveforms alone 0.717; of the yardstick, a balanced SVM, 0.962, 0.827, 0.711, 0.753, 0.778, 0.639.

How strongly labels of training units pull the embedding was chosen among six settings of the objective by neighbours among the
validation rows of A1, S1 and Watson. Expected of neighbours on our embedding, on the curves, and on an embedding by the
published objective: Lisberger 0.849, 0.717, 0.638, Hull 0.972, 0.965, 0.878, A1 0.692, 0.633, 0.472, S1 0.704, 0.697, 0.582,
Watson 0.741, 0.713, 0.678, Hausser 0.631, 0.562, 0.543, hull_counts 0.970, 0.933, 0.895. The embedding as one more block
of our head changes its scores by 0.01 either way, on Watson and Hausser by -0.03.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from jaxephys.evaluation.intervals import mean_sd
from jaxephys.hippie.benchmark import (
    HEAD,
    NEIGHBOURS,
    OPPONENTS,
    SHUFFLED,
    SHUFFLES,
    Benchmark,
    Said,
    ask_head,
    ask_opponent,
    read_tables,
)
from jaxephys.hippie.embedding_grid import Grid, Networks, ask_embedded
from jaxephys.hippie.ranking import METRIC, YARDSTICK, save_said, scores_of, standings
from jaxephys.reporting.plots import draw_bars
from jaxephys.reporting.run_folder import RunFolder, Settings, main
from jaxephys.reporting.score_table import Score, show

METHODS = {
    "hippie": "HIPPIE",
    "nemo": "NEMO",
    "physmap": "PhysMAP",
    "vae": "VAE",
    "wf-rf": "waveform forest",
    "pca_wf": "PCA of waves",
    "pca_isi": "PCA of intervals",
    "pca_acg": "PCA of correlograms",
}


@dataclass(frozen=True)
class Probe(Settings):
    data: Path = Path("hippie")
    """Folder with a folder for each data set, or a table of units."""
    datasets: tuple[str, ...] = ()
    """Which are scored, all without; the others in the folder help to pretrain."""
    seeds: int = 5
    """Of the networks, of forests and of inner folds."""
    umap: bool = True
    """UMAP + knn among the opponents (needs the extra umap)."""
    trunk: Literal["dense", "resnet"] = "dense"
    """What reads and draws curves; the published ResNets are for tens of thousands of units."""
    width: int = 16
    """Channels of the first layer, a dense trunk has eight times as many hidden units; 0: no networks."""
    latent: int = 30
    """Dimensions of the embedding."""
    pretraining: int = 30
    """Epochs on all other data sets."""
    epochs: int = 100
    """Epochs on the training units of a fold."""
    contrast: float = 160.0
    """How strongly labels of training units pull the units of a class together."""


PRESETS = {
    "default": Probe(),
    "heads": Probe(width=0),
    "resnet": Probe(trunk="resnet", width=8, seeds=1),
    "smoke": Probe(seeds=1, umap=False, width=4, latent=6, pretraining=1, epochs=2),
}


def run(settings: Probe, folder: RunFolder) -> None:
    tables = read_tables(settings.data)
    if missing := set(settings.datasets) - set(tables):
        raise ValueError(f"{settings.data} holds no data set {min(missing)!r}: it holds {', '.join(tables)}")
    benches = {name: Benchmark.of(name, tables[name]) for name in settings.datasets or tables}
    networks = Networks.of(settings)
    grids = [Grid(bench, tables, networks) for bench in benches.values()] if settings.width else []
    folder.greet(sum(grid.runs for grid in grids), **{name: [table.raw, table.label] for name, table in tables.items()})

    said = {bench: ask_simple(folder, bench, settings) for bench in benches.values()}
    grouped = [bench.grouped(by) for bench in benches.values() for by in ("subject", "session")]
    said |= {bench: ask_simple(folder, bench, settings) for bench in grouped if bench}
    for grid in grids:
        said[grid.bench] |= ask_embedded(grid.bench, grid.train(folder), settings.seeds)
    if not folder.first:
        return

    scores = [
        score
        for bench, arms in said.items()
        for arm, own in arms.items()
        for score in scores_of("hippie_probe", arm, bench, own)
    ]
    save_said(folder.path, said)
    published = read_published(settings.data / "published_scores.csv")
    shown = {bench.name: standings(scores, bench, YARDSTICK, published.get(bench.name)) for bench in said}
    figures = dict(draw(folder.path, scores, benches.values()))
    folder.close(scores, "HIPPIE's benchmark", INTRO, shown, figures, notes_of(scores, said))


INTRO = f"""Balanced accuracy on test units that nothing was fitted on: not a scale, not a neighbour, not a network. "{HEAD}" is our
head, chosen as the note at the end says; "{YARDSTICK}" is the yardstick among the opponents, which read the prepared curves side by side. "on ours"
are probes on the embedding of our networks, "on published" on those trained by the published objective in the same protocol."""


def notes_of(scores: Sequence[Score], benches: Iterable[Benchmark]) -> list[str]:
    found = [
        "Published scores are of the same folds for HIPPIE and VAE; PhysMAP, NEMO and, on Hull, the waveform forest were tested "
        "on others, and Watson on a copy of 236 units instead of 221. Mean ± sd over folds, test units seen in training.",
        "The published HIPPIE score on S1, whose classes are type x layer, is explained by the layer as an input.",
        "Views and widths of our head were chosen among 66 arms by inner folds of the training parts of Hull, Lisberger, A1, S1 "
        "and Watson: their scores are somewhat optimistic. Opponents stand at settings fixed beforehand.",
    ]
    for bench in benches:
        own = [score for score in scores if score.test_on == bench.name and score.metric == METRIC]
        for arm in dict.fromkeys(score.variant for score in own if SHUFFLED in score.variant):
            reached = np.mean([score.value for score in own if score.variant == arm])
            found.append(f"{bench.name}, {arm}: {reached:.3f}, chance {1 / len(bench.classes):.3f}.")
    return found


def ask_simple(folder: RunFolder, bench: Benchmark, settings: Probe) -> dict[str, Said]:
    """What needs no network."""
    began = time.perf_counter()
    said = {HEAD: ask_head(bench), f"{HEAD}, {SHUFFLED}": ask_head(bench, SHUFFLES)}
    for name in (*OPPONENTS, *((NEIGHBOURS,) if settings.umap else ())):
        said[name] = ask_opponent(bench, name, settings.seeds)
    folder.say(f"{bench.name}: {len(bench.table)} units, heads and opponents in {time.perf_counter() - began:.0f} s")
    return said


def read_published(path: Path) -> dict[str, dict[str, str]]:
    """Data set -> method -> mean and sd over folds; nothing where there is no file."""
    if not path.exists():
        return {}
    values: dict[tuple[str, str], list[float]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            known = [ours for theirs, ours in METHODS.items() if row["method"].startswith(theirs)]
            if known:
                values.setdefault((row["dataset"], known[0]), []).append(float(row["balanced_accuracy"]))
    found: dict[str, dict[str, str]] = {}
    for (dataset, method), scores in values.items():
        spread = mean_sd(scores).sd if len(scores) > 1 else math.nan
        found.setdefault(dataset, {})[method] = show(float(np.mean(scores)), spread)
    return found


def draw(folder: Path, scores: Sequence[Score], benches: Iterable[Benchmark]) -> Iterator[tuple[str, Path]]:
    for bench in benches:
        own = [score for score in scores if score.test_on == bench.name]
        lines = {"chance": 1 / len(bench.classes)}
        simple = [name for name in (*OPPONENTS, NEIGHBOURS) if any(score.variant == name for score in own)]
        yield (
            f"{bench.name}: balanced accuracy",
            draw_bars(folder, own, METRIC, lines, baselines=simple, name=f"bars_{bench.name}"),
        )


if __name__ == "__main__":
    main("hippie_probe", __doc__, PRESETS, run)
