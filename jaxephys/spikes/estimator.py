"""SpikeTransformer: the user's face of the spike system. Thin: the work is in the task, the engine and the forecaster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from jaxephys.engine.config import TrainConfig
from jaxephys.engine.fit import FitResult, fit, take_runs
from jaxephys.engine.grid import RunGrid
from jaxephys.engine.task import PyTree
from jaxephys.models.base import SavedModel, count_parameters, mean_over_runs
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.attention import lag_profile
from jaxephys.spikes.causality import Leak
from jaxephys.spikes.forecaster import WARM_UP, Fitted, Forecaster, Manner, run_of
from jaxephys.spikes.generation import PAST, generate
from jaxephys.spikes.history import Filters
from jaxephys.spikes.network import Network, PopulationTransformer, PublishedLayer
from jaxephys.spikes.streaming_scores import Tally, choose_threshold, scores
from jaxephys.spikes.task import CELLS, Objective, make_data, make_runs, make_task

Spikes = Recording | np.ndarray
NETWORKS = ("population", "units", "published", "legacy")
RANKS = "average_precision"  # selects the epoch of a loss whose outputs are no probabilities


class SpikeTransformer(SavedModel, BaseEstimator):
    """The probability of a spike of every unit in the next bin, from all bins up to now.

    Give it one recording, or several of equally many units: one network is trained on each, and seed, all in one program.

    Parameters
    ----------
    network : {"population", "units", "published", "legacy"}
        "population" reads any units in any order, and so goes to other recordings. "units" knows its units besides, and is
        for these alone. "published" is the published layer, made causal; "legacy" the layer as published, which is shown
        the bin that it tells: a reconstruction, there to compare with.
    loss : {"bce", "focal", "dice", "dice_bce", "published_dice"}
    adaptive : bool
        Mix the network with running rate and exponential means, unit by unit, as each has proven itself so far on the
        recording at hand.
    width, depth, heads, window, dropout
        Of the transformer; ``window`` is how many bins a layer looks back.
    length : int
        Bins of a training window.
    cells : int or None
        (bin, unit) pairs of a window that the loss is taken over; None for all.
    calibration_bins : int
        Validation bins that give scale and shift of the logits, and the threshold.
    seeds : int
        How many networks a recording trains.
    random_state : int
        The first of the seeds.

    Attributes
    ----------
    forecaster_ : Forecaster
    sources_ : list of str
        The recording that each network was trained on.
    thresholds_ : array [network]
        Logits with the best recall less false alarms, at most 5 false alarms in 1,000 silences, on validation bins.
    leak_ : Leak
        What the leak test has found of this very model.
    history_ : dict of arrays [network, epoch]
    result_ : FitResult of the engine
    """

    def __init__(
        self,
        network: str = "population",
        *,
        loss: str = "bce",
        gamma: float = 2.0,
        alpha: float | None = None,
        adaptive: bool = True,
        width: int = 32,
        depth: int = 1,
        heads: int = 2,
        window: int = 128,
        dropout: float = 0.1,
        length: int = 512,
        cells: int | None = CELLS,
        seeds: int = 1,
        max_epochs: int = 8,
        patience: int | None = None,
        batch_size: int = 8,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-3,
        calibration_bins: int = 20_000,
        random_state: int = 0,
        progress: bool = True,
    ) -> None:
        self.network = network
        self.loss = loss
        self.gamma = gamma
        self.alpha = alpha
        self.adaptive = adaptive
        self.width = width
        self.depth = depth
        self.heads = heads
        self.window = window
        self.dropout = dropout
        self.length = length
        self.cells = cells
        self.seeds = seeds
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.calibration_bins = calibration_bins
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Spikes | Sequence[Spikes], y: None = None) -> SpikeTransformer:
        """Train on the training bins of each recording; validation bins select the epoch and calibrate. Test bins stay unseen."""
        recordings = [as_recording(X)] if isinstance(X, Recording | np.ndarray) else [as_recording(part) for part in X]
        seeds = range(self.random_state, self.random_state + self.seeds)
        axis = RunGrid.cross(source=range(len(recordings)), seed=seeds)
        sources, objectives = axis.column("source"), [self._objective()] * len(axis)
        units, bin_ms = recordings[0].units, recordings[0].bin_ms
        network = self.build(units, bin_ms)
        data = make_data(recordings, network, self.length)
        runs = make_runs(recordings, sources, objectives, self.length, batch_size=self.batch_size)
        task = make_task(network, units, objectives, self.length, self.cells)
        title = "SpikeTransformer" if self.progress else None
        result = fit(task, data, runs, axis, self.plan(), title=title)
        return self.adopt(result, network, recordings, sources)

    def build(self, units: int, bin_ms: float) -> Network:
        """The network for so many units."""
        if self.network not in NETWORKS:
            raise ValueError(f"network {self.network!r} is unknown: choose one of {', '.join(NETWORKS)}")
        if self.network in ("published", "legacy"):
            return PublishedLayer(units, dropout=self.dropout, legacy=self.network == "legacy")
        return PopulationTransformer(
            units if self.network == "units" else None,
            self.width,
            self.depth,
            self.heads,
            self.window,
            dropout=self.dropout,
            filters=Filters(bin_ms=bin_ms),
        )

    def plan(self) -> TrainConfig:
        return TrainConfig(
            self.max_epochs,
            self.patience,
            monitor="bits_per_spike" if self.loss == "bce" else RANKS,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_steps=30,
            chunk_epochs=1,
        )

    def adopt(
        self,
        result: FitResult,
        network: Network,
        recordings: Sequence[Recording],
        sources: Sequence[int],
        places: Int[np.ndarray, "run"] | None = None,
    ) -> SpikeTransformer:
        """Become what runs of a grid have learnt, each from ``recordings[source]`` (all of them, or those in ``places``)."""
        places = np.arange(len(result.grid)) if places is None else places
        self.result_ = result
        self.history_ = {name: values[places] for name, values in result.history.items()}
        own = [sources[place] for place in places]
        self.sources_ = [recordings[source].name for source in own]
        self.units_, self.bin_ms_ = recordings[0].units, recordings[0].bin_ms
        variables = take_runs(result.best, places)
        forecaster = Forecaster(self._manner(network), Fitted.of(network, variables))
        self.leak_ = forecaster.leak(recordings[own[0]])
        bins = self.calibration_bins
        self.forecaster_ = forecaster.calibrated(recordings, own, bins=bins, progress=self.progress)
        tallies = self.forecaster_.on_validation(recordings, own, bins=bins)
        self.thresholds_ = np.array([choose_threshold(tally) for tally in tallies], np.float32)
        return self

    def predict_proba(
        self, X: Spikes, split: str = "test", *, per_network: bool = False
    ) -> Float[np.ndarray, "*run time unit"]:
        """The probability of a spike in each bin of a split, from the bins before it: the mean over networks, or each."""
        recording = self._recording(X)
        said = expit(self.forecaster_.logits(recording, *recording.span(split)))
        return mean_over_runs(said, per_network)

    def tally(self, X: Spikes, split: str = "test") -> Tally:
        """What ``scores`` counts, of every network, after a look at the 10,000 bins before the split."""
        recording = self._recording(X)
        return self.forecaster_.tally(recording, recording.span(split))

    def score_table(self, X: Spikes, split: str = "test") -> list[dict[str, Any]]:
        """Every score on a split, a row a network: ``pandas.DataFrame`` takes it."""
        recording = self._recording(X)
        tally = self.tally(recording, split)
        start, stop = recording.span("train")
        rate, rows = recording.counts("train") / (stop - start), []
        for run, (source, threshold) in enumerate(zip(self.sources_, self.thresholds_, strict=True)):
            found = scores(run_of(tally, run), rate, float(threshold))
            rows.append({"network": run, "train_on": source, "test_on": recording.name, **found})
        return rows

    def score(self, X: Spikes, y: None = None) -> float:
        """Bits a spike gained on the mean rates of the test bins: the mean over networks."""
        return float(np.mean([row["bits_per_spike"] for row in self.score_table(X)]))

    def transfer_grid(self, X: Sequence[Spikes]) -> dict[str, Float[np.ndarray, "recording others"]]:
        """Each score of the networks of every training recording (rows) on the test bins of every given one (columns)."""
        names = list(dict.fromkeys(self.sources_))
        columns = [self.score_table(recording) for recording in X]
        grid = {}
        for metric in [name for name in columns[0][0] if name not in ("network", "train_on", "test_on")]:
            of = [[[row[metric] for row in column if row["train_on"] == name] for column in columns] for name in names]
            grid[metric] = np.mean(of, axis=-1)
        return grid

    def generate(
        self, X: Spikes, bins: int, *, seed: int = 0, network: int = 0, kept: bool = True
    ) -> UInt[np.ndarray, "time unit"]:
        """Spikes drawn bin after bin, each from those before it; the beginning is what lies before the test bins.

        ``kept``: what the network reads stays within what the 30,000 bins before have shown, and a unit's running rate where it was.
        Without it the draws lead wherever they lead, as far as units that fall silent for good.
        """
        recording = self._recording(X)
        start = recording.span("test")[0]
        past = recording.bits(max(start - PAST, 0), start) if start else recording.bits(0, 1)
        return generate(self.forecaster_.only(network), past, bins, seed, kept=kept)[0]

    def attention(self, X: Spikes, split: str = "test", *, network: int = 0) -> Float[np.ndarray, "layer head lag"]:
        """The mean weight that a bin gives to the bin so many before it, lag 0 being itself.

        Over windows of ``length`` bins from the first 10,000 of a split, each without what lies before it.
        """
        recording, model = self._recording(X), self.forecaster_.manner.network
        start, stop = recording.span(split)
        bins = recording.bits(start, min(stop, start + WARM_UP))
        windows = bins[: len(bins) // self.length * self.length].reshape(-1, self.length, recording.units)
        if self.network == "legacy" or not len(windows):
            raise ValueError(
                f"{len(bins)} bins and a {self.network!r} network: a profile over lags needs a causal network and "
                f"a window of {self.length} bins"
            )
        variables = jax.tree.map(lambda leaf: leaf[network], self.forecaster_.fitted.variables)

        def profile(spikes: Array) -> Array:
            _, kept = model.apply(variables, spikes, mutable="intermediates")
            layers = [tree["self_attn"]["seen"][0] for _, tree in sorted(kept["intermediates"].items())]
            return jnp.stack([lag_profile(q, k, getattr(model, "window", None)) for q, k in layers])

        each = jax.jit(lambda some: lax.map(profile, some))(jnp.asarray(windows, jnp.float32))
        return np.asarray(each.mean(axis=0))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "forecaster_")

    def _manner(self, network: Network | None = None) -> Manner:
        network = self.build(self.units_, self.bin_ms_) if network is None else network
        return Manner(network, self.adaptive, self.length)

    def _objective(self) -> Objective:
        return Objective(self.loss, self.gamma, self.alpha)

    def _recording(self, X: Spikes) -> Recording:
        check_is_fitted(self)
        recording = as_recording(X, self.bin_ms_)
        if recording.bin_ms != self.bin_ms_:
            raise ValueError(
                f"{recording.name} has bins of {recording.bin_ms:g} ms, and the networks were trained on bins of "
                f"{self.bin_ms_:g} ms: bin it alike"
            )
        if self.network != "population" and recording.units != self.units_:
            raise ValueError(
                f"{recording.name} has {recording.units} units, and a {self.network!r} network knows {self.units_}: "
                'give those, or train network="population", which takes any'
            )
        return recording

    def _arrays(self) -> dict[str, PyTree]:
        check_is_fitted(self)
        variables, scale, shift, line = self.forecaster_.fitted
        return {**variables, "scale": scale, "shift": shift, "line": line, "thresholds": self.thresholds_}

    def _settings(self) -> dict[str, Any]:
        own = {"sources": self.sources_, "units": self.units_, "bin_ms": self.bin_ms_}
        return {"parameters": self.get_params(), **own, "leak": list(self.leak_)}

    @classmethod
    def _from_saved(cls, arrays: dict[str, PyTree], settings: dict[str, Any]) -> SpikeTransformer:
        model = cls(**settings["parameters"])
        model.sources_, model.units_, model.bin_ms_ = settings["sources"], settings["units"], settings["bin_ms"]
        moved, gradient, reach, times = settings["leak"]
        model.leak_ = Leak(moved, gradient, reach, tuple(times))
        model.thresholds_ = arrays.pop("thresholds")
        scale, shift, line = (arrays.pop(name) for name in ("scale", "shift", "line"))
        model.forecaster_ = Forecaster(model._manner(), Fitted(arrays, scale, shift, line))
        return model

    def describe(self) -> str:
        """One line on what was learnt."""
        fitted = self.forecaster_.fitted
        runs, parameters = len(fitted.scale), count_parameters(fitted.variables)
        task = "tells the bin that it is shown (a reconstruction)" if self.network == "legacy" else "tells the next bin"
        return (
            f"{runs} network{'s' * (runs > 1)} of {parameters:,} parameters, {self.network}, {task}, trained on "
            f"{', '.join(dict.fromkeys(self.sources_))} ({self.units_} units, bins of {self.bin_ms_:g} ms); {self.leak_}"
        )


def as_recording(X: Spikes, bin_ms: float = 1.0) -> Recording:
    return X if isinstance(X, Recording) else Recording.from_array(X, bin_ms=bin_ms)
