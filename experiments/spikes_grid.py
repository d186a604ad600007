"""Transfer between recordings: train on each, test on all, with simple baselines scored on the same bins.

Reproduces Figure 4 and Table 2 of Shimono (2026): 12 recordings, 12 models, 144 scores. The published code sees the bin that it
predicts; ours predicts the next bin and is compared with a constant rate, an exponential filter and logistic regressions on the
same bins. Networks are scored as they are used: calibrated on their own recording and mixed with plainer experts
(jaxephys/spikes/expert_mixture.py).

    python -m experiments.spikes_grid                                        12 simulated populations of a minute
    python -m experiments.spikes_grid --data ../shared/data/spikes           one in vitro and one in vivo recording, 2 x 2
    python -m experiments.spikes_grid published --data FOLDER                the published layer as a reconstruction
    python -m experiments.spikes_grid demo                                   12 x 12 on 24 seconds of 16 units each, 4 minutes
    python -m experiments.spikes_grid full --data FOLDER                     windows of 3125, 200 epochs, 10 seeds: for a GPU

FOLDER holds recordings (``python -m data_prep spikes build NAME --data FILES --out FOLDER``), or the files of the registry as
``python -m data_prep spikes fetch NAME --out FOLDER`` leaves them, which are then built in memory.

Published ROC AUC, pooled over cells: self 0.93 in vitro and 0.77 in vivo, in vitro -> in vivo 0.70, in vivo -> in vitro 0.80.
Expected on one in vitro and one in vivo recording (one seed, about ten minutes on two cores), the network and the best baseline;
ROC AUC, within-unit ROC AUC, average precision, bits per spike:

    in vitro self        units       0.922  0.513  0.241  +0.21     per-unit GLM  0.922  0.509  0.236  +0.20
    in vivo self         units       0.862  0.694  0.033  +0.58     per-unit GLM  0.858  0.684  0.031  +0.52
    in vivo -> in vitro  population  0.919  0.501  0.212  +0.12     exponential   0.916  0.504  0.205  -0.27
    in vitro -> in vivo  population  0.840  0.624  0.022  +0.28     shared GLM    0.834  0.633  0.020  +0.20

The published layer has ROC AUC 0.926, 0.999, 0.900 and 0.755 as a reconstruction, and 0.834, 0.573, 0.541 and 0.515 as a
forecast. The last of its reconstructions depends on the seed (0.46 to 0.77 over five seeds with ``--batch-size 16``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.spikes.baselines import BASELINE_NAMES, fit_baselines
from jaxephys.spikes.grid import SpikeSettings, score_models, train_grid, write_intervals
from jaxephys.spikes.report.transfer import (
    FORECAST,
    LEGACY_NOTES,
    NOTES,
    RECONSTRUCTION,
    draw_transfer_figures,
    transfer_tables,
    wins_over_baselines,
)

TRUE_PROBABILITY = "true probability"


@dataclass(frozen=True)
class SpikeGrid(SpikeSettings):
    """Settings of the transfer grid."""

    networks: tuple[Literal["population", "units", "published", "legacy"], ...] = ("population", "units")
    """population: takes any units; units: has parameters for each unit; published: the published layer, causal; legacy: the
    published layer as published, which sees the bin that it predicts."""
    loss: str = "bce"
    """Name of the loss."""


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
INTRODUCTION = """Every model is trained on one recording and tested on the test bins of all. Networks and baselines are scored on
the same bins, one step ahead: the prediction of a bin depends on earlier bins only."""


def run(settings: SpikeGrid, folder: RunFolder) -> None:
    """Train, score and report the transfer grid.

    Parameters
    ----------
    settings : SpikeGrid
        Settings of the experiment.
    folder : RunFolder
        Folder that receives the results.
    """
    recordings, best_scores = read_or_simulate(settings.data, settings.populations, settings.minutes, settings.units)
    names = [recording.name for recording in recordings]
    n_runs = len(settings.networks) * len(names) * settings.seeds
    folder.announce_run(n_runs, recordings=[recording.packed for recording in recordings])
    networks = []
    for kind in settings.networks:
        trained = train_grid(folder, recordings, settings, kind, (settings.loss,))
        forms = {FORECAST: False, RECONSTRUCTION: True} if kind == "legacy" else {kind: False}
        networks += [trained._replace(name=name, same_bin=same_bin) for name, same_bin in forms.items()]
    baselines = [fit_baselines(recording) for recording in folder.track(recordings, "baselines")]
    scores, intervals = [], {}
    for recording in folder.track(recordings, "scoring"):
        n_test = recording.span("test")[1] - recording.span("test")[0]
        for metric, value in best_scores.get(recording.name, {}).items():
            key = ("spikes_grid", TRUE_PROBABILITY, recording.name, recording.name, 0, 0, "test", metric)
            scores.append(Score(*key, value, n_test))
        rows, recording_intervals = score_models("spikes_grid", recording, networks, baselines, settings)
        scores += rows
        intervals |= recording_intervals
    if not folder.is_first_host:
        return
    networks[0].model.save(folder.path / "model", overwrite=True)
    write_intervals(folder.path / "intervals.csv", intervals)
    variants = [*(trained.name for trained in networks), *BASELINE_NAMES]
    shown = [*variants, TRUE_PROBABILITY] if best_scores else variants
    tables = transfer_tables(scores, intervals, recordings, [trained.name for trained in networks], shown)
    figures = draw_transfer_figures(folder.path, scores, recordings, networks[0].name)
    taus = ", ".join(f"{fitted.source} {fitted.tau_ms:g} ms" for fitted in baselines)
    notes = [
        *(line for trained in networks for line in wins_over_baselines(scores, names, trained.name, BASELINE_NAMES)),
        *(f"{trained.name}, {trained.model.causality_}." for trained in networks if not trained.same_bin),
        f"Time constants of the exponential filter: {taus}.",
        *NOTES,
        *(LEGACY_NOTES if "legacy" in settings.networks else []),
    ]
    folder.write_report(scores, "Transfer between recordings", INTRODUCTION, tables, figures, notes)


if __name__ == "__main__":
    main("spikes_grid", __doc__, PRESETS, run)
