"""What the published layer looks at once it may not see the future, and what it loses when it looks elsewhere.

After Figure 5 of Shimono (2026): attention maps, their profile over lags, gradient importance and attention weighted by it (AWI), each
correlated with the population's rate on the query and on the key side; attention disabled; cells shuffled over the last 50 and 95 % of
a window. There the layer sees the bin that it is asked for, so that a diagonal and an intact AUC without attention say nothing of time.
Here it is causal and asked for the next bin, and every number stands beside what attention spread evenly, or a rate alone, gives.

    python -m experiments.spikes_attention                                   4 simulated populations
    python -m experiments.spikes_attention --data ../shared/data/spikes      one slice and one session

Published: query +, key -; attention off costs little AUC. Expected here of one slice and one session (3 epochs): weights spread almost
evenly, correlations little beyond those of even weights, and the layer trained without attention scores as much (AUC 0.916 and 0.793).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from rich.progress import track

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.reporting.plots import PALETTE, STYLE, save_figure
from jaxephys.reporting.run_folder import RunFolder, main
from jaxephys.reporting.score_table import Cell, Score, Table, show, summarise
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.attribution import WAYS, Altered, Look, altered, attention_map, look
from jaxephys.spikes.grid import SpikeSettings, read_recordings, rows_of, train_networks
from jaxephys.spikes.losses import bce
from jaxephys.spikes.streaming_scores import Tally, empty_tally, fold
from jaxephys.spikes.task import Objective, make_data, make_runs, make_task

NAME = "spikes_attention"
TRAINED, WITHOUT, RATE = "as trained", "trained without attention", "running rate"
SIDES = {"query": ("rated", "entropy", "awi_row"), "key": ("looked", "awi_column")}
MEASURES = ("looked", "rated", "entropy", "awi_row", "awi_column")
METRICS = ("roc_auc", "roc_auc_within_unit", "average_precision", "bits_per_spike")
DRAWN = 200  # bins of a map
EARLY = 64  # bins at the start of a window, whose few keys say little
PRIOR_BINS, PRIOR_RATE = 100.0, 0.01  # of the running rate: so many bins at this rate before a window


@dataclass(frozen=True)
class SpikeAttention(SpikeSettings):
    populations: int = 4
    """Of the simulated ones so many, in vitro and in vivo in turn."""
    networks: tuple[Literal["published"], ...] = ("published",)
    """The published layer, causal."""
    windows: int = 16
    """Test windows that are looked at, evenly spaced."""
    shares: tuple[float, ...] = (0.5, 0.95)
    """Of a window, the last part in which cells are shuffled."""


PRESETS = {
    "default": SpikeAttention(),
    "smoke": SpikeAttention(populations=2, minutes=0.2, max_epochs=1, length=128, windows=4),
}


class Seen(NamedTuple):
    """What was found of one recording, over its windows."""

    bins: int
    lag: Float[np.ndarray, "lag"]
    map: Float[np.ndarray, "time key"]
    correlation: dict[tuple[str, str], tuple[float, float]]  # measure, what of -> as trained, spread evenly


def run(settings: SpikeAttention, folder: RunFolder) -> None:
    recordings, _ = read_recordings(settings, folder)
    folder.greet(2 * len(recordings) * settings.seeds, recordings=[recording.packed for recording in recordings])
    model, result = train_networks(folder, recordings, settings, "published", ("bce",))
    network, axis = model.forecaster_.manner.network, result.grid
    without = Altered(network, "nowhere")
    blind = train_blind(folder, recordings, settings, without, axis, model.plan())
    scores: list[Score] = []
    seen = {}
    for recording in track(recordings, "looking", transient=True):
        for place in axis.where(train_on=recording.name).tolist():
            windows = cut_windows(recording, settings.length, settings.windows)
            sighted, own = (one_of(trained, place) for trained in (result.best, blind))
            arms = arms_of(network, sighted, without, own, settings.shares)
            found = look_at(network, sighted, windows)
            seen.setdefault(recording.name, found)
            seed = axis[place]["seed"]
            for arm, (apply, share) in arms.items():
                scores += rows_of(NAME, arm, recording.name, recording.name, seed, tally_of(apply, windows, share))
            scores += [
                Score(
                    NAME,
                    f"{measure}, {way}",
                    recording.name,
                    recording.name,
                    seed,
                    0,
                    "test",
                    f"r with {what}",
                    r,
                    len(windows),
                )
                for (measure, what), both in found.correlation.items()
                for way, r in zip((TRAINED, "evenly"), both, strict=True)
            ]
    if not folder.first:
        return
    model.save(folder.path / "model", overwrite=True)
    tables = {f"{name}: correlation with the population": correlation_table(scores, name) for name in seen}
    tables |= {f"{name}: looking elsewhere": score_table(scores, name, settings.shares) for name in seen}
    figures = {f"{name}: where it looks": draw_look(folder.path, name, found) for name, found in seen.items()}
    folder.close(scores, "What the published layer looks at", INTRO, tables, figures, [f"{model.leak_}.", *NOTES])


INTRO = """The published layer, causal and asked for the next bin, trained on each recording and looked at in its test windows."""

NOTES = [
    "rated, entropy and AWI rows belong to the bin that looks (query), looked and AWI columns to the bin that is looked at (key); "
    "jaxephys/spikes/attribution.py has the formulas.",
    "Evenly: the same correlation for attention that is spread over all earlier bins. What is not beyond it, the mask and slow rates alone explain.",
    f"{RATE}: a forecast from each cell's own rate in the window so far. Where it suffers from shuffled cells as the network does, the shuffle "
    "has shown that cells differ in rate, and no more.",
    "Scores of windows that begin without a past, in their second half; windows and bins are the same for all arms.",
]


def train_blind(
    folder: RunFolder,
    recordings: list[Recording],
    settings: SpikeAttention,
    network: Altered,
    axis: RunGrid,
    plan: TrainConfig,
) -> Any:
    """The same layer trained with its attention looking nowhere."""
    names, units = [recording.name for recording in recordings], recordings[0].units
    objectives = [Objective("bce")] * len(axis)
    data = make_data(recordings, network, settings.length)
    sources = [names.index(name) for name in axis.column("train_on")]
    runs = make_runs(recordings, sources, objectives, settings.length, batch_size=settings.batch_size)
    task = make_task(network, units, objectives, settings.length)
    result = folder.fit(WITHOUT, task, data, runs, axis, plan, "blind")
    return take_runs(result.best, np.arange(len(axis)))


def one_of(trained: Any, place: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], trained)


def cut_windows(recording: Recording, length: int, count: int) -> Float[np.ndarray, "window time unit"]:
    """One bin more than they hold: the last that is asked for."""
    start, stop = recording.span("test")
    places = np.linspace(start, stop - length - 1, min(count, (stop - start) // (length + 1))).astype(int).tolist()
    return np.stack([recording.bits(place, place + length + 1) for place in places]).astype(np.float32)


def look_at(network: Any, variables: Any, windows: Float[np.ndarray, "window time unit"]) -> Seen:
    @jax.jit
    def each(variables: Any, windows: Array) -> tuple[Look, Array]:
        def one(window: Array) -> tuple[Look, Array]:
            (found,), _ = look(network, variables, window[:-1], lambda logits: bce(logits, window[1:]))
            return found, jax.nn.sigmoid(network.apply(variables, window[:-1])[0]).sum(axis=1)

        return lax.map(one, windows)

    found, predicted = jax.device_get(each(variables, jnp.asarray(windows)))
    count = windows[:, :-1].sum(axis=2)
    rates = {"spikes": count, "forecast": predicted}
    even = evenly(count, found)
    correlation = {
        (measure, what): (correlate(getattr(found, measure), rate), correlate(getattr(even, measure), rate))
        for measure in MEASURES
        for what, rate in rates.items()
    }
    bins = min(DRAWN, windows.shape[1] - 1)
    shown = np.asarray(attention_map(network, variables, jnp.asarray(windows[0, :bins])))
    return Seen(windows.shape[1] - 1, found.lag.mean(axis=0), shown, correlation)


def evenly(count: Float[np.ndarray, "window time"], found: Look) -> Look:
    """What the measures would be if each bin looked evenly at all before it, with the importance that was found."""
    bins = count.shape[1]
    weight = np.tril(np.ones((bins, bins))) / np.arange(1, bins + 1)[:, None]
    importance = found.awi_column / np.maximum(found.looked * np.arange(bins, 0, -1), 1e-30)
    column = np.broadcast_to(weight.sum(axis=0), count.shape)
    return Look(
        found.lag,
        column / np.arange(bins, 0, -1),
        count @ weight.T,
        np.ones_like(count),
        importance @ weight.T,
        importance * column,
    )


def correlate(values: Float[np.ndarray, "window time"], rate: Float[np.ndarray, "window time"]) -> float:
    """Pearson's r over bins within windows, the mean over windows; nan where nothing varies."""
    a, b = (x[:, EARLY:] - x[:, EARLY:].mean(axis=1, keepdims=True) for x in (values, rate))
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    varies = spread > 1e-9
    return float(((a * b).sum(axis=1)[varies] / spread[varies]).mean()) if varies.any() else float("nan")


Apply = Callable[[Array], Array]


def arms_of(
    network: Any, sighted: Any, without: Altered, blind: Any, shares: tuple[float, ...]
) -> dict[str, tuple[Apply, float]]:
    """Name -> how it forecasts, and in what last share of a window its cells are shuffled."""
    plain: Apply = lambda bins: network.apply(sighted, bins)[0]  # noqa: E731
    arms: dict[str, tuple[Apply, float]] = {TRAINED: (plain, 0.0)}
    for way in WAYS:
        changed = Altered(network, way)
        arms[f"looking {way}"] = ((lambda bins, changed=changed: changed.apply(altered(sighted), bins)[0]), 0.0)
    arms[WITHOUT] = ((lambda bins: without.apply(blind, bins)[0]), 0.0)
    arms[RATE] = (running_rate, 0.0)
    for share in shares:
        arms[shuffled(TRAINED, share)] = (plain, share)
        arms[shuffled(RATE, share)] = (running_rate, share)
    return arms


def shuffled(arm: str, share: float) -> str:
    return f"{arm}, {share:.0%} shuffled"


def running_rate(bins: Float[Array, "time unit"]) -> Float[Array, "time unit"]:
    seen = jnp.arange(1, len(bins) + 1)[:, None] + PRIOR_BINS
    rate = (jnp.cumsum(bins, axis=0) + PRIOR_BINS * PRIOR_RATE) / seen
    return jnp.log(rate) - jnp.log1p(-rate)


def tally_of(apply: Apply, windows: Float[np.ndarray, "window time unit"], share: float) -> Tally:
    """Of the second halves of windows, each a block. Shuffled are the inputs; what is asked for stays."""
    inputs = np.stack(list(shuffle_cells(windows[:, :-1], share)))
    bins = inputs.shape[1]
    scored = np.arange(bins) >= bins // 2

    @jax.jit
    def count(inputs: Array, targets: Array) -> Tally:
        def add(tally: Tally, window: tuple[Array, Array, Int[Array, ""]]) -> tuple[Tally, None]:
            bins, target, place = window
            return fold(tally, apply(bins), target.astype(jnp.int32), jnp.where(scored, place, -1)), None

        start = empty_tally(len(windows), windows.shape[2])
        return lax.scan(add, start, (inputs, targets, jnp.arange(len(windows))))[0]

    return jax.device_get(count(jnp.asarray(inputs), jnp.asarray(windows[:, 1:])))


def shuffle_cells(windows: Float[np.ndarray, "window time unit"], share: float) -> Iterator[np.ndarray]:
    """Each window with its cells in another order in the last ``share`` of it."""
    rng = np.random.default_rng(0)
    first = round(windows.shape[1] * (1 - share))
    for window in windows:
        changed = window.copy()
        changed[first:] = window[first:, rng.permutation(window.shape[1])]
        yield changed


def correlation_table(scores: list[Score], name: str) -> Table:
    summary = summarise([score for score in scores if score.test_on == name])
    columns: dict[str, list[Cell]] = {"side": [], "measure": []}
    for side, measures in SIDES.items():
        columns["side"] += [Cell(side)] * len(measures)
        columns["measure"] += [Cell(measure) for measure in measures]
    measures = [cell.text for cell in columns["measure"]]
    for what in ("spikes", "forecast"):
        for way in (TRAINED, "evenly"):
            found = [summary[f"{measure}, {way}", f"r with {what}"] for measure in measures]
            columns[f"{what}, {way}"] = [Cell(show(one.mean, one.sd)) for one in found]
    return Table(
        columns, ["Pearson's r over the bins of a window with the population's spikes, and with their forecast."]
    )


def score_table(scores: list[Score], name: str, shares: tuple[float, ...]) -> Table:
    summary = summarise([score for score in scores if score.test_on == name])
    arms = [TRAINED, *(f"looking {way}" for way in WAYS), WITHOUT, RATE]
    arms += [shuffled(arm, share) for share in shares for arm in (TRAINED, RATE)]
    columns = {"attention": [Cell(arm) for arm in arms]}
    for metric in METRICS:
        found = [summary[arm, metric] for arm in arms]
        columns[metric] = [Cell(show(one.mean, one.sd)) for one in found]
    return Table(columns, [])


@matplotlib.rc_context(STYLE)
def draw_look(folder: Path, name: str, found: Seen) -> Path:
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    image = left.imshow(np.log10(np.maximum(found.map, 1e-5)), cmap="magma", interpolation="nearest")
    left.set(xlabel="bin that is looked at", ylabel="bin that looks", title="log10 attention, mean over heads")
    figure.colorbar(image, ax=left, shrink=0.8)
    lag, flat = np.arange(1, len(found.lag)), even_profile(found.bins, len(found.lag))
    right.plot(lag, found.lag[1:], color=PALETTE[0], linewidth=3, alpha=0.6, label="found")  # often they coincide
    right.plot(lag, flat[1:], color="black", linestyle="--", linewidth=1, label="spread evenly")
    right.plot([1], [found.lag[0]], "o", color=PALETTE[1], label="its own bin")
    right.set(xscale="log", xlabel="bins back", ylabel="mean attention", title="profile over lags")
    right.legend()
    rows = [(place, float(value), float(flat[place])) for place, value in enumerate(found.lag)]
    return save_figure(figure, folder, f"look_{name}", ("lag", "attention", "spread_evenly"), rows)


def even_profile(bins: int, lags: int) -> Float[np.ndarray, "lag"]:
    """What the profile would be if bin i gave 1 / (i + 1) to each bin up to it."""
    share = 1 / np.arange(1, bins + 1)
    return np.array([share[lag:].mean() for lag in range(lags)])


if __name__ == "__main__":
    main(NAME, __doc__, PRESETS, run)
