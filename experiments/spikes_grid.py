"""Train on each recording, test on all: the transfer grid, its eight groups, and what simple forecasts score in the same bins.

After Figure 4 and Table 2 of Shimono (2026): 12 recordings, 12 models, 144 scores. The published code is shown the bin it is asked for;
ours forecasts the next one, and stands beside a constant rate, an exponential filter and logistic regressions on the same bins. It is
scored as it is used: calibrated on its own recording, in a mixture with plainer experts (jaxephys/spikes/expert_mixture.py).

    python -m experiments.spikes_grid                                        12 simulated populations of a minute
    python -m experiments.spikes_grid --data ../shared/data/spikes           one slice and one session, 2 x 2
    python -m experiments.spikes_grid published --data FOLDER                the published layer, shown its bins: reconstruction
    python -m experiments.spikes_grid demo                                   12 x 12 on 24 seconds of 16 units each, 4 minutes
    python -m experiments.spikes_grid full --data FOLDER                     windows of 3125, 200 epochs, 10 seeds: for an accelerator

FOLDER holds recordings (``python -m data_prep spikes build NAME --data FILES --out FOLDER``), or the files of the registry as
``python -m data_prep spikes fetch NAME --out FOLDER`` leaves them, which are then built in memory.

Published ROC-AUC, pooled over cells: self 0.93 in vitro and 0.77 in vivo, in vitro -> in vivo 0.70, in vivo -> in vitro 0.80.
Expected on one slice and one session (one seed, some ten minutes on two cores), the network beside the best baseline; AUC, within-unit
AUC, AP, bits/spike:

    in vitro self        units       0.922  0.513  0.241  +0.21     per-unit GLM  0.922  0.509  0.236  +0.20
    in vivo self         units       0.862  0.694  0.033  +0.58     per-unit GLM  0.858  0.684  0.031  +0.52
    in vivo -> in vitro  population  0.919  0.501  0.212  +0.12     exponential   0.916  0.504  0.205  -0.27
    in vitro -> in vivo  population  0.840  0.624  0.022  +0.28     shared GLM    0.834  0.633  0.020  +0.20

and of the published layer as a reconstruction 0.926, 0.999, 0.900, 0.755 AUC; of its forecasts 0.834, 0.573, 0.541, 0.515. The last of
the reconstructions hangs on the seed (five seeds with ``--batch-size 16``: 0.46 to 0.77), the others do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from rich.progress import track

from jaxephys.engine.grid import RunGrid
from jaxephys.reporting.run_folder import RunFolder, main
from jaxephys.reporting.score_table import Score
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.baselines import NAMES, Baselines
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.forecaster import run_of
from jaxephys.spikes.grid import (
    METRICS,
    Bins,
    Intervals,
    SpikeSettings,
    Truth,
    check_same_bins,
    fit_all,
    intervals_of,
    read_recordings,
    rows_of,
    scored_bins,
    tally_all,
    train_networks,
    training_bins,
    write_intervals,
)
from jaxephys.spikes.report import draw_grid, grid_of, group_table, pair_table, winners
from jaxephys.spikes.streaming_scores import Tally

FEW = 4  # recordings, up to which every pair has its rows
LEGACY, RECONSTRUCTION = "legacy, next bin", "legacy, reconstruction"


@dataclass(frozen=True)
class SpikeGrid(SpikeSettings):
    networks: tuple[Literal["population", "units", "published", "legacy"], ...] = ("population", "units")
    """Population takes any units, units knows its own. Published: that layer, causal; legacy: the same, shown what it tells."""
    loss: str = "bce"
    """What is minimised."""


PRESETS = {
    "default": SpikeGrid(),
    "published": SpikeGrid(
        networks=("legacy",), loss="published_dice", length=128, max_epochs=1, learning_rate=0.005, warm_up=1024
    ),
    "demo": SpikeGrid(networks=("population",), minutes=0.4, units=16, max_epochs=6, length=256, resamples=0),
    "full": SpikeGrid(length=3125, batch_size=16, max_epochs=200, seeds=10),
    "smoke": SpikeGrid(
        networks=("population",), populations=3, minutes=0.2, units=8, max_epochs=1, length=128, resamples=0
    ),
}


class Entrant(NamedTuple):
    """Trained networks as they are scored: under a name, and as a forecast or a reconstruction."""

    name: str
    model: SpikeTransformer
    axis: RunGrid
    same_bin: bool


def run(settings: SpikeGrid, folder: RunFolder) -> None:
    recordings, truth = read_recordings(settings, folder)
    names = [recording.name for recording in recordings]
    count = len(settings.networks) * len(names) * settings.seeds
    folder.greet(count, recordings=[recording.packed for recording in recordings])
    entrants: list[Entrant] = []
    for network in settings.networks:
        model, result = train_networks(folder, recordings, settings, network, (settings.loss,))
        forms = {LEGACY: False, RECONSTRUCTION: True} if network == "legacy" else {network: False}
        entrants += [Entrant(name, model, result.grid, same) for name, same in forms.items()]
    fitted = fit_all(recordings)
    scores, intervals = truth_rows(truth, recordings), {}
    for recording in track(recordings, "scoring", transient=True):
        rows, found = score_on(recording, entrants, fitted, settings)
        scores += rows
        intervals |= found
    if not folder.first:
        return
    entrants[0].model.save(folder.path / "model", overwrite=True)
    write_intervals(folder.path / "intervals.csv", intervals)
    variants = [*(entrant.name for entrant in entrants), *NAMES]
    shown = [*variants, "truth"] if truth else variants
    tables = {f"Groups, {metric}": group_table(scores, recordings, shown, metric) for metric in METRICS}
    if len(names) <= FEW:
        pairs = {each.name: pair_table(scores, intervals, names, [each.name, *NAMES]) for each in entrants}
        tables |= {f"Every pair, {name} beside the baselines": table for name, table in pairs.items()}
    ahead = [line for entrant in entrants for line in winners(scores, names, entrant.name, NAMES)]
    notes = [*ahead, *facts(entrants, fitted), *NOTES, *(DEFECTS if "legacy" in settings.networks else [])]
    figures = draw(folder.path, scores, recordings, variants)
    folder.close(scores, "Transfer between recordings", INTRO, tables, figures, notes)


INTRO = """Every model is trained on one recording and tested on the test bins of all. All models, networks and baselines, are
scored on the same bins, one step ahead: what is said of a bin rests on earlier bins only."""

NOTES = [
    "Pooled over cells, AUC and AP reward knowing who fires; within a unit they reward knowing when. A constant rate has a within-unit "
    "AUC of 0.5 by construction.",
    "The running history of the tested recording is known to all: its bins before the test bins are read, not fitted.",
    "Networks with history filters are mixed with the running rate and exponential means of the very recording, unit by unit, as each "
    "has proven itself there so far: also one step ahead.",
    "intervals.csv holds every interval, and the paired differences of the network from each baseline.",
]
DEFECTS = [
    f"{RECONSTRUCTION}: the published layer sees all bins, those it is asked for among them, and is scored on these, as published. It is "
    "no forecast: a copy of its input would score 1.",
    f"{LEGACY}: the same weights, asked for the bin after the last that they are shown: their honest score. The training rate of each unit, "
    "a constant, stands beside it.",
]


def score_on(
    recording: Recording, entrants: list[Entrant], fitted: list[Baselines], settings: SpikeGrid
) -> tuple[list[Score], Intervals]:
    """All models on the test bins of one recording; and each network of this recording on training bins."""
    bins = scored_bins(recording, settings.warm_up)
    tallies = [tally_of(entrant, recording, bins) for entrant in entrants]
    rows, found = [], {}
    for baselines, of_source in zip(fitted, tally_all(fitted, recording, bins), strict=True):
        pair = baselines.source, recording.name
        compared = {}
        for entrant, tally in zip(entrants, tallies, strict=True):
            runs = entrant.axis.where(train_on=baselines.source).tolist()
            compared[entrant.name] = run_of(tally, runs[0])
            for place in runs:
                rows += rows_of("spikes_grid", entrant.name, *pair, entrant.axis[place]["seed"], run_of(tally, place))
        for name, tally in of_source.items():
            compared[name] = tally
            rows += rows_of("spikes_grid", name, *pair, 0, tally)
        check_same_bins(compared)
        found |= intervals_of(compared, *pair, settings.resamples)
    known = training_bins(recording, settings.warm_up)
    for entrant in entrants:
        tally = tally_of(entrant, recording, known)
        for place in entrant.axis.where(train_on=recording.name).tolist():
            seed, own = entrant.axis[place]["seed"], run_of(tally, place)
            rows += rows_of("spikes_grid", entrant.name, recording.name, recording.name, seed, own, "train")
    return rows, found


def tally_of(entrant: Entrant, recording: Recording, bins: Bins) -> Tally:
    return entrant.model.forecaster_.tally(
        recording, (bins.start, bins.stop), warm_up=bins.warm_up, same_bin=entrant.same_bin
    )


def truth_rows(truth: Truth, recordings: list[Recording]) -> list[Score]:
    """What the probabilities of the generator itself score: nothing does better but by luck."""
    spans = {recording.name: recording.span("test") for recording in recordings}
    return [
        Score("spikes_grid", "truth", name, name, 0, 0, "test", metric, value, spans[name][1] - spans[name][0])
        for name, found in truth.items()
        for metric, value in found.items()
    ]


def facts(entrants: list[Entrant], fitted: list[Baselines]) -> list[str]:
    chosen = ", ".join(f"{one.source} {one.tau_ms:g} ms" for one in fitted)
    leaks = [f"{entrant.name}, {entrant.model.leak_}." for entrant in entrants if not entrant.same_bin]
    return [*leaks, f"Time constants of the exponential filter: {chosen}."]


def draw(path: Path, scores: list[Score], recordings: list[Recording], variants: list[str]) -> dict[str, Path]:
    names = [recording.name for recording in recordings]
    figures = {}
    for metric in ("roc_auc", "roc_auc_within_unit"):
        drawn = [variants[0], "training rate", "exponential", "shared GLM"]
        shown = {name: grid_of(scores, name, metric, names) for name in drawn}
        figures[f"{metric} of four models on every recording"] = draw_grid(
            path, shown, recordings, metric, f"grid_{metric}"
        )
    return figures


if __name__ == "__main__":
    main("spikes_grid", __doc__, PRESETS, run)
