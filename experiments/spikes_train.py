"""Comparison of losses: losses, accuracy and average precision over the epochs, and scores at the end, for Dice, focal loss, likelihood.

Reproduces Figure 3 of Shimono (2026) and the curves of its section 3.2: training and validation loss under each loss, and the ROC AUC at
the end of training under Dice and binary focal loss (gamma 2) with a test of their difference in each domain. Accuracies are those at
the threshold with the best recall minus false positive rate among those with at most 5 false positives in 1,000 silent bins. With all
losses, training starts from the same weights and reads the same windows. The default is the described layer, made causal, on small
simulated populations.

    python -m experiments.spikes_train                           12 simulated populations of a minute
    python -m experiments.spikes_train paper --data FOLDER       windows of 3,125 bins, 200 epochs, ten seeds
    python -m experiments.spikes_train population --data FOLDER  our network, the epoch selected by average precision
    python -m experiments.spikes_train demo                      4 short populations

Times of training by ``python -m jaxephys plan spikes_train PRESET``: the default three quarters of an hour on two cores; ``paper``, 360
networks, 20 days on two cores and about two hours on an H100.

Published: after about 50 epochs, accuracy above 0.95 on silent bins and lower on spikes; Dice better than focal loss in vitro and
in vivo. The published models see the bins that they predict; these do not, so that accuracy on spikes stays low.

Expected of ``population`` on one in vitro and one in vivo recording, one seed, 5 epochs (--max-epochs 5): the order is reversed. The mean
ROC AUC is 0.853 with Dice, 0.883 with focal loss and 0.883 with BCE; bits per spike are -0.00, 0.27 and 0.29 although all are calibrated;
Dice minus focal loss is below 0 on both recordings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.reporting.bars import draw_bars
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.plots import draw_curves
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.spikes.grid import (
    DESCRIBED,
    OURS,
    PAPER,
    DescribedSettings,
    score_losses,
    train_grid,
    training_notes,
    write_intervals,
)
from jaxephys.spikes.published_values import QUESTIONS
from jaxephys.spikes.report.curves import CAPTION, RankedBins, draw_ranking_curves, representative_pairs
from jaxephys.spikes.report.losses import NOTES, loss_differences, loss_table
from jaxephys.spikes.report.recordings import recordings_by_domain, recordings_table
from jaxephys.spikes.report.training import draw_loss_curves

CURVES = ("valid_accuracy", "valid_accuracy_on_0", "valid_accuracy_on_1", "valid_average_precision")


@dataclass(frozen=True)
class SpikeTraining(DescribedSettings):
    """Settings of the comparison of losses."""

    losses: tuple[str, ...] = ("dice", "focal", "bce")
    """Names of the losses."""
    populations: int = 6
    """Number of simulated populations, alternately in vitro and in vivo."""


POPULATION = SpikeTraining(populations=12, networks=("population",), **OURS)
PRESETS = {
    "default": SpikeTraining(),
    "paper": SpikeTraining(populations=12, **PAPER),
    "population": POPULATION,
    "full": replace(POPULATION, length=3125, batch_size=16, max_epochs=200, seeds=10),
    "demo": SpikeTraining(populations=4, minutes=0.5, units=16, max_epochs=20, seeds=1, resamples=100),
    "smoke": SpikeTraining(
        populations=2, minutes=0.2, units=16, max_epochs=2, length=128, batch_size=8, seeds=1, resamples=5
    ),
}
INTRODUCTION = """The same networks ({network}) are trained on the same windows from the same initial weights with different losses. Each
is trained and tested on one recording, one step ahead, and without the mixture of experts."""


def run(settings: SpikeTraining, folder: RunFolder) -> None:
    """Train with every loss, score and report.

    Parameters
    ----------
    settings : SpikeTraining
        Settings of the experiment.
    folder : RunFolder
        Folder that receives the results.
    """
    recordings, _ = read_or_simulate(settings.data, settings.populations, settings.minutes, settings.units)
    names = [recording.name for recording in recordings]
    n_runs = len(names) * settings.seeds * len(settings.losses)
    folder.announce_run(n_runs, recordings=[recording.packed for recording in recordings])
    kind, options = settings.networks[0], settings.network_parameters
    network = DESCRIBED if kind == "published" else kind
    model = train_grid(folder, recordings, settings, kind, settings.losses, **options).model
    scores, intervals, pairs = [], {}, representative_pairs(recordings, transfer=False)
    ranked: list[RankedBins] = []
    for recording in folder.track(recordings, "scoring"):
        found = score_losses("spikes_train", recording, model, settings, pairs)
        scores, intervals, ranked = scores + found[0], intervals | found[1], ranked + found[2]
    if not folder.is_first_host:
        return
    model.save(folder.path / "model", overwrite=True)
    write_intervals(folder.path / "intervals.csv", intervals)
    tables = {
        "Scores on test bins": loss_table(scores, names, settings.losses),
        "Differences between losses": loss_differences(
            scores, intervals, names, settings.losses, recordings=recordings
        ),
        "Recordings": recordings_table(recordings),
    }
    history, loss_of_run = model.result_.history, model.result_.grid.column("loss")
    runs = [score._replace(seed=names.index(score.test_on) * settings.seeds + score.seed) for score in scores]
    note = f"Network: {network}."
    figures = {
        "Training and validation loss over the epochs": draw_loss_curves(folder.path, history, loss_of_run, note),
        "Validation scores over the epochs: mean and sd over recordings and seeds": draw_curves(
            folder.path, history, loss_of_run, CURVES, note
        ),
        CAPTION: draw_ranking_curves(folder.path, ranked),
        "Average precision on test bins; one dot per recording and seed": draw_bars(
            folder.path, runs, "average_precision", note=note
        ),
    }
    notes = [*training_notes(settings), *NOTES, f"{model.causality_}."]
    text = INTRODUCTION.format(network=network)
    first, *others = settings.losses
    headlines = [
        Headline("roc_auc", first, others, label=f"{domain}, self", pairs=[(name, name) for name in members])
        for domain, members in recordings_by_domain(recordings).items()
    ]
    title, question = "Comparison of losses", QUESTIONS["spikes_train"]
    folder.write_report(scores, title, text, tables, figures, notes, question, headlines, intervals=intervals)


if __name__ == "__main__":
    main("spikes_train", __doc__, PRESETS, run)
