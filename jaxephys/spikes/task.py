"""The spike task: what binds recordings, network and loss into the five functions that the engine trains.

A row is a window of one recording: ``length`` bins go in, and of each the bin after it is asked. Windows lie on a grid from
the recording's first bin, so that the state of the history filters before each of them can stand on the device: a window
begins with all of its true past. Runs differ in the recording that they learn from, in loss, and in seed.

Spikes are rare, and most bins say the same. A network that can be asked for chosen cells is trained on some of each window:
a part of them spikes, a part drawn by rate, a part evenly, each counted by one over the probability of having been drawn
(the balance heuristic of Veach 1995), so that the loss is that of all cells, without bias.

The legacy network is shown the bin that it is asked for, as published: a reconstruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt

from jaxephys.dimensions import AnyArray
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import Key, RowSet, RunInputs, Task, Variables
from jaxephys.schemas.recording import Recording, checkpoints, unpack
from jaxephys.spikes import losses
from jaxephys.spikes.history import History
from jaxephys.spikes.network import Cells, Memory, PopulationTransformer, PublishedLayer
from jaxephys.spikes.streaming_scores import LONGEST_ALARM, PLACES, place_of

LENGTH = 512  # bins of a window
CELLS = 1024  # of a window that the loss is taken over
SHARES = (0.25, 0.5)  # of these that are spikes, and that are drawn by rate; the rest evenly
GROUP = 4  # validation windows that are read at once
KINDS = tuple(losses.LOSSES)


@dataclass(frozen=True)
class Objective:
    """What is minimised. Runs of one program may differ in it."""

    loss: str = "bce"
    gamma: float = 2.0  # of the focal loss
    alpha: float | None = None  # of the focal loss: weight of a spike against that of none
    mix: float = 0.5  # share of Dice in dice_bce

    def __post_init__(self) -> None:
        if self.loss not in KINDS:
            raise ValueError(f"loss {self.loss!r} is unknown: choose one of {', '.join(KINDS)}")


class SpikeData(NamedTuple):
    """All recordings, packed; and the history before each window of each, for networks that have filters."""

    packed: UInt[AnyArray, "recording all byte"]
    history: History | None  # with leading axes recording and window


class SpikeConstants(NamedTuple):
    """Of one run."""

    source: Int[AnyArray, "*run"]  # the recording that it learns from
    loss: Int[AnyArray, "*run"]  # its place in `kinds_of` the objectives
    gamma: Float[AnyArray, "*run"]
    alpha: Float[AnyArray, "*run"]  # focal: of a spike, and 1 - alpha of none; below 0 both count 1
    mix: Float[AnyArray, "*run"]


class SpikeBatch(NamedTuple):
    spikes: Float[Array, "row time unit"]
    target: Float[Array, "row *rest"]  # time x unit, or the chosen cells
    counted: Float[Array, "row *rest"]  # how many cells each stands for
    fired: Float[Array, "row unit"]  # spikes in the window, of all cells
    memory: Memory | None
    chosen: Cells | None
    constants: SpikeConstants


def make_data(recordings: Sequence[Recording], network: nn.Module, length: int = LENGTH) -> SpikeData:
    """Recordings of equally many units; the shorter ones are followed by silence, which no window reaches.

    ``network``, here and in the task: any module of the form that ``transformer`` describes, an altered one too.
    """
    units = {recording.units for recording in recordings}
    if len(units) != 1:
        raise ValueError(f"recordings of {sorted(units)} units cannot be trained as one program: give equally many")
    longest = max(max(len(recording) for recording in recordings), length + 1)
    packed = np.stack([np.pad(part.packed, ((0, longest - len(part)), (0, 0))) for part in recordings])
    filters = getattr(network, "filters", None)
    if filters is None:
        return SpikeData(packed, None)
    of_one = jax.jit(lambda packed: checkpoints(filters, packed, units.pop(), length))
    history = [jax.device_get(of_one(part)) for part in packed]
    return SpikeData(packed, jax.tree.map(lambda *leaves: np.stack(leaves), *history))


def windows_of(recording: Recording, split: str, length: int) -> Int[np.ndarray, "some"]:
    """The numbers of the windows all of whose predicted bins lie in the split. Window k begins with bin k length."""
    start, stop = recording.span(split)
    first = -(-max(start - 1, 0) // length)
    last = (stop - 1) // length  # window k asks for bins up to (k + 1) length
    if last <= first:
        raise ValueError(
            f"no window of {length} bins lies in {split} of {recording.name}, [{start}, {stop}): choose a shorter length"
        )
    return np.arange(first, last, dtype=np.int32)


def make_runs(
    recordings: Sequence[Recording],
    sources: Sequence[int],
    objectives: Sequence[Objective],
    length: int = LENGTH,
    *,
    batch_size: int,
    most_validation: int = 64,
) -> RunInputs:
    """A run a source. Epochs have whole batches, the same for all: some windows of a shorter recording come twice.

    At most so many validation windows, evenly spread, select the epoch: they are only compared with one another.
    """
    training = [windows_of(recordings[source], "train", length) for source in sources]
    whole = -(-max(len(some) for some in training) // batch_size) * batch_size
    validation = [windows_of(recordings[source], "validation", length) for source in sources]
    spread = [np.linspace(0, len(some) - 1, min(len(some), most_validation)).astype(int) for some in validation]
    constants = [
        SpikeConstants(
            np.int32(source),
            np.int32(kinds_of(objectives).index(objective.loss)),
            np.float32(objective.gamma),
            np.float32(-1 if objective.alpha is None else objective.alpha),
            np.float32(objective.mix),
        )
        for source, objective in zip(sources, objectives, strict=True)
    ]
    return RunInputs(
        stack_rows([plain_rows(np.resize(some, whole)) for some in training]),
        stack_rows([plain_rows(some[few]) for some, few in zip(validation, spread, strict=True)]),
        jax.tree.map(lambda *leaves: np.stack(leaves), *constants),
    )


def kinds_of(objectives: Sequence[Objective]) -> tuple[str, ...]:
    return tuple(sorted({objective.loss for objective in objectives}))


def make_task(
    network: nn.Module,
    units: int,
    objectives: Sequence[Objective] = (Objective(),),
    length: int = LENGTH,
    cells: int | None = CELLS,
) -> Task:
    """``objectives`` are those of the runs. ``cells``: of a window that the loss is taken over; None for all, as it is
    for a network that has no readout of cells."""
    kinds = kinds_of(objectives)
    sampled = (cells or 0) if isinstance(network, PopulationTransformer) else 0
    legacy = isinstance(network, PublishedLayer) and network.legacy

    def init(key: Key) -> Variables:
        return dict(network.init(key, jnp.zeros((min(length, 8), units))))

    def gather(data: SpikeData, constants: SpikeConstants, rows: RowSet, key: Key | None) -> SpikeBatch:
        packed = data.packed[constants.source]
        bits = jax.vmap(lambda row: lax.dynamic_slice_in_dim(packed, row * length, length + 1))(rows.index)
        bins = unpack(bits, units)
        spikes, target = (bins[:, 1:] if legacy else bins[:, :-1]), bins[:, 1:]
        fired = jnp.sum(target, axis=1) * rows.weight[:, None]
        history = jax.tree.map(lambda leaf: leaf[constants.source, rows.index], data.history)
        memory = None if data.history is None else Memory(history)
        chosen, counted = None, rows.weight[:, None, None]
        if sampled:
            base = jax.random.key(0) if key is None else key  # validation asks the same cells in every epoch
            which = rows.index if key is None else jnp.arange(len(rows.index))
            keys = jax.vmap(jax.random.fold_in, (None, 0))(base, which)
            chosen, counted = jax.vmap(lambda key, bins: choose_cells(key, bins, sampled))(keys, target)
            target = jax.vmap(lambda bins, some: bins[some.bin, some.unit])(target, chosen)
            counted = counted * rows.weight[:, None]
        counted = jnp.broadcast_to(counted, target.shape)
        return SpikeBatch(spikes, target, counted, fired, memory, chosen, constants)

    def say(variables: Variables, batch: SpikeBatch, key: Key | None) -> Array:
        def one(spikes: Array, memory: Memory | None, chosen: Cells | None, key: Key | None) -> Array:
            given: dict[str, Any] = {} if chosen is None else {"chosen": chosen}
            noise: dict[str, Any] = {} if key is None else {"train": True, "rngs": {"dropout": key}}
            said: Any = network.apply(variables, spikes, memory, **given, **noise)
            return said[0]

        keys = None if key is None else jax.random.split(key, len(batch.spikes))
        return jax.vmap(one)(batch.spikes, batch.memory, batch.chosen, keys)

    def loss(variables: Variables, batch: SpikeBatch, key: Key) -> tuple[Array, tuple[dict, dict[str, Array]]]:
        return objective_of(kinds, say(variables, batch, key), batch), ({}, {})

    def outputs(variables: Variables, batch: SpikeBatch) -> Array:
        return say(variables, batch._replace(chosen=None), None)

    def validate(variables: Variables, data: SpikeData, constants: SpikeConstants, rows: RowSet) -> dict[str, Array]:
        def add(total: Seen, some: RowSet) -> tuple[Seen, None]:
            batch = gather(data, constants, some, None)
            return jax.tree.map(jnp.add, total, seen(kinds, say(variables, batch, None), batch)), None

        blank = -len(rows.index) % GROUP  # rows of weight 0
        groups = jax.tree.map(lambda column: jnp.pad(column, (0, blank)).reshape(-1, GROUP), rows)
        return scores_of(lax.scan(add, nothing_seen(units), groups)[0])

    return Task(init, gather, loss, outputs, validate)


def objective_of(kinds: Sequence[str], logits: Float[Array, "row *rest"], batch: SpikeBatch) -> Float[Array, ""]:
    """The run's own loss. Only one of the branches is computed where runs go one after the other."""
    run, target, counted = batch.constants, batch.target, batch.counted
    spiking = target * run.alpha + (1 - target) * (1 - run.alpha)
    focal_counted = jnp.where(run.alpha < 0, 1.0, spiking)
    whole = jnp.maximum(jnp.sum(counted), 1e-9)
    branches = {
        "bce": lambda: losses.bce(logits, target, counted=counted),
        "focal": lambda: (
            losses.focal(logits, target, run.gamma, counted=counted * focal_counted)
            * (jnp.sum(counted * focal_counted) / whole)
        ),
        "dice": lambda: losses.dice(logits, target, counted=counted),
        "dice_bce": lambda: losses.dice_bce(logits, target, run.mix, counted=counted),
        "published_dice": lambda: losses.published_dice(logits, target, counted=counted),
    }
    return lax.switch(run.loss, [branches[kind] for kind in kinds])


def choose_cells(key: Key, target: Float[Array, "time unit"], count: int) -> tuple[Cells, Float[Array, "some"]]:
    """Cells drawn in three ways, and how many cells each of them stands for: the sum of these is the size of the window.

    With n_k draws of the k-th way, which draws cell i with probability q_k(i), a cell counts 1 / sum_k n_k q_k(i).
    """
    bins, units = target.shape
    of_spikes, by_rate = (int(share * count) for share in SHARES)
    evenly = count - of_spikes - by_rate
    luck = jnp.split(jax.random.uniform(key, (count + by_rate,)), [of_spikes, of_spikes + by_rate, count])
    order = jnp.cumsum(target.reshape(-1).astype(jnp.int32))
    spikes = order[-1]
    fired = jnp.searchsorted(order, (luck[0] * spikes).astype(jnp.int32), side="right")
    rate = (jnp.sum(target, axis=0) + 1) / (spikes + units)
    unit = jnp.minimum(jnp.searchsorted(jnp.cumsum(rate), luck[1]), units - 1)
    busy = (luck[3] * bins).astype(jnp.int32) * units + unit
    even = (luck[2] * (bins * units)).astype(jnp.int32)
    cell = jnp.minimum(jnp.concatenate([fired, busy, even]), bins * units - 1)
    where = Cells(cell // units, cell % units)
    seen = target[where.bin, where.unit]
    drawn = of_spikes * seen / jnp.maximum(spikes, 1) + by_rate * rate[where.unit] / bins + evenly / (bins * units)
    nobody = (jnp.arange(count) < of_spikes) & (spikes == 0)
    return where, jnp.where(nobody, 0.0, 1 / drawn)


class Seen(NamedTuple):
    """Sums over validation windows."""

    places: Float[Array, "place 2"]  # cells without and with a spike, by logit
    loss: Float[Array, ""]  # nats
    objective: Float[Array, ""]
    cells: Float[Array, ""]
    fired: Float[Array, "unit"]
    windows: Float[Array, ""]


def nothing_seen(units: int) -> Seen:
    zero = jnp.zeros(())
    return Seen(jnp.zeros((PLACES, 2)), zero, zero, zero, jnp.zeros(units), zero)


def seen(kinds: Sequence[str], logits: Float[Array, "row *rest"], batch: SpikeBatch) -> Seen:
    target, counted = batch.target, batch.counted
    nats = jax.nn.softplus(logits) - target * logits
    cell = 2 * place_of(logits, PLACES) + target.astype(jnp.int32)
    count = jnp.zeros(2 * PLACES).at[cell.reshape(-1)].add(counted.reshape(-1))
    windows = jnp.sum(jnp.any(counted.reshape(len(counted), -1) > 0, axis=1))
    return Seen(
        count.reshape(PLACES, 2),
        jnp.sum(nats * counted),
        objective_of(kinds, logits, batch) * windows,
        jnp.sum(counted),
        jnp.sum(batch.fired, axis=0),
        windows.astype(jnp.float32),
    )


def scores_of(total: Seen) -> dict[str, Array]:
    """Of the validation windows: what the Tally of a forecast says in full, here for the curves over epochs.

    The accuracies are those at the published threshold: the best recall less false alarms among those with at most
    5 false alarms in 1,000 silences.
    """
    silent, spiking = total.places[::-1, 0], total.places[::-1, 1]  # from the highest logit down
    alarms, hits = jnp.cumsum(silent), jnp.cumsum(spiking)
    spikes, silences = jnp.maximum(hits[-1], 1e-9), jnp.maximum(alarms[-1], 1e-9)
    false = alarms / silences
    best = jnp.argmax(jnp.where(false <= LONGEST_ALARM, hits / spikes - false, -jnp.inf))
    rate = jnp.clip(total.fired * len(total.fired) / jnp.maximum(total.cells, 1), 1e-6, 1 - 1e-6)
    bins = total.cells / len(total.fired)
    null = -jnp.sum(total.fired * jnp.log(rate) + (bins - total.fired) * jnp.log1p(-rate))
    return {
        "objective": total.objective / jnp.maximum(total.windows, 1),
        "loss": total.loss / jnp.maximum(total.cells, 1),
        "bits_per_spike": (null - total.loss) / jnp.log(2) / jnp.maximum(total.fired.sum(), 1),
        "roc_auc": jnp.sum(silent * (hits - spiking / 2)) / spikes / silences,
        "average_precision": jnp.sum(spiking * hits / jnp.maximum(hits + alarms, 1e-9)) / spikes,
        "accuracy_on_0": 1 - false[best],
        "accuracy_on_1": hits[best] / spikes,
        "accuracy": (silences - alarms[best] + hits[best]) / (silences + spikes),
    }
