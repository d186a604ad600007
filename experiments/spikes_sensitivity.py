"""Sensitivity to the network's size: one option is changed at a time, everything else stays the same.

Reproduces the supplement of Shimono (2026): length of the windows (Figure S1), depth, heads and dropout (S2) and the time of training by
depth (S3). Each option value is one program with all recordings and seeds. Every network is scored on validation bins, on the test bins of
its own recording and on those of all others, one step ahead, without the mixture of experts, which would hide differences. The default
is the described layer, made causal, with Dice loss, on small simulated populations. Depths are compared with equal numbers of parameters:
their feed-forward parts are as wide as this requires.

    python -m experiments.spikes_sensitivity                          6 simulated populations of a minute
    python -m experiments.spikes_sensitivity s1 --data FOLDER         length of the windows around 3,125 bins, 16 heads, 200 epochs, ten seeds
    python -m experiments.spikes_sensitivity s2 --data FOLDER         depth 1 to 4, heads and dropout at 3,125 bins; also the times of S3
    python -m experiments.spikes_sensitivity paper --data FOLDER      s1 and s2 together
    python -m experiments.spikes_sensitivity population --data FOLDER our network, cross-entropy, 512 bins
    python -m experiments.spikes_sensitivity demo                     2 short populations, length and dropout

Times of training by ``python -m jaxephys plan spikes_sensitivity PRESET``: the default a quarter of an hour on two cores; ``s1`` and ``s2``
with two recordings 4 and 16 days on two cores, and about half an hour and two hours on an H100. Times of GPUs may be wrong by a factor
of several.

Expected of ``population`` on one in vitro and one in vivo recording (``--max-epochs 4``, half an hour on two cores): the size hardly
matters. On the training recording, bits per spike are .287; .283 and .282 with two and four layers, .287 with one or four heads, .285
without dropout: the history filters matter more than the network. Only the length of the windows, which also changes the number of
optimizer steps, has an effect: 128 bins give .292 on the training recording and -.078 on the other one, 512 bins .287 and .035,
2048 bins .262 and .079. Networks that predict their own recording better predict the other one worse.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.headline import Headline
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.spikes.forecaster import counts_of_run
from jaxephys.spikes.grid import (
    DESCRIBED,
    OURS,
    PAPER,
    epoch_scores,
    metric_scores,
    train_grid,
    training_notes,
)
from jaxephys.spikes.published_values import QUESTIONS
from jaxephys.spikes.report.recordings import recordings_table
from jaxephys.spikes.report.sensitivity import REFERENCE, draw_sensitivity, sensitivity_table
from jaxephys.spikes.report.size_panels import PANEL_METRICS, draw_size_panels
from jaxephys.spikes.report.training import draw_run_times
from jaxephys.spikes.sensitivity import SpikeSensitivity

NO_OTHERS: dict[str, Any] = {"lengths": (), "heads": ()}
S1 = SpikeSensitivity(populations=2, **PAPER, lengths=(125, 625, 3125, 15_625), depths=(), heads=(), dropouts=())
S2 = replace(S1, lengths=(), depths=(1, 2, 3, 4), heads=(1, 4, 16, 64), dropouts=(0.0, 0.1, 0.3))
PRESETS = {
    "default": SpikeSensitivity(),
    "s1": S1,
    "s2": S2,
    "paper": replace(S2, lengths=S1.lengths),
    "population": SpikeSensitivity(
        networks=("population",),
        loss="bce",
        lengths=(128, 512, 2048),
        depths=(1, 2, 4),
        heads=(1, 2, 4),
        matched=False,
        **OURS,
    ),
    "demo": SpikeSensitivity(populations=2, minutes=0.5, units=16, lengths=(64, 256), depths=(), heads=()),
    "smoke": SpikeSensitivity(
        populations=2, minutes=0.2, units=16, max_epochs=1, length=128, depths=(1, 2), dropouts=(0.3,), **NO_OTHERS
    ),
}
INTRODUCTION = """The same network ({network}) with one option changed at a time, trained on each recording with the loss {loss} and tested on
all, one step ahead, without the mixture of experts."""
NOTES = [
    "Matched depths: the feed-forward part is as wide as gives all depths as many parameters as the deepest has with that of the "
    "reference. The reference itself is narrower.",
    "Heads divide the same width, so that their number does not change the number of parameters.",
    "With longer windows there are fewer, larger optimizer steps: the rows of the length show both effects.",
]


def run(settings: SpikeSensitivity, folder: RunFolder) -> None:
    """Train all networks, score and report.

    Parameters
    ----------
    settings : SpikeSensitivity
        Settings of the experiment.
    folder : RunFolder
        Folder that receives the results.
    """
    recordings, _ = read_or_simulate(settings.data, settings.populations, settings.minutes, settings.units)
    changes = settings.changes
    n_runs = len(recordings) * settings.seeds * len(changes)
    folder.announce_run(n_runs, recordings=[recording.packed for recording in recordings])
    kind, n_units = settings.networks[0], recordings[0].units
    scores: list[Score] = []
    n_parameters, seconds, causality, execution = {}, {}, [], ""
    for change in changes:
        parameters, name = settings.parameters(change, n_units), change.name.replace(" ", "_")
        model = train_grid(folder, recordings, settings, kind, (settings.loss,), name, **parameters).model
        n_parameters[change.name] = model.n_parameters_
        execution = model.result_.execution
        seconds[change.name] = model.result_.run_seconds / max(1, int(model.result_.run_results.epochs.sum()))
        scores += epoch_scores("spikes_sensitivity", change.name, model, recordings, PANEL_METRICS)
        causality.append(f"{change.name}, {model.causality_}.")
        for recording in folder.track(recordings, f"scoring {change.name}"):
            network = model.forecaster_.without_experts()
            counts = network.count_outcomes(recording, recording.span("test"), warm_up=settings.warm_up)
            for index, run in enumerate(model.result_.grid):
                key = change.name, run["train_on"], recording.name, run["seed"]
                scores += metric_scores("spikes_sensitivity", *key, counts_of_run(counts, index))
        if change.name == REFERENCE and folder.is_first_host:
            model.save(folder.path / "model", overwrite=True)
    if not folder.is_first_host:
        return
    names = [recording.name for recording in recordings]
    tables = {
        heading: sensitivity_table(scores, names, changes, n_parameters, same_recording=same)
        for heading, same in (("On the training recording", True), ("On the other recordings", False))
    }
    tables["Recordings"] = recordings_table(recordings)
    network = DESCRIBED if kind == "published" else kind
    note, loss = f"Network: {network}.", settings.loss
    shown = folder.path, scores, names, settings.reference, changes
    figures = {
        "Validation and test scores on the training recording": draw_size_panels(*shown, note),
        "Bits per spike on the training recording": draw_sensitivity(*shown),
    }
    times = {int(change.value): seconds[change.name] for change in changes if change.option == "depth"}
    if times:
        figures["Time of training by depth"] = draw_run_times(folder.path, times, f"{note} {execution}.")
    options = ", ".join(f"{option} {value:g}" for option, value in settings.reference.items())
    notes = [f"The reference has {options}.", *training_notes(settings), *NOTES, *causality]
    text = INTRODUCTION.format(network=network, loss=loss)
    others = [change.name for change in changes if change.name != REFERENCE]
    pairs = [(name, name) for name in names]
    headlines = [Headline("bits_per_spike", REFERENCE, others, label="the training recording", pairs=pairs)]
    title, question = "Sensitivity to the network's size", QUESTIONS["spikes_sensitivity"]
    folder.write_report(scores, title, text, tables, figures, notes, question, headlines)


if __name__ == "__main__":
    main("spikes_sensitivity", __doc__, PRESETS, run)
