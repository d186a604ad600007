"""Transfer between recordings: train on each, test on all, with simple baselines scored on the same bins.

Reproduces Figure 4 and Table 2 of Shimono (2026): 12 recordings, 12 models, 144 scores. The default is the model of the text on small
simulated populations: one causal transformer layer of 16 heads, Dice loss, plain Adam. The published code sees the bin that it predicts;
all presets but ``legacy`` predict the next bin. Our networks (``population``) are mixed with plainer experts (spikes/expert_mixture.py).

    python -m experiments.spikes_grid                            the described model, 12 simulated populations of a minute
    python -m experiments.spikes_grid paper --data FOLDER        the described model in full: windows of 3,125 bins, 200 epochs, ten seeds
    python -m experiments.spikes_grid legacy --data FOLDER       the published script: no mask, Dice after a second sigmoid, 15,625 bins
    python -m experiments.spikes_grid legacy_short --data FOLDER the same with windows of 128 bins and one epoch (two minutes)
    python -m experiments.spikes_grid population --data FOLDER   our networks, for any units and for known units, cross-entropy
    python -m experiments.spikes_grid full --data FOLDER         our networks with windows of 3,125 bins, 200 epochs, ten seeds
    python -m experiments.spikes_grid demo                       the described model, 12 x 12 on 24 seconds of 16 units each

``published`` is another name of ``legacy``. Without ``--data``, ``paper`` and ``legacy`` simulate ten minutes of 128 units. Times by ``python
-m jaxephys plan spikes_grid PRESET``: default half an hour on two cores; ``paper``, 120 networks, six days, or 40 minutes on an H100.

FOLDER holds recordings (``python -m data_prep spikes build``), or the files that ``python -m data_prep spikes fetch`` leaves.

Published ROC AUC, pooled over cells: self 0.93 in vitro and 0.77 in vivo, in vitro -> in vivo 0.70, in vivo -> in vitro 0.80.
Expected of ``population`` on one in vitro and one in vivo recording (one seed), ROC AUC, within-unit ROC AUC, average precision, bits per spike:

    in vitro self        units       0.922  0.513  0.241  +0.21     per-unit GLM  0.922  0.509  0.236  +0.20
    in vivo self         units       0.862  0.694  0.033  +0.58     per-unit GLM  0.858  0.684  0.031  +0.52
    in vivo -> in vitro  population  0.919  0.501  0.212  +0.12     exponential   0.916  0.504  0.205  -0.27
    in vitro -> in vivo  population  0.840  0.624  0.022  +0.28     shared GLM    0.834  0.633  0.020  +0.20

ROC AUC of the same four pairs with ``legacy_short``: 0.921, 0.998, 0.900 and 0.675 as a reconstruction, the last between 0.46 and 0.77
for other seeds and options, and 0.868, 0.611, 0.552 and 0.513 as a forecast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.spikes.baselines import fit_baselines
from jaxephys.spikes.grid import (
    DESCRIBED,
    OURS,
    PAPER,
    REFERENCES,
    DescribedSettings,
    score_grid,
    train_grid,
    training_notes,
)
from jaxephys.spikes.published_values import QUESTIONS
from jaxephys.spikes.report.curves import representative_pairs
from jaxephys.spikes.report.transfer import (
    FORECAST,
    LEGACY_NOTES,
    NOTES,
    RECONSTRUCTION,
    draw_transfer_figures,
    group_headlines,
    transfer_tables,
    wins_over_baselines,
)
from jaxephys.spikes.report.windows import window_tables

TRUE_PROBABILITY = "true probability"


@dataclass(frozen=True)
class SpikeGrid(DescribedSettings):
    """Settings of the transfer grid."""

    loss: str = "dice"
    """Name of the loss: dice as described; focal; bce; dice_bce; published_dice, that of the published script."""


POPULATION = SpikeGrid(networks=("population", "units"), loss="bce", **OURS)
SCRIPT = SpikeGrid(networks=("legacy",), loss="published_dice", select_by="last", **PAPER)
# The script multiplies its rate of 0.005 by 0.9 before the first epoch, and trains one network.
LEGACY = replace(SCRIPT, length=15_625, learning_rate=0.0045, seeds=1)
PRESETS = {
    "default": SpikeGrid(),
    "paper": SpikeGrid(**PAPER),
    "legacy": LEGACY,
    "published": LEGACY,
    "legacy_short": replace(LEGACY, length=128, max_epochs=1, warm_up=1024),
    "population": POPULATION,
    "full": replace(POPULATION, length=3125, batch_size=16, max_epochs=200, seeds=10),
    "demo": SpikeGrid(minutes=0.4, units=16, max_epochs=50, seeds=1, resamples=0),
    "smoke": SpikeGrid(populations=3, minutes=0.2, units=16, max_epochs=1, length=128, seeds=1, resamples=0),
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
        trained = train_grid(folder, recordings, settings, kind, (settings.loss,), **settings.network_parameters)
        name = DESCRIBED if kind == "published" else kind
        forms = {FORECAST: False, RECONSTRUCTION: True} if kind == "legacy" else {name: False}
        networks += [trained.in_form(name, same_bin, recordings) for name, same_bin in forms.items()]
    baselines = [fit_baselines(recording) for recording in folder.track(recordings, "baselines")]
    models = networks, baselines, settings, representative_pairs(recordings)
    scored = score_grid("spikes_grid", folder, recordings, *models)
    if not folder.is_first_host:
        return
    networks[0].model.save(folder.path / "model", overwrite=True)
    scores, names_of_networks = scored.scores, [trained.name for trained in networks]
    for recording in recordings:
        n_test = recording.span("test")[1] - recording.span("test")[0]
        for metric, value in best_scores.get(recording.name, {}).items():
            key = ("spikes_grid", TRUE_PROBABILITY, recording.name, recording.name, 0, 0, "test", metric)
            scores.append(Score(*key, value, n_test))
    references = [name for name in REFERENCES if any(score.variant == name for score in scores)]
    variants = [*names_of_networks, *references, *([TRUE_PROBABILITY] if best_scores else [])]
    tables = window_tables(scores, scored.windows, recordings, names_of_networks)
    tables |= transfer_tables(scores, scored.intervals, recordings, names_of_networks, variants)
    shown, options = names_of_networks[0], {"intervals": scored.intervals, "ranked": scored.ranked}
    figures = draw_transfer_figures(folder.path, scores, recordings, shown, **options)
    taus = ", ".join(f"{fitted.source} {fitted.tau_ms:g} ms" for fitted in baselines)
    notes = [
        *(line for trained in networks for line in wins_over_baselines(scores, names, trained.name, REFERENCES)),
        *(f"{trained.name}, {trained.model.causality_}." for trained in networks if not trained.same_bin),
        f"Time constants of the exponential filter: {taus}.",
        *training_notes(settings),
        *NOTES,
        *(LEGACY_NOTES if "legacy" in settings.networks else []),
    ]
    question, headlines = QUESTIONS["spikes_grid"], group_headlines(recordings, names_of_networks, references)
    text, intervals = ("Transfer between recordings", INTRODUCTION), scored.intervals
    folder.write_report(scores, *text, tables, figures, notes, question, headlines, intervals=intervals)


if __name__ == "__main__":
    main("spikes_grid", __doc__, PRESETS, run)
