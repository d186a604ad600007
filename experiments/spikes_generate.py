"""Spike trains that a network makes alone, each bin drawn from what it says of the bins before, beside the real ones.

Figure 4c,d of Shimono (2026) shows generated rasters; there every bin was made from the real bin itself. Here the network runs freely: it reads
the real bins up to the test bins, and from then on its own. What it makes is compared with the real test bins in rates, intervals, local
irregularity, autocorrelation, pairwise correlation and population coupling. The least to beat is a Poisson train of the rates before the
test bins, which is all that can be known there; one of the rates of the test bins themselves cannot be beaten in rates. Two stretches of the
real recording say how near two samples of the same activity lie.

    python -m experiments.spikes_generate                                    4 simulated populations
    python -m experiments.spikes_generate --data ../shared/data/spikes       one slice and one session

Expected of one slice and one session (--max-epochs 3, 20,000 bins), root mean square octaves between rates: in vivo the network is
0.87 off, kept to what its past has shown, 1.04 wherever it leads, and the Poisson train of the rates before 0.83; in the slice
0.75, 1.33 and 0.55. In vivo it is nearer than that Poisson train in intervals (1.06, 1.13) and population coupling (0.13, 0.17),
in the slice in nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Real
from matplotlib.figure import Figure
from rich.progress import track

from jaxephys.reporting.plots import GREY, STYLE, save_figure
from jaxephys.reporting.run_folder import RunFolder, main
from jaxephys.reporting.score_table import Cell, Score, Table, show, summarise
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.generation import PAST
from jaxephys.spikes.grid import SpikeSettings, read_recordings, train_networks
from jaxephys.spikes.spike_statistics import compare, describe, rate_matched_poisson

NETWORK, FREE = "network, kept to what its past has shown", "network, wherever it leads"
BEFORE, POISSON, REAL = "Poisson of the rates before", "Poisson of the same rates", "the real bins before"
DISTANCES = ("rate", "intervals", "cv2", "autocorrelation", "pairwise_correlation", "population_coupling")
DRAWN = 1500  # bins of a raster


@dataclass(frozen=True)
class SpikeGeneration(SpikeSettings):
    populations: int = 4
    """Of the simulated ones so many, in vitro and in vivo in turn."""
    bins: int = 20_000
    """To generate, at most; as many real ones stand beside them."""


PRESETS = {
    "default": SpikeGeneration(),
    "smoke": SpikeGeneration(populations=2, minutes=0.2, units=8, max_epochs=1, length=128, bins=2000),
}


def run(settings: SpikeGeneration, folder: RunFolder) -> None:
    recordings, _ = read_recordings(settings, folder)
    folder.greet(len(recordings) * settings.seeds, recordings=[recording.packed for recording in recordings])
    model, result = train_networks(folder, recordings, settings, settings.networks[0], ("bce",))
    scores, figures = [], {}
    for recording in track(recordings, "generating", transient=True):
        start, stop = recording.span("test")
        bins = min(settings.bins, stop - start, start)
        real = recording.bits(start, start + bins)
        mine = result.grid.where(train_on=recording.name).tolist()
        made = {
            name: [model.generate(recording, bins, seed=0, network=place, kept=kept) for place in mine]
            for name, kept in ((NETWORK, True), (FREE, False))
        }
        before = recording.bits(max(start - PAST, 0), start)
        made[BEFORE] = [rate_matched_poisson(before, seed, bins) for seed in range(len(mine))]
        made[POISSON] = [rate_matched_poisson(real, seed) for seed in range(len(mine))]
        made[REAL] = [recording.bits(start - bins, start)]
        scores += compare_all(recording, real, made)
        shown = {"real": real} | {name: made[name][0] for name in (NETWORK, FREE, BEFORE)}
        figures[f"{recording.name}: the first bins"] = draw_rasters(folder.path, recording, shown)
    if not folder.first:
        return
    model.save(folder.path / "model", overwrite=True)
    tables = {recording.name: distance_table(scores, recording.name) for recording in recordings}
    folder.close(scores, "Spike trains, generated freely", INTRO, tables, figures, NOTES)


INTRO = """Distances of spike trains from the real test bins: 0 is the same. The network goes on from the real bins before them by itself."""

NOTES = [
    "rate: root mean square difference of log2 rates, in octaves; intervals: Wasserstein distance of log2 intervals; the others: root mean "
    "square difference over units, lags or pairs.",
    f"{REAL}: as many bins of the same recording just before the test bins. No generator can be expected to come nearer, but where activity drifts.",
    f"{BEFORE}: of the {PAST:,} bins before the test bins, which the network reads too; {POISSON}: of the test bins themselves.",
    f"{NETWORK}: the means that the network reads stay in the range that those bins have shown, the running rates where they were.",
]


def compare_all(
    recording: Recording, real: Real[np.ndarray, "bin unit"], made: Mapping[str, Sequence[Real[np.ndarray, "bin unit"]]]
) -> list[Score]:
    wanted = describe(real, recording.bin_ms)
    return [
        Score("spikes_generate", variant, recording.name, recording.name, seed, 0, "test", metric, value, len(real))
        for variant, rasters in made.items()
        for seed, raster in enumerate(rasters)
        for metric, value in compare(describe(raster, recording.bin_ms), wanted).items()
    ]


def distance_table(scores: list[Score], name: str) -> Table:
    summary = summarise([score for score in scores if score.test_on == name])
    variants = (NETWORK, FREE, BEFORE, POISSON, REAL)
    columns = {"spike trains": [Cell(variant) for variant in variants]}
    for metric in DISTANCES:
        found = {variant: summary[variant, metric] for variant in variants}
        nearest = min((NETWORK, FREE, BEFORE), key=lambda variant, found=found: found[variant].mean)
        columns[metric] = [Cell(show(one.mean, one.sd), variant == nearest) for variant, one in found.items()]
    return Table(columns, ["Lower is nearer. Bold: the nearest of the three that know the past alone."])


@matplotlib.rc_context(STYLE)
def draw_rasters(folder: Path, recording: Recording, shown: dict[str, Real[np.ndarray, "bin unit"]]) -> Path:
    """Units from slow to fast, the same order in all panels."""
    order = np.argsort(shown["real"].sum(axis=0), kind="stable")
    figure = Figure(figsize=(8.0, 6.4), layout="constrained")
    rows = []
    for axes, (title, raster) in zip(figure.subplots(len(shown), 1, sharex=True), shown.items(), strict=True):
        bins, units = np.nonzero(raster[:DRAWN, order])
        axes.plot(bins * recording.bin_ms, units, "|", color="black", markersize=2.5, markeredgewidth=0.6)
        axes.set(title=title, ylabel="unit, by rate", ylim=(-1, raster.shape[1]))
        rows += [(title, int(b), int(order[u])) for b, u in zip(bins, units, strict=True)]
    figure.axes[-1].set_xlabel("ms from the start of the test bins")
    figure.supxlabel("One mark a spike; the rows of all panels are the same units.", fontsize=8, color=GREY)
    return save_figure(figure, folder, f"raster_{recording.name}", ("panel", "bin", "unit"), rows)


if __name__ == "__main__":
    main("spikes_generate", __doc__, PRESETS, run)
