"""Trained networks as they are used: calibrated, mixed with plainer experts, and streamed over a recording.

Scores, probabilities, generated spikes and the causality test all use the same compiled function, :func:`forecast`, which
passes its state from each window to the next. Start with :class:`Forecaster`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from rich.progress import track

from jaxephys.dimensions import AnyArray
from jaxephys.engine.compile_cache import padded_length
from jaxephys.engine.devices import jit_local
from jaxephys.engine.task import PyTree, Variables
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.backend import local_backend, local_network
from jaxephys.spikes.calibration import fit_scale_and_shift
from jaxephys.spikes.causality import CausalityReport, check_causality, measure_causality
from jaxephys.spikes.expert_mixture import ExpertWeights, expert_logits, initial_expert_weights, mix_experts
from jaxephys.spikes.history import Filters, compute_features, initial_history, last_state, trace_history
from jaxephys.spikes.linear_expert import fit_linear_expert, linear_logits, running_rate_weights
from jaxephys.spikes.network import Memory, SpikeNetwork
from jaxephys.spikes.preprocessing import unpack_bits
from jaxephys.spikes.streaming_scores import N_BLOCKS, StreamingCounts, add_bins, empty_counts

WARM_UP = 10_000  # bins before the first scored bin that are read
CAUSALITY_BINS = 160  # bins of the causality test, after as many that fill the memory


class ForecastParameters(NamedTuple):
    """Everything that was fitted for a run; with several runs every array has a leading run axis.

    Parameters
    ----------
    variables : dict
        Variables of the network.
    scale, shift : float array of shape (runs,)
        Calibration: logits are ``scale * network + shift``.
    linear_weights : float array of shape (runs, 2 + features)
        Weights of the linear expert; of length 0 for a network without filters.
    """

    variables: Variables
    scale: Float[AnyArray, "*run"]
    shift: Float[AnyArray, "*run"]
    linear_weights: Float[AnyArray, "*run weight"]


class WindowLogits(NamedTuple):
    """Logits of a window, with and without the mixture of experts.

    Parameters
    ----------
    forecast : float32 array of shape (bins, units)
        Logits of the forecaster. Row t belongs to bin t + 1, or to bin t if the network is a reconstruction.
    network : float32 array of shape (bins, units)
        Calibrated logits of the network alone; the same array if no experts are mixed.
    """

    forecast: Float[Array, "time unit"]
    network: Float[Array, "time unit"]


class PartCounts(NamedTuple):
    """Counts of a forecaster and of its network alone on the same bins.

    The last time block of each holds the bins that are read before the scored ones, see `split_past`.

    Parameters
    ----------
    forecast : StreamingCounts
        Counts of the forecaster, with a leading run axis.
    network : StreamingCounts
        Counts of the network alone; the same object if no experts are mixed.
    """

    forecast: StreamingCounts
    network: StreamingCounts


class ForecastState(NamedTuple):
    """State of a forecaster between two windows.

    Parameters
    ----------
    memory : Memory
        Memory of the network.
    expert_weights : ExpertWeights or None
        State of the mixture; None if experts are not mixed.
    """

    memory: Memory
    expert_weights: ExpertWeights | None


@dataclass(frozen=True)
class ForecastConfig:
    """Settings of a forecaster that all runs share.

    Parameters
    ----------
    network : SpikeNetwork
        The network.
    adaptive : bool
        Mix the network with plainer experts; has no effect on a network without history filters.
    length : int
        Bins that are computed at once. A network without a window of its own forgets everything at the end of each.
    with_network : bool
        Mix the network's forecast. Without it the linear expert takes its place, and the network is not computed; needs
        experts.
    """

    network: SpikeNetwork
    adaptive: bool = True
    length: int = 1024
    with_network: bool = True

    @property
    def mixes_experts(self) -> bool:
        """Whether the output is a mixture of experts."""
        return self.adaptive and self.network.filters is not None

    def local(self) -> ForecastConfig:
        """Return the same settings with the network in the form that suits the first device of this process.

        Returns
        -------
        ForecastConfig
            Settings to compile with.
        """
        return replace(self, network=local_network(self.network))


def initial_state(config: ForecastConfig, variables: Variables, n_units: int) -> ForecastState:
    """Return the state of a forecaster before the first bin of a recording.

    Parameters
    ----------
    config : ForecastConfig
        Settings.
    variables : dict
        Variables of one network.
    n_units : int
        Units of the recording.

    Returns
    -------
    ForecastState
        A state with empty caches, which a scan can carry.
    """
    network, filters = config.network, config.network.filters
    if not config.with_network:
        assert filters is not None
        return ForecastState(Memory(initial_history(filters, n_units)), initial_expert_weights(filters, n_units))
    one_bin = jax.ShapeDtypeStruct((1, n_units), jnp.float32)
    _, shapes = jax.eval_shape(lambda v, x: network.apply(v, x), variables, one_bin)
    memory: Memory = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    if filters is None:
        return ForecastState(memory, None)
    weights = initial_expert_weights(filters, n_units) if config.mixes_experts else None
    return ForecastState(memory._replace(history=initial_history(filters, n_units)), weights)


def forecast(
    config: ForecastConfig,
    parameters: ForecastParameters,
    spikes: Float[AnyArray, "time unit"],
    state: ForecastState,
) -> tuple[Float[Array, "time unit"], ForecastState]:
    """Compute the logits of a window by one run.

    Parameters
    ----------
    config : ForecastConfig
        Settings.
    parameters : ForecastParameters
        Parameters of one run, without a run axis.
    spikes : float array of shape (bins, units)
        Zeros and ones.
    state : ForecastState
        State before the window.

    Returns
    -------
    logits : float32 array of shape (bins, units)
        Row t belongs to bin t + 1, or to bin t if the network is a reconstruction.
    state : ForecastState
        State after the window.
    """
    logits, state = forecast_parts(config, parameters, spikes, state)
    return logits.forecast, state


def forecast_parts(
    config: ForecastConfig,
    parameters: ForecastParameters,
    spikes: Float[AnyArray, "time unit"],
    state: ForecastState,
) -> tuple[WindowLogits, ForecastState]:
    """Compute the logits of a window by one run, and those of its network alone.

    Parameters
    ----------
    config : ForecastConfig
        Settings.
    parameters : ForecastParameters
        Parameters of one run, without a run axis.
    spikes : float array of shape (bins, units)
        Zeros and ones.
    state : ForecastState
        State before the window.

    Returns
    -------
    logits : WindowLogits
        Both logits.
    state : ForecastState
        State after the window.
    """
    filters = config.network.filters
    if not config.with_network:
        assert filters is not None
        return _forecast_by_experts(filters, parameters, spikes, state)
    network_logits, memory = config.network.apply(parameters.variables, spikes, state.memory)
    network_logits = parameters.scale * network_logits + parameters.shift
    if state.expert_weights is None or filters is None:
        return WindowLogits(network_logits, network_logits), ForecastState(memory, None)
    # The network computes the same features; the compiler merges the two computations.
    assert state.memory.history is not None
    features = compute_features(filters, trace_history(filters, state.memory.history, spikes))
    experts = expert_logits(filters, features, network_logits, parameters.linear_weights)
    logits, weights = mix_experts(state.expert_weights, experts, spikes)
    return WindowLogits(logits, network_logits), ForecastState(memory, weights)


def _forecast_by_experts(
    filters: Filters, parameters: ForecastParameters, spikes: Float[AnyArray, "time unit"], state: ForecastState
) -> tuple[WindowLogits, ForecastState]:
    """Mix the experts with the linear one in the place of the network."""
    assert state.memory.history is not None and state.expert_weights is not None
    states = trace_history(filters, state.memory.history, spikes)
    features = compute_features(filters, states)
    linear = linear_logits(parameters.linear_weights, features)
    experts = expert_logits(filters, features, linear, parameters.linear_weights)
    logits, weights = mix_experts(state.expert_weights, experts, spikes)
    return WindowLogits(logits, linear), ForecastState(Memory(last_state(states)), weights)


@dataclass(frozen=True)
class Forecaster:
    """One or more trained runs of the same network.

    Parameters
    ----------
    config : ForecastConfig
        Settings.
    parameters : ForecastParameters
        Parameters with a leading run axis.
    """

    config: ForecastConfig
    parameters: ForecastParameters

    @classmethod
    def from_variables(
        cls, network: SpikeNetwork, variables: Variables, *, adaptive: bool = True, length: int = 1024
    ) -> Forecaster:
        """Return a forecaster of networks as trained, before calibration.

        Parameters
        ----------
        network : SpikeNetwork
            The network.
        variables : dict
            Variables with a leading run axis.
        adaptive : bool
            Mix the network with plainer experts.
        length : int
            Bins that are computed at once.

        Returns
        -------
        Forecaster
            With scale 1 and shift 0; the linear expert predicts the running rate.
        """
        n_runs = len(jax.tree.leaves(variables)[0])
        weights = np.zeros(0) if network.filters is None else running_rate_weights(network.filters)
        parameters = ForecastParameters(
            variables,
            np.ones(n_runs, np.float32),
            np.zeros(n_runs, np.float32),
            np.tile(np.float32(weights), (n_runs, 1)),
        )
        return cls(ForecastConfig(network, adaptive, length), parameters)

    def without_experts(self) -> Forecaster:
        """Return the networks alone, without the mixture.

        Returns
        -------
        Forecaster
            Same runs, not adaptive.
        """
        return replace(self, config=replace(self.config, adaptive=False))

    def without_network(self) -> Forecaster:
        """Return the mixture of experts alone: the linear expert takes the place of the network, which is not computed.

        Networks of one recording share the linear expert, so that this mixture is the same for all of them.

        Returns
        -------
        Forecaster
            Same runs without their networks.

        Raises
        ------
        ValueError
            If the forecaster mixes no experts.
        """
        if not self.config.mixes_experts:
            raise ValueError("nothing is left of this forecaster without its network: it mixes no experts")
        return replace(self, config=replace(self.config, with_network=False))

    def keep_runs(self, runs: Sequence[int]) -> Forecaster:
        """Return some of the runs.

        Parameters
        ----------
        runs : sequence of int
            Indices of the runs.

        Returns
        -------
        Forecaster
            The same settings with these runs.
        """
        index = np.asarray(runs)
        return replace(self, parameters=jax.tree.map(lambda leaf: np.asarray(leaf)[index], self.parameters))

    def run_parameters(self, run: int) -> ForecastParameters:
        """Return the parameters of a single run.

        Parameters
        ----------
        run : int
            Index of the run.

        Returns
        -------
        ForecastParameters
            Arrays on the device, without a run axis.
        """
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[run]), self.parameters)

    def count_outcomes(
        self,
        recording: Recording,
        span: tuple[int, int] | None = None,
        *,
        warm_up: int = WARM_UP,
        n_blocks: int = N_BLOCKS,
        same_bin: bool | None = None,
    ) -> StreamingCounts:
        """Count predictions and outcomes on a stretch of a recording, for every run.

        Parameters
        ----------
        recording : Recording
            Recording of as many units as the networks take.
        span : (int, int), optional
            Bins [start, stop) to score; the test split by default.
        warm_up : int
            Bins before ``start`` that are read and not scored; no run reads earlier ones.
        n_blocks : int
            Time blocks that are counted separately.
        same_bin : bool, optional
            Compare row t with bin t, which the network was shown, as the published code does, rather than with bin t + 1. By
            default only for a reconstruction.

        Returns
        -------
        StreamingCounts
            With a leading run axis.
        """
        span = recording.span("test") if span is None else span
        same_bin = self.config.network.is_reconstruction if same_bin is None else same_bin
        ahead = 0 if same_bin else 1
        windows = _scored_windows(recording, span, warm_up, n_blocks, self.config.length, ahead)
        arguments = self.config.local(), recording.units, n_blocks, ahead, True, False
        return _count_windows(*arguments, self.parameters, windows)[0]

    def count_parts(
        self,
        recording: Recording,
        span: tuple[int, int] | None = None,
        *,
        warm_up: int = WARM_UP,
        n_blocks: int = N_BLOCKS,
        same_bin: bool | None = None,
    ) -> PartCounts:
        """Count predictions and outcomes like `count_outcomes`, for the forecaster and in the same pass for its network alone.

        Parameters
        ----------
        recording : Recording
            Recording of as many units as the networks take.
        span : (int, int), optional
            Bins [start, stop) to score; the test split by default.
        warm_up : int
            Bins before ``start`` that are read; no run reads earlier ones. They are counted as one more time block.
        n_blocks : int
            Time blocks of the scored bins.
        same_bin : bool, optional
            See `count_outcomes`.

        Returns
        -------
        PartCounts
            With ``n_blocks + 1`` time blocks each, of which `split_past` separates the last.
        """
        span = recording.span("test") if span is None else span
        same_bin = self.config.network.is_reconstruction if same_bin is None else same_bin
        ahead = 0 if same_bin else 1
        windows = _scored_windows(recording, span, warm_up, n_blocks, self.config.length, ahead, past_block=n_blocks)
        two = self.config.mixes_experts and self.config.with_network
        arguments = self.config.local(), recording.units, n_blocks + 1, ahead, True, two
        counts = _count_windows(*arguments, self.parameters, windows)
        return PartCounts(counts[0], counts[-1])

    def compute_logits(
        self, recording: Recording, start: int, stop: int, *, warm_up: int = WARM_UP
    ) -> Float[np.ndarray, "run time unit"]:
        """Compute the logits of bins [start, stop) by every run.

        Parameters
        ----------
        recording : Recording
            Recording of as many units as the networks take.
        start, stop : int
            First bin, and bin after the last.
        warm_up : int
            Bins that are read before, at most.

        Returns
        -------
        float32 array of shape (runs, stop - start, units)
            Row i belongs to bin ``start + i``; the first bin of a recording has no forecast and is nan.
        """
        first = max(start - warm_up - 1, 0)
        no_block = np.zeros(stop - first, np.int32)
        ahead = 0 if self.config.network.is_reconstruction else 1
        windows, _ = _cut_windows(recording.packed[first:stop], no_block, self.config.length, ahead)
        logits = np.asarray(_logits_of_windows(self.config.local(), recording.units, self.parameters, windows))
        if ahead:
            logits = np.concatenate([np.full_like(logits[:, :1], np.nan), logits], axis=1)
        return logits[:, start - first : stop - first]

    def calibrate(
        self, recordings: Sequence[Recording], sources: Sequence[int], *, n_bins: int, progress: bool = False
    ) -> Forecaster:
        """Fit scale and shift of each run on validation bins, and its linear expert on training bins.

        Logits of a network trained with Dice or focal loss only rank bins; with BCE there is little left to calibrate. The
        mixture comes after calibration, because its experts must be probabilities.

        Parameters
        ----------
        recordings : sequence of Recording
            Training recordings.
        sources : sequence of int
            For each run the index of the recording that it was trained on.
        n_bins : int
            Validation bins that are used, from the start of the split.
        progress : bool
            Show a progress bar.

        Returns
        -------
        Forecaster
            With fitted parameters.
        """
        counts = self.without_experts().count_validation(recordings, sources, n_bins=n_bins)
        fits = [fit_scale_and_shift(np.asarray(run_counts.histogram).sum((0, 1))) for run_counts in counts]
        scale, shift = np.array(fits, np.float32).T
        parameters, filters = self.parameters._replace(scale=scale, shift=shift), self.config.network.filters
        if self.config.mixes_experts and filters is not None:
            bar = track(dict.fromkeys(sources), "linear experts", disable=not progress, transient=True)
            weights = {source: fit_linear_expert(filters, recordings[source]) for source in bar}
            parameters = parameters._replace(linear_weights=np.stack([weights[source] for source in sources]))
        return replace(self, parameters=parameters)

    def count_validation(
        self, recordings: Sequence[Recording], sources: Sequence[int], *, n_bins: int, same_bin: bool | None = None
    ) -> list[StreamingCounts]:
        """Count predictions and outcomes of each run on validation bins of its own recording.

        Parameters
        ----------
        recordings : sequence of Recording
            Training recordings.
        sources : sequence of int
            For each run the index of the recording that it was trained on.
        n_bins : int
            Validation bins that are used, from the start of the split.
        same_bin : bool, optional
            Compare row t with bin t, see `count_outcomes`; by default only for a reconstruction.

        Returns
        -------
        list of StreamingCounts
            One per run, without a run axis.
        """
        of_recordings: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        length, n_blocks = self.config.length, 2
        same_bin = self.config.network.is_reconstruction if same_bin is None else same_bin
        ahead = 0 if same_bin else 1
        for source in dict.fromkeys(sources):
            start, stop = recordings[source].span("validation")
            span = start, min(stop, start + n_bins)
            of_recordings[source] = _scored_windows(recordings[source], span, WARM_UP, n_blocks, length, ahead)
        most = max(len(packed) for packed, _ in of_recordings.values())
        windows = [_pad_windows(*of_recordings[source], most) for source in sources]
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *windows)
        n_units = recordings[sources[0]].units
        arguments = self.config.local(), n_units, n_blocks, ahead, False, False
        counts = jax.device_get(_count_windows(*arguments, self.parameters, stacked)[0])
        return [counts_of_run(counts, run) for run in range(len(sources))]

    def check_causality(self, recording: Recording, run: int = 0) -> CausalityReport:
        """Test on the first bins of a recording that the compiled forecast does not use future bins.

        Parameters
        ----------
        recording : Recording
            Recording of as many units as the networks take.
        run : int
            Index of the run.

        Returns
        -------
        CausalityReport
            Of a reconstruction too, which cannot pass.

        Raises
        ------
        ValueError
            If the network should be causal and is not.
        """
        bins = recording.bits(0, min(2 * CAUSALITY_BINS, len(recording))).astype(np.float32)
        parameters = self.run_parameters(run)
        config = self.config.local()
        past, tested = np.array_split(bins, 2)

        def forecast_after_past(spikes: Array) -> Array:
            state = initial_state(config, parameters.variables, recording.units)
            _, state = forecast(config, parameters, jnp.asarray(past), state)
            return forecast(config, parameters, spikes, state)[0]

        test = measure_causality if self.config.network.is_reconstruction else check_causality
        return test(forecast_after_past, tested)


def counts_of_run(counts: StreamingCounts, run: int) -> StreamingCounts:
    """Return the counts of one run, on the host.

    Parameters
    ----------
    counts : StreamingCounts
        With a leading run axis.
    run : int
        Index of the run.

    Returns
    -------
    StreamingCounts
        NumPy arrays without a run axis.
    """
    return StreamingCounts(*(np.asarray(part[run]) for part in counts))


def _scored_windows(
    recording: Recording,
    span: tuple[int, int],
    warm_up: int,
    n_blocks: int,
    length: int,
    ahead: int,
    past_block: int = -1,
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of the bins of a span and of those that are read before it, and the time block of each bin."""
    start, stop = span
    first = max(start - warm_up, 0)
    block = np.full(stop - first, past_block, np.int32)
    block[start - first :] = np.arange(stop - start) * n_blocks // (stop - start)
    return _cut_windows(recording.packed[first:stop], block, length, ahead)


def _pad_windows(packed: np.ndarray, block: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Add windows of silence that are not scored."""
    missing = count - len(packed)
    return np.pad(packed, ((0, missing), (0, 0), (0, 0))), np.pad(block, ((0, missing), (0, 0)), constant_values=-1)


def _cut_windows(packed: np.ndarray, block: np.ndarray, length: int, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide packed bins into whole windows and the bin after each, and the blocks into those of the predicted bins.

    Row t of a window predicts the bin that is ``ahead`` bins later. Bins beyond the end have no block. The number of windows is
    rounded up, so that recordings of like length share one compiled program.
    """
    count = padded_length(-(-(len(packed) - ahead) // length))
    packed = np.pad(packed, ((0, count * length + 1 - len(packed)), (0, 0)))
    block = np.pad(block[ahead:], (0, count * length + ahead - len(block)), constant_values=-1)
    starts = range(0, count * length, length)
    return np.stack([packed[start : start + length + 1] for start in starts]), block.reshape(count, length)


def _map_over_runs(one_run: Callable[..., PyTree], *runs: PyTree) -> PyTree:
    """Compute all runs together, or on a CPU, where nothing is gained by that, one after the other."""
    if local_backend().execution == "map":
        return lax.map(lambda run: one_run(*run), runs)
    return jax.vmap(one_run)(*runs)


@partial(jit_local, static_argnums=(0, 1, 2, 3, 4, 5))
def _count_windows(
    config: ForecastConfig,
    n_units: int,
    n_blocks: int,
    ahead: int,
    shared: bool,
    two_parts: bool,
    parameters: ForecastParameters,
    windows: tuple[Array, Array],
) -> tuple[StreamingCounts, ...]:
    """Count the outcomes of all runs on windows that they share, or that have a run axis; on request, of the networks alone too."""

    def one_run(parameters: ForecastParameters, windows: tuple[Array, Array]) -> tuple[StreamingCounts, ...]:
        def one_window(
            carry: tuple[ForecastState, tuple[StreamingCounts, ...]], window: tuple[Array, Array]
        ) -> tuple[tuple[ForecastState, tuple[StreamingCounts, ...]], None]:
            state, counts = carry
            bins = unpack_bits(window[0], n_units)
            logits, state = forecast_parts(config, parameters, bins[:-1], state)
            target = bins[ahead : ahead + config.length].astype(jnp.int32)
            parts = zip(counts, logits, strict=False)
            return (state, tuple(add_bins(part, values, target, window[1]) for part, values in parts)), None

        empty = tuple(empty_counts(n_blocks, n_units) for _ in range(1 + two_parts))
        return lax.scan(one_window, (initial_state(config, parameters.variables, n_units), empty), windows)[0][1]

    if shared:
        return _map_over_runs(lambda run: one_run(run, windows), parameters)
    return _map_over_runs(one_run, parameters, windows)


@partial(jit_local, static_argnums=(0, 1))
def _logits_of_windows(
    config: ForecastConfig, n_units: int, parameters: ForecastParameters, windows: Array
) -> Float[Array, "run time unit"]:
    def one_run(parameters: ForecastParameters) -> Array:
        def one_window(state: ForecastState, window: Array) -> tuple[ForecastState, Array]:
            logits, state = forecast(config, parameters, unpack_bits(window[:-1], n_units), state)
            return state, logits

        initial = initial_state(config, parameters.variables, n_units)
        return lax.scan(one_window, initial, windows)[1].reshape(-1, n_units)

    return _map_over_runs(one_run, parameters)
