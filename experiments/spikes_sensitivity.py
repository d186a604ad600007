"""How much a network owes to its sizes: one at a time is changed, all else, weights' seed and windows' order stay.

After the supplement of Shimono (2026): length of the windows, depth, heads and dropout. Each setting is a program of its own, with all
recordings and seeds side by side; every network is scored on its own recording and on all the others, one step ahead and by itself,
without the mixture, which would make all settings look alike.

    python -m experiments.spikes_sensitivity                                  6 simulated populations of a minute
    python -m experiments.spikes_sensitivity --data ../shared/data/spikes     one slice and one session
    python -m experiments.spikes_sensitivity demo                             2 short populations, length and dropout

Expected on the slice and the session (``--max-epochs 4``, half an hour on two cores): sizes hardly matter. Bits a spike at home .287, with
two or four layers .283 and .282, with one or four heads .287, without dropout .285; what a network is given to read of the past, its
filters, decides. Only the length of windows tells, and with it the count of the optimiser's steps: 128 bins .292 at home and -.078 abroad,
512 bins .287 and .035, 2048 bins .262 and .079. What knows home better knows strangers worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.progress import track

from jaxephys.engine.fit import FitResult
from jaxephys.models.base import count_parameters
from jaxephys.reporting.plots import GREY, PALETTE, STYLE, save_figure
from jaxephys.reporting.run_folder import RunFolder, main
from jaxephys.reporting.score_table import Cell, Score, Table, mean_sd, show
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.estimator import SpikeTransformer
from jaxephys.spikes.forecaster import run_of
from jaxephys.spikes.grid import METRICS, SpikeSettings, read_recordings, rows_of, scored_bins, train_networks
from jaxephys.spikes.report import SHORT, grid_of, paired

NAME = "spikes_sensitivity"
REFERENCE = "reference"


@dataclass(frozen=True)
class SpikeSensitivity(SpikeSettings):
    populations: int = 6
    """Of the simulated ones so many, in vitro and in vivo in turn."""
    networks: tuple[Literal["population", "units"], ...] = ("population",)
    """Population takes any units, units knows its own; the first is taken."""
    lengths: tuple[int, ...] = (128, 512, 2048)
    """Bins of a training window. The reference is --length."""
    depths: tuple[int, ...] = (1, 2, 4)
    """Layers."""
    heads: tuple[int, ...] = (1, 2, 4)
    """Of each layer, which part its numbers among them."""
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.3)
    """Share of the numbers that are left out in training."""


PRESETS = {
    "default": SpikeSensitivity(),
    "demo": SpikeSensitivity(
        populations=2, minutes=0.5, units=16, max_epochs=6, length=256, lengths=(64, 256), depths=(), heads=()
    ),
    "smoke": SpikeSensitivity(
        populations=2, minutes=0.2, units=8, max_epochs=1, length=128, lengths=(), depths=(), heads=(), dropouts=(0.3,)
    ),
}


class Setting(NamedTuple):
    """One size changed, or none."""

    field: str
    value: float

    @property
    def name(self) -> str:
        return f"{self.field} {self.value:g}" if self.field else REFERENCE


def settings_of(settings: SpikeSensitivity) -> tuple[dict[str, float], list[Setting]]:
    """The sizes of the reference; it, then what differs from it in one size."""
    own = SpikeTransformer(length=settings.length)
    tried = {
        "length": settings.lengths,
        "depth": settings.depths,
        "heads": settings.heads,
        "dropout": settings.dropouts,
    }
    reference = {field: getattr(own, field) for field in tried}
    changed = [Setting(field, value) for field, values in tried.items() for value in values]
    return reference, [Setting("", 0), *(one for one in changed if one.value != reference[one.field])]


def run(settings: SpikeSensitivity, folder: RunFolder) -> None:
    recordings, _ = read_recordings(settings, folder)
    reference, trials = settings_of(settings)
    runs = len(recordings) * settings.seeds * len(trials)
    folder.greet(runs, recordings=[recording.packed for recording in recordings])
    scores: list[Score] = []
    sizes: dict[str, int] = {}
    leaks: list[str] = []
    for trial in trials:
        fields = {trial.field: trial.value} if trial.field else {}
        network = settings.networks[0]
        model, result = train_networks(
            folder, recordings, settings, network, ("bce",), trial.name.replace(" ", "_"), **fields
        )
        sizes[trial.name] = count_parameters(model.forecaster_.fitted.variables)
        leaks.append(f"{trial.name}, {model.leak_}.")
        scores += score_all(recordings, model, result, trial.name, settings)
        if trial.name == REFERENCE and folder.first:
            model.save(folder.path / "model", overwrite=True)
    if not folder.first:
        return
    names = [recording.name for recording in recordings]
    tables = {
        "On its own recording": sensitivity_table(scores, names, trials, sizes, own=True),
        "On the others": sensitivity_table(scores, names, trials, sizes, own=False),
    }
    figure = draw_sizes(folder.path, scores, names, reference, trials)
    said = ", ".join(f"{field} {value:g}" for field, value in reference.items())
    folder.close(
        scores,
        "How much sizes matter",
        INTRO,
        tables,
        {"Bits a spike on its own recording": figure},
        [f"The reference: {said}.", *NOTES, *leaks],
    )


INTRO = """The same networks with one size changed at a time, trained on each recording and tested on all, one step ahead, without the
mixture with plainer forecasts."""

NOTES = [
    "Heads part the same numbers among them, so that their count changes no parameter; layers add theirs.",
    "A longer window is seen in fewer, larger steps of the optimiser: its row speaks of both.",
]


def score_all(
    recordings: Sequence[Recording],
    model: SpikeTransformer,
    result: FitResult,
    variant: str,
    settings: SpikeSensitivity,
) -> list[Score]:
    rows = []
    for recording in track(recordings, f"scoring {variant}", transient=True):
        bins = scored_bins(recording, settings.warm_up)
        tally = model.forecaster_.plain().tally(recording, (bins.start, bins.stop), warm_up=bins.warm_up)
        for place in range(len(result.grid)):
            one = result.grid[place]
            rows += rows_of(NAME, variant, one["train_on"], recording.name, one["seed"], run_of(tally, place))
    return rows


def of_pairs(
    scores: Sequence[Score], variant: str, metric: str, names: Sequence[str], own: bool
) -> Float[np.ndarray, "pair"]:
    grid = grid_of(scores, variant, metric, names)
    return grid[np.eye(len(names), dtype=bool) == own]


def sensitivity_table(
    scores: Sequence[Score], names: Sequence[str], trials: Sequence[Setting], sizes: Mapping[str, int], *, own: bool
) -> Table:
    """A line a setting, and how far each is from the reference."""
    columns: dict[str, list[Cell]] = {
        "setting": [Cell(trial.name) for trial in trials],
        "parameters": [Cell(f"{sizes[trial.name]:,}") for trial in trials],
    }
    for metric in METRICS:
        found = [of_pairs(scores, trial.name, metric, names, own) for trial in trials]
        columns[SHORT[metric]] = [Cell(show(*mean_sd(values))) for values in found]
    for metric in METRICS:
        first, *others = (of_pairs(scores, trial.name, metric, names, own) for trial in trials)
        columns[f"{SHORT[metric]}, minus reference"] = [Cell("-"), *(Cell(paired(one, first)) for one in others)]
    pairs = "recordings" if own else "pairs of two recordings"
    return Table(
        columns, [f"Mean ± sd over {pairs}, seeds averaged first; p of a paired t test over them, from three on."]
    )


@matplotlib.rc_context(STYLE)
def draw_sizes(
    folder: Path,
    scores: Sequence[Score],
    names: Sequence[str],
    reference: Mapping[str, float],
    trials: Sequence[Setting],
) -> Path:
    """A panel a size: each recording faint, their mean bold."""
    metric = "bits_per_spike"
    fields = list(dict.fromkeys(trial.field for trial in trials if trial.field))
    figure = Figure(figsize=(max(3.6, 2.6 * len(fields)), 3.0), layout="constrained")
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    rows = []
    for axes, field in zip(panels, fields, strict=True):
        values = {trial.value: trial.name for trial in trials if trial.field == field} | {reference[field]: REFERENCE}
        ticks = sorted(values)
        lines = np.array([of_pairs(scores, values[tick], metric, names, True) for tick in ticks])
        axes.plot(range(len(ticks)), lines, color=GREY, linewidth=0.8, alpha=0.6)
        axes.plot(range(len(ticks)), lines.mean(axis=1), "o-", color=PALETTE[0], linewidth=1.8, markersize=5)
        axes.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
        axes.set(xlabel=field)
        axes.grid(True)
        rows += [(field, tick, name, lines[i, j]) for i, tick in enumerate(ticks) for j, name in enumerate(names)]
    panels[0].set_ylabel(SHORT[metric])
    figure.supxlabel("Faint: recordings. Bold: their mean.", fontsize=8, color=GREY)
    return save_figure(figure, folder, "sizes", ("size", "value", "recording", metric), rows)


if __name__ == "__main__":
    main(NAME, __doc__, PRESETS, run)
