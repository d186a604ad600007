"""Sensitivity to the network's size: one option is changed at a time, everything else stays the same.

Reproduces the supplement of Shimono (2026): length of the windows, depth, heads and dropout. Each option value is one program with
all recordings and seeds. Every network is scored on its own recording and on all others, one step ahead, without the mixture of
experts, which would hide differences.

    python -m experiments.spikes_sensitivity                                  6 simulated populations of a minute
    python -m experiments.spikes_sensitivity --data ../shared/data/spikes     one in vitro and one in vivo recording
    python -m experiments.spikes_sensitivity demo                             2 short populations, length and dropout

Expected on one in vitro and one in vivo recording (``--max-epochs 4``, half an hour on two cores): the size hardly matters. On the
training recording, bits per spike are .287; .283 and .282 with two and four layers, .287 with one or four heads, .285 without
dropout: the history filters matter more than the network. Only the length of the windows, which also changes the number of
optimizer steps, has an effect: 128 bins give .292 on the training recording and -.078 on the other one, 512 bins .287 and .035,
2048 bins .262 and .079. Networks that predict their own recording better predict the other one worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from data_prep.spikes.load import read_or_simulate
from experiments.command_line import main
from jaxephys.evaluation.scores import Score
from jaxephys.reporting.run_folder import RunFolder
from jaxephys.spikes.forecaster import counts_of_run
from jaxephys.spikes.grid import SpikeSettings, metric_scores, train_grid
from jaxephys.spikes.network import NetworkOptions
from jaxephys.spikes.report.sensitivity import REFERENCE, OptionChange, draw_sensitivity, sensitivity_table


@dataclass(frozen=True)
class SpikeSensitivity(SpikeSettings):
    """Settings of the sensitivity analysis."""

    populations: int = 6
    """Number of simulated populations, alternately in vitro and in vivo."""
    networks: tuple[Literal["population", "units"], ...] = ("population",)
    """population: takes any units; units: has parameters for each unit. The first is used."""
    lengths: tuple[int, ...] = (128, 512, 2048)
    """Bins of a training window. The reference is --length."""
    depths: tuple[int, ...] = (1, 2, 4)
    """Number of layers."""
    heads: tuple[int, ...] = (1, 2, 4)
    """Heads of a layer."""
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.3)
    """Dropout rates."""

    @property
    def reference(self) -> dict[str, float | int]:
        """Options of the reference network."""
        network = NetworkOptions()
        return {"length": self.length, "depth": network.depth, "heads": network.heads, "dropout": network.dropout}

    @property
    def changes(self) -> list[OptionChange]:
        """The reference, and every network that differs from it in one option."""
        values = zip(self.reference, (self.lengths, self.depths, self.heads, self.dropouts), strict=True)
        changes = [OptionChange(option, value) for option, option_values in values for value in option_values]
        return [OptionChange("", 0), *(change for change in changes if change.value != self.reference[change.option])]


PRESETS = {
    "default": SpikeSensitivity(),
    "demo": SpikeSensitivity(
        populations=2, minutes=0.5, units=16, max_epochs=6, length=256, lengths=(64, 256), depths=(), heads=()
    ),
    "smoke": SpikeSensitivity(
        populations=2, minutes=0.2, units=8, max_epochs=1, length=128, lengths=(), depths=(), heads=(), dropouts=(0.3,)
    ),
}
INTRODUCTION = """The same network with one option changed at a time, trained on each recording and tested on all, one step ahead,
without the mixture of experts."""
NOTES = [
    "Heads divide the same width, so that their number does not change the number of parameters; layers add parameters.",
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
    scores: list[Score] = []
    n_parameters, causality = {}, []
    for change in changes:
        parameters: dict[str, Any] = {}
        if change.option:
            parameters["length" if change.option == "length" else f"network__{change.option}"] = change.value
        kind, name = settings.networks[0], change.name.replace(" ", "_")
        model = train_grid(folder, recordings, settings, kind, ("bce",), name, **parameters).model
        n_parameters[change.name] = model.n_parameters_
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
    figure = draw_sensitivity(folder.path, scores, names, settings.reference, changes)
    options = ", ".join(f"{option} {value:g}" for option, value in settings.reference.items())
    notes = [f"The reference has {options}.", *NOTES, *causality]
    figures = {"Bits per spike on the training recording": figure}
    folder.write_report(scores, "Sensitivity to the network's size", INTRODUCTION, tables, figures, notes)


if __name__ == "__main__":
    main("spikes_sensitivity", __doc__, PRESETS, run)
