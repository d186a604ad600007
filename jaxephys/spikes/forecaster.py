"""Forecaster: trained networks as they are used. Calibrated, mixed with plainer experts, streamed over a recording.

Everything that is said of a recording goes through ``forecast``, which carries a state from window to window: the scores, the
probabilities, the spikes that are generated and the leak test all speak of the same compiled function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import expit

from jaxephys.dimensions import AnyArray
from jaxephys.engine.task import Variables
from jaxephys.schemas.recording import Recording, unpack
from jaxephys.spikes.causality import Leak, check_causal, measure_leak
from jaxephys.spikes.expert_mixture import Earned, experts, mix, nothing_earned
from jaxephys.spikes.history import no_history, read, trace
from jaxephys.spikes.linear_expert import fit_line, running_rate_line
from jaxephys.spikes.network import Memory, Network, PopulationTransformer, PublishedLayer
from jaxephys.spikes.streaming_scores import PLACES, Tally, empty_tally, fold, logit_of

WARM_UP = 10_000  # bins before the scored ones that are read
BLOCKS = 20  # of time, for the bootstrap
LEAK_BINS = 160


class Fitted(NamedTuple):
    """What a run has come to: logits are ``scale * network + shift``. The line is the mixture's; none where nothing is mixed."""

    variables: Variables
    scale: Float[AnyArray, "*run"]
    shift: Float[AnyArray, "*run"]
    line: Float[AnyArray, "*run weight"]

    @classmethod
    def of(cls, network: Network, variables: Variables) -> Fitted:
        """Networks as trained, before calibration."""
        runs = len(jax.tree.leaves(variables)[0])
        line = running_rate_line(network.filters) if isinstance(network, PopulationTransformer) else np.zeros(0)
        return cls(
            variables, np.ones(runs, np.float32), np.zeros(runs, np.float32), np.tile(np.float32(line), (runs, 1))
        )


class State(NamedTuple):
    memory: Memory
    earned: Earned | None


@dataclass(frozen=True)
class Manner:
    """How networks are read: the part that does not differ between runs."""

    network: Network
    adaptive: bool = True  # mix in the plainer experts; only where the network has history filters
    length: int = 1024  # bins of a window. A network without a window of its own forgets all at its end

    @property
    def mixes(self) -> bool:
        return self.adaptive and isinstance(self.network, PopulationTransformer)

    @property
    def same_bin(self) -> bool:
        """Whether the network speaks of the bin that it is shown: a reconstruction, no forecast."""
        return isinstance(self.network, PublishedLayer) and self.network.legacy


def begin(manner: Manner, variables: Variables, units: int) -> State:
    """Before the first bin of a stream."""
    network = manner.network
    one_bin = jax.ShapeDtypeStruct((1, units), jnp.float32)
    _, shapes = jax.eval_shape(lambda v, x: network.apply(v, x), variables, one_bin)
    memory: Memory = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    if not isinstance(network, PopulationTransformer):
        return State(memory, None)
    earned = nothing_earned(network.filters, units) if manner.mixes else None
    return State(memory._replace(history=no_history(network.filters, units)), earned)


def forecast(
    manner: Manner, fitted: Fitted, spikes: Float[AnyArray, "time unit"], state: State
) -> tuple[Float[Array, "time unit"], State]:
    """Row t: the logits of bin t + 1, by one run."""
    network = manner.network
    said: Any = network.apply(fitted.variables, spikes, state.memory)
    logits, memory = fitted.scale * said[0] + fitted.shift, said[1]
    if state.earned is None or not isinstance(network, PopulationTransformer):
        return logits, State(memory, None)
    # The compiler sees that the network has read the same states.
    assert state.memory.history is not None
    reading = read(network.filters, trace(network.filters, state.memory.history, spikes))
    logits, earned = mix(state.earned, experts(network.filters, reading, logits, fitted.line), spikes)
    return logits, State(memory, earned)


@dataclass(frozen=True)
class Forecaster:
    """Runs, side by side."""

    manner: Manner
    fitted: Fitted

    @classmethod
    def of(cls, network: Network, variables: Variables, *, adaptive: bool = True, length: int = 1024) -> Forecaster:
        """Networks as trained, before calibration."""
        return cls(Manner(network, adaptive, length), Fitted.of(network, variables))

    def __len__(self) -> int:
        return len(self.fitted.scale)

    def plain(self) -> Forecaster:
        """The networks alone, without the mixture."""
        return replace(self, manner=replace(self.manner, adaptive=False))

    def tally(
        self,
        recording: Recording,
        span: tuple[int, int] | None = None,
        *,
        warm_up: int = WARM_UP,
        blocks: int = BLOCKS,
        places: int = PLACES,
        same_bin: bool | None = None,
    ) -> Tally:
        """Counts of every run on ``span``, the test bins unless told, after a look at the ``warm_up`` bins before it.

        No run is shown more of a recording than that. ``same_bin`` scores the bin that is shown, as the published code
        does; a network that was trained so is, unless told otherwise.
        """
        start, stop = recording.span("test") if span is None else span
        first = max(start - warm_up, 0)
        same = self.manner.same_bin if same_bin is None else same_bin
        block = np.full(stop - first, -1, np.int32)
        block[start - first :] = np.arange(stop - start) * blocks // (stop - start)
        windows = _windows(recording.packed[first:stop], block, self.manner.length, same)
        return _tally_of(self.manner, recording.units, (blocks, places), self.fitted, windows, 0 if same else 1)

    def logits(
        self, recording: Recording, start: int, stop: int, *, past: int = WARM_UP
    ) -> Float[np.ndarray, "run time unit"]:
        """Of bins [start, stop), after a look at up to ``past`` bins before them. A recording's first bin has no logit: nan."""
        first = max(start - past - 1, 0)
        blank = np.zeros(stop - first, np.int32)
        windows = _windows(recording.packed[first:stop], blank, self.manner.length, self.manner.same_bin)
        said = np.asarray(_logits(self.manner, recording.units, self.fitted, windows))
        if not self.manner.same_bin:
            said = np.concatenate([np.full_like(said[:, :1], np.nan), said], axis=1)
        return said[:, start - first : stop - first]

    def calibrated(
        self, recordings: Sequence[Recording], sources: Sequence[int], *, bins: int, progress: bool = False
    ) -> Forecaster:
        """Scale and shift of each run, from validation bins of ``recordings[source]``, which it has learnt from.

        For a Dice or focal loss logits only rank; for BCE little is left to do. The mixture comes after: its experts are
        to be probabilities. Its line is fitted here too, on the training bins.
        """
        tallies = self.plain().on_validation(recordings, sources, bins=bins)
        found = [fit_scale_and_shift(np.asarray(tally.count).sum((0, 1))) for tally in tallies]
        scale, shift = np.array(found, np.float32).T
        fitted, network = self.fitted._replace(scale=scale, shift=shift), self.manner.network
        if self.manner.mixes and isinstance(network, PopulationTransformer):
            bar = track(dict.fromkeys(sources), "lines", disable=not progress, transient=True)
            lines = {source: fit_line(network.filters, recordings[source]) for source in bar}
            fitted = fitted._replace(line=np.stack([lines[source] for source in sources]))
        return replace(self, fitted=fitted)

    def on_validation(self, recordings: Sequence[Recording], sources: Sequence[int], *, bins: int) -> list[Tally]:
        """Of each run on its own recording: the first ``bins`` validation bins."""
        tallies = []
        for run, source in enumerate(sources):
            start, stop = recordings[source].span("validation")
            tally = self.only(run).tally(recordings[source], (start, min(stop, start + bins)), blocks=2)
            tallies.append(run_of(tally, 0))
        return tallies

    def only(self, run: int) -> Forecaster:
        return replace(self, fitted=jax.tree.map(lambda leaf: np.asarray(leaf)[run : run + 1], self.fitted))

    def leak(self, recording: Recording, run: int = 0) -> Leak:
        """The leak test of this very function, behind a memory, on the recording's first bins.

        A network that is to be causal and is not is an error; one that is shown the bin it tells must leak, and is told so.
        """
        bins = recording.bits(0, min(2 * LEAK_BINS, len(recording))).astype(np.float32)
        fitted = jax.tree.map(lambda leaf: jnp.asarray(leaf[run]), self.fitted)
        run_once = jax.jit(partial(forecast, self.manner))
        state = begin(self.manner, fitted.variables, recording.units)
        past, now = np.array_split(bins, 2)
        _, state = run_once(fitted, past, state)
        test = measure_leak if self.manner.same_bin else check_causal
        return test(lambda spikes: run_once(fitted, spikes, state)[0], now)


def run_of(tally: Tally, run: int) -> Tally:
    """Of one run, on the host."""
    return Tally(*(np.asarray(part[run]) for part in tally))


class Windows(NamedTuple):
    packed: UInt[AnyArray, "all byte"]
    block: Int[AnyArray, "window time"]  # of the bins that are asked for


def _windows(packed: np.ndarray, block: np.ndarray, length: int, same_bin: bool) -> Windows:
    """Whole windows; what is asked for beyond the end has no block. One bin more than they hold: the last that is asked for."""
    ahead = 0 if same_bin else 1
    count = -(-(len(packed) - ahead) // length)
    total = count * length
    packed = np.pad(packed, ((0, total + 1 - len(packed)), (0, 0)))
    asked = np.pad(block[ahead:], (0, total + ahead - len(block)), constant_values=-1)
    return Windows(packed, asked.reshape(count, length))


def _bins(windows: Windows, units: int, k: Int[Array, ""], ahead: int) -> tuple[Array, Array]:
    length = windows.block.shape[1]
    bins = unpack(lax.dynamic_slice_in_dim(windows.packed, k * length, length + 1), units)
    return bins[:-1], bins[ahead : ahead + length]


def _over_runs(one: Any, fitted: Fitted) -> Any:
    """One after the other on a CPU, where side by side gains nothing."""
    return lax.map(one, fitted) if jax.default_backend() == "cpu" else jax.vmap(one)(fitted)


@partial(jax.jit, static_argnums=(0, 1, 2, 5))
def _tally_of(manner: Manner, units: int, size: tuple[int, int], fitted: Fitted, windows: Windows, ahead: int) -> Tally:
    def one(fitted: Fitted) -> Tally:
        def window(carry: tuple[State, Tally], k: Array) -> tuple[tuple[State, Tally], None]:
            state, tally = carry
            spikes, target = _bins(windows, units, k, ahead)
            logits, state = forecast(manner, fitted, spikes, state)
            return (state, fold(tally, logits, target.astype(jnp.int32), windows.block[k])), None

        start = begin(manner, fitted.variables, units), empty_tally(size[0], units, size[1])
        return lax.scan(window, start, jnp.arange(len(windows.block)))[0][1]

    return _over_runs(one, fitted)


@partial(jax.jit, static_argnums=(0, 1))
def _logits(manner: Manner, units: int, fitted: Fitted, windows: Windows) -> Float[Array, "run time unit"]:
    def one(fitted: Fitted) -> Array:
        def window(state: State, k: Array) -> tuple[State, Array]:
            logits, state = forecast(manner, fitted, _bins(windows, units, k, 0)[0], state)
            return state, logits

        said = lax.scan(window, begin(manner, fitted.variables, units), jnp.arange(len(windows.block)))[1]
        return said.reshape(-1, units)

    return _over_runs(one, fitted)


def fit_scale_and_shift(count: Float[np.ndarray, "place 2"] | Int[np.ndarray, "place 2"]) -> tuple[float, float]:
    """a > 0 and b that minimise the log loss of ``a logit + b`` on a histogram of logits: Platt's two numbers."""
    used = count.sum(axis=1) > 0
    logit = logit_of(np.arange(len(count)) + 0.5, len(count))[used]
    silent, spiking = count[used, 0].astype(float), count[used, 1].astype(float)
    if spiking.sum() == 0:
        return 1.0, 0.0
    total = silent.sum() + spiking.sum()

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = np.exp(x[0]), x[1]
        z = a * logit + b
        error = (expit(z) * (silent + spiking) - spiking) / total
        value = (np.logaddexp(0, z) @ silent + np.logaddexp(0, -z) @ spiking) / total
        return float(value), np.array([error @ logit * a, error.sum()])

    found = minimize(loss, np.zeros(2), jac=True, method="BFGS")
    return float(np.exp(found.x[0])), float(found.x[1])
