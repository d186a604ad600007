"""The training task: connects recordings, network and loss to the engine.

A row is a window of one recording: ``length`` bins are the input, and the bin after each of them is the target. Runs differ in
the recording that they are trained on, in the loss, and in the seed.

Spikes are rare, and most bins carry the same information. A network that supports it is therefore trained on a sample of each
window's (bin, unit) entries: one part are spikes, one part is drawn in proportion to the rates, one part evenly. Each entry is
weighted by the inverse of its probability (the balance heuristic of Veach 1995), so that the loss is an unbiased estimate of
the loss over all entries.

A reconstruction (the published network in its legacy form) gets the target bin itself as input, as in the published code.
Start with :func:`make_run_inputs` and :class:`SpikeTask`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import Backend, Key, RowSet, RunInputs, Task, Variables
from jaxephys.schemas.recording import Recording
from jaxephys.spikes import losses
from jaxephys.spikes.backend import form_for_backend, network_for_backend
from jaxephys.spikes.network import Entries, Memory, SpikeNetwork
from jaxephys.spikes.preprocessing import SpikeData, unpack_bits
from jaxephys.spikes.streaming_scores import (
    HISTOGRAM_BINS,
    MAX_FALSE_POSITIVE_RATE,
    count_indices,
    histogram_bin,
    weighted_histogram,
)

LENGTH = 512  # bins of a window
N_ENTRIES = 1024  # (bin, unit) entries of a window that the loss is computed on
# Shares of the entries that are spikes, and that are drawn in proportion to the rates; the rest is drawn evenly.
SPIKE_SHARE, RATE_SHARE = 0.25, 0.5
MAX_VALIDATION_WINDOWS = 64  # validation windows that select the epoch, at most
VALIDATION_BATCH = 4  # validation windows that are computed at once
LOSS_NAMES = tuple(losses.LOSSES)
# Constants of a run that each loss uses.
SEARCHABLE = {
    "bce": (),
    "focal": ("gamma", "alpha"),
    "dice": ("smooth",),
    "dice_bce": ("dice_share", "smooth"),
    "published_dice": (),
}


@dataclass(frozen=True)
class Objective:
    """The loss of a run. Runs of one program may have different ones.

    Parameters
    ----------
    loss : {"bce", "focal", "dice", "dice_bce", "published_dice"}
        Name of the loss.
    gamma : float
        Exponent of the focal loss.
    alpha : float, optional
        Weight of a spike in the focal loss, ``1 - alpha`` being that of a silent bin; by default both have 1.
    dice_share : float
        Weight of Dice in ``dice_bce``.
    smooth : float
        Smoothing of Dice in ``dice`` and ``dice_bce``, in spikes.

    Raises
    ------
    ValueError
        If the loss is unknown, or has no such parameter as one that is given.

    Examples
    --------
    >>> Objective("focal", gamma=1.0).gamma
    1.0
    >>> Objective("bce", gamma=1.0)
    Traceback (most recent call last):
    ...
    ValueError: gamma is 1.0, but the loss 'bce' has none: leave it out, or choose focal
    """

    loss: str = "bce"
    gamma: float = 2.0
    alpha: float | None = None
    dice_share: float = 0.5
    smooth: float = losses.SMOOTH

    def __post_init__(self) -> None:
        if self.loss not in LOSS_NAMES:
            raise ValueError(f"loss {self.loss!r} is unknown: choose one of {', '.join(LOSS_NAMES)}")
        for name in ("gamma", "alpha", "dice_share", "smooth"):
            if getattr(self, name) != getattr(type(self), name) and name not in SEARCHABLE[self.loss]:
                others = " or ".join(loss for loss, options in SEARCHABLE.items() if name in options)
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but the loss {self.loss!r} has none: leave it out, or choose {others}"
                )


def saved_objective(loss: str, **options: Any) -> Objective:
    """Return the loss of a saved model. Earlier versions saved options without effect on the loss, which are left out.

    Parameters
    ----------
    loss : str
        Name of the loss.
    **options
        Options of `Objective`.

    Returns
    -------
    Objective
        The loss.
    """
    return Objective(loss, **{name: value for name, value in options.items() if name in SEARCHABLE[loss]})


class SpikeConstants(NamedTuple):
    """Numbers in which runs differ, one of each per run.

    Parameters
    ----------
    source : int array of shape (runs,)
        Index of the recording that the run is trained on.
    loss : int array of shape (runs,)
        Index of the loss among `loss_names` of all objectives.
    gamma : float array of shape (runs,)
        As in `Objective`.
    alpha : float array of shape (runs,)
        As in `Objective`; below 0 spikes and silent bins both have weight 1.
    dice_share, smooth : float array of shape (runs,)
        As in `Objective`.
    dropout : float array of shape (runs,)
        Dropout rate of the run, below 1; a negative number means the rate of the network. A network whose rate is 0 has no dropout.
    density : float array of shape (runs,)
        Share of spikes in the training bins of the run, which the published Dice loss uses.
    """

    source: Int[AnyArray, "*run"]
    loss: Int[AnyArray, "*run"]
    gamma: Float[AnyArray, "*run"]
    alpha: Float[AnyArray, "*run"]
    dice_share: Float[AnyArray, "*run"]
    smooth: Float[AnyArray, "*run"]
    dropout: Float[AnyArray, "*run"]
    density: Float[AnyArray, "*run"]


class SpikeBatch(NamedTuple):
    """A batch of windows.

    Parameters
    ----------
    spikes : float array of shape (rows, bins, units)
        Input.
    target : float array of shape (rows, bins, units) or (rows, entries)
        Bins after those of the input; for sampled entries only these.
    weights : float array of the shape of ``target``
        Weight of each entry: the number of entries of the window that it represents; 0 for padding.
    spike_counts : float array of shape (rows, units)
        Spikes of each unit among all targets of the window.
    memory : Memory or None
        State of the network before each window.
    entries : Entries or None
        Sampled entries, with a leading row axis.
    constants : SpikeConstants
        Constants of the run.
    """

    spikes: Float[Array, "row time unit"]
    target: Float[Array, "row *rest"]
    weights: Float[Array, "row *rest"]
    spike_counts: Float[Array, "row unit"]
    memory: Memory | None
    entries: Entries | None
    constants: SpikeConstants


def make_run_inputs(
    recordings: Sequence[Recording],
    sources: Sequence[int],
    objectives: Sequence[Objective],
    length: int = LENGTH,
    *,
    batch_size: int,
    whole_batches: bool = True,
) -> RunInputs:
    """Make the row tables and constants of all runs.

    Validation windows, at most `MAX_VALIDATION_WINDOWS`, are evenly spread over the split.

    Parameters
    ----------
    recordings : sequence of Recording
        Recordings, as given to `make_data`.
    sources : sequence of int
        For each run the index of its training recording.
    objectives : sequence of Objective
        For each run its loss.
    length : int
        Bins of a window.
    batch_size : int
        Windows of an optimizer step.
    whole_batches : bool
        Epochs have whole batches and the same number for all runs, so that some windows of a shorter recording come twice. False: every
        window comes once, and the last batch may be smaller.

    Returns
    -------
    RunInputs
        Rows are windows.
    """
    training, validation = (
        [window_indices(recordings[source], split, length) for source in sources] for split in ("train", "validation")
    )
    if whole_batches:
        n_rows = -(-max(len(windows) for windows in training) // batch_size) * batch_size
        training = [np.resize(windows, n_rows) for windows in training]
    spread = [np.linspace(0, len(windows) - 1, min(len(windows), MAX_VALIDATION_WINDOWS)) for windows in validation]
    names, densities = loss_names(objectives), {source: _density(recordings[source]) for source in set(sources)}
    constants = SpikeConstants(
        np.array(sources, np.int32),
        np.array([names.index(objective.loss) for objective in objectives], np.int32),
        np.array([objective.gamma for objective in objectives], np.float32),
        np.array([-1 if objective.alpha is None else objective.alpha for objective in objectives], np.float32),
        np.array([objective.dice_share for objective in objectives], np.float32),
        np.array([objective.smooth for objective in objectives], np.float32),
        np.full(len(objectives), -1, np.float32),
        np.array([densities[source] for source in sources], np.float32),
    )
    train_rows = [plain_rows(windows) for windows in training]
    selecting = [windows[chosen.astype(int)] for windows, chosen in zip(validation, spread, strict=True)]
    validation_rows = [plain_rows(windows) for windows in selecting]
    return RunInputs(stack_rows(train_rows), stack_rows(validation_rows), constants)


def _density(recording: Recording) -> float:
    """Return the share of spikes in the training bins."""
    start, stop = recording.span("train")
    return float(recording.counts("train").sum()) / ((stop - start) * recording.units)


def window_indices(recording: Recording, split: str, length: int) -> Int[np.ndarray, "window"]:
    """Return the windows whose predicted bins all lie in a split.

    Parameters
    ----------
    recording : Recording
        The recording.
    split : {"train", "validation", "test"}
        Name of the split.
    length : int
        Bins of a window.

    Returns
    -------
    int32 array of shape (windows,)
        Numbers k of the windows; window k begins with bin ``k length``.

    Raises
    ------
    ValueError
        If the split is shorter than a window.
    """
    start, stop = recording.span(split)
    first = -(-max(start - 1, 0) // length)
    last = (stop - 1) // length  # window k predicts bins up to (k + 1) length
    if last <= first:
        raise ValueError(
            f"no window of {length} bins lies in {split} of {recording.name}, [{start}, {stop}): choose a shorter length"
        )
    return np.arange(first, last, dtype=np.int32)


def loss_names(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """Return the names of the losses that occur, sorted.

    Parameters
    ----------
    objectives : sequence of Objective
        Losses of all runs.

    Returns
    -------
    tuple of str
        Each name once.
    """
    return tuple(sorted({objective.loss for objective in objectives}))


def make_task(
    network: SpikeNetwork,
    n_units: int,
    objectives: Sequence[Objective] = (Objective(),),
    length: int = LENGTH,
    n_entries: int | None = N_ENTRIES,
) -> Task:
    """Make the task of a grid for the engine.

    Parameters
    ----------
    network : SpikeNetwork
        The network that all runs train.
    n_units : int
        Units of the recordings.
    objectives : sequence of Objective
        Losses of the runs.
    length : int
        Bins of a window.
    n_entries : int or None
        (bin, unit) entries of a window that the loss is computed on. None for all, as for a network that does not support
        sampling.

    Returns
    -------
    Task
        The methods of `SpikeTask`.
    """
    sampled = (n_entries or 0) if network.supports_entry_sampling else 0
    return SpikeTask(network, n_units, loss_names(objectives), length, sampled).engine_task()


@dataclass(frozen=True)
class SpikeTask:
    """Functions of one run that the engine needs, see :class:`jaxephys.engine.task.Task`.

    Parameters
    ----------
    network : SpikeNetwork
        The network.
    n_units : int
        Units of the recordings.
    loss_names : tuple of str
        Losses that occur in the grid; a run's constants hold an index into them.
    length : int
        Bins of a window.
    n_entries : int
        Sampled entries of a window; 0 for all.
    scatter : bool
        Whether the histogram of validation is added up by a scatter.
    """

    network: SpikeNetwork
    n_units: int
    loss_names: tuple[str, ...]
    length: int
    n_entries: int
    scatter: bool = True

    def engine_task(self) -> Task:
        """Return the functions in the form that the engine takes.

        Returns
        -------
        Task
            Methods of this object.
        """
        functions = self.init, self.gather, self.loss, self.outputs, self.validate
        names = [name for loss in self.loss_names for name in SEARCHABLE[loss]] + ["dropout"] * (
            self.network.dropout > 0
        )
        return Task(*functions, for_backend=self.for_backend, searchable=tuple(dict.fromkeys(names)))

    def for_backend(self, backend: Backend) -> Task:
        """Return the same task in the form that suits a backend, see :mod:`jaxephys.spikes.backend`.

        Parameters
        ----------
        backend : Backend
            What the programs are compiled for.

        Returns
        -------
        Task
            The task for the engine.
        """
        scatter = form_for_backend(backend).scatter
        return replace(self, network=network_for_backend(self.network, backend), scatter=scatter).engine_task()

    def init(self, key: Key) -> Variables:
        """Draw the initial variables.

        Parameters
        ----------
        key : jax key
            Random key of the run.

        Returns
        -------
        dict
            Variables of the network.
        """
        return dict(self.network.init(key, jnp.zeros((min(self.length, 8), self.n_units))))

    def gather(self, data: SpikeData, constants: SpikeConstants, rows: RowSet, key: Key | None) -> SpikeBatch:
        """Cut windows out of the run's recording, and sample their entries.

        Parameters
        ----------
        data : SpikeData
            All recordings.
        constants : SpikeConstants
            Constants of the run.
        rows : RowSet
            Windows.
        key : jax key or None
            Key of the sample; None for validation, which samples the same entries in every epoch.

        Returns
        -------
        SpikeBatch
            The batch.
        """
        size = (1, self.length + 1, data.packed.shape[-1])

        def cut(start: Int[Array, ""]) -> Float[Array, "time unit"]:  # never the whole recording, once for every run
            return unpack_bits(lax.dynamic_slice(data.packed, (constants.source, start, 0), size)[0], self.n_units)

        bins = jax.vmap(cut)(rows.index * self.length)
        spikes, target = (bins[:, 1:] if self.network.is_reconstruction else bins[:, :-1]), bins[:, 1:]
        spike_counts = jnp.sum(target, axis=1) * rows.weight[:, None]
        history = jax.tree.map(lambda leaf: leaf[constants.source, rows.index], data.history)
        memory = None if data.history is None else Memory(history)
        entries, weights = None, rows.weight[:, None, None]
        if self.n_entries:
            base = jax.random.key(0) if key is None else key
            stream = rows.index if key is None else jnp.arange(len(rows.index))
            keys = jax.vmap(jax.random.fold_in, (None, 0))(base, stream)
            entries, weights = jax.vmap(lambda key, bins: sample_entries(key, bins, self.n_entries))(keys, target)
            target = jax.vmap(lambda bins, some: bins[some.bin, some.unit])(target, entries)
            weights = weights * rows.weight[:, None]
        weights = jnp.broadcast_to(weights, target.shape)
        return SpikeBatch(spikes, target, weights, spike_counts, memory, entries, constants)

    def compute_logits(self, variables: Variables, batch: SpikeBatch, key: Key | None) -> Float[Array, "row *rest"]:
        """Compute the logits of a batch.

        Parameters
        ----------
        variables : dict
            Variables of the network.
        batch : SpikeBatch
            Windows.
        key : jax key or None
            Key of dropout; None switches it off.

        Returns
        -------
        float32 array of shape (rows, bins, units) or (rows, entries)
            Logits of the targets.
        """

        rate = jnp.where(batch.constants.dropout < 0, self.network.dropout, batch.constants.dropout)
        training = {"train": True, **({"dropout_rate": rate} if self.network.dropout > 0 else {})}

        def one_window(spikes: Array, memory: Memory | None, entries: Entries | None, key: Key | None) -> Array:
            options: dict[str, Any] = {} if entries is None else {"entries": entries}
            options |= {} if key is None else {**training, "rngs": {"dropout": key}}
            return self.network.apply(variables, spikes, memory, **options)[0]

        keys = None if key is None else jax.random.split(key, len(batch.spikes))
        return jax.vmap(one_window)(batch.spikes, batch.memory, batch.entries, keys)

    def loss(self, variables: Variables, batch: SpikeBatch, key: Key) -> tuple[Array, tuple[dict, dict[str, Array]]]:
        """Compute the loss that is minimized.

        Parameters
        ----------
        variables : dict
            Variables of the network.
        batch : SpikeBatch
            Windows.
        key : jax key
            Key of dropout.

        Returns
        -------
        loss : float32 scalar
            Loss of the run.
        rest : (dict, dict)
            No mutable variables and no metrics.
        """
        return self.run_loss(self.compute_logits(variables, batch, key), batch), ({}, {})

    def outputs(self, variables: Variables, batch: SpikeBatch) -> Float[Array, "row time unit"]:
        """Compute the logits of all bins and units, without dropout.

        Parameters
        ----------
        variables : dict
            Variables of the network.
        batch : SpikeBatch
            Windows.

        Returns
        -------
        float32 array of shape (rows, bins, units)
            Logits.
        """
        return self.compute_logits(variables, batch._replace(entries=None), None)

    def validate(
        self, variables: Variables, data: SpikeData, constants: SpikeConstants, rows: RowSet
    ) -> dict[str, Float[Array, ""]]:
        """Compute the validation scores of an epoch.

        Parameters
        ----------
        variables : dict
            Variables of the network.
        data : SpikeData
            All recordings.
        constants : SpikeConstants
            Constants of the run.
        rows : RowSet
            Validation windows.

        Returns
        -------
        dict of str to float32 scalar
            See `validation_scores`.
        """

        def add_batch(total: ValidationSums, some: RowSet) -> tuple[ValidationSums, None]:
            return jax.tree.map(
                jnp.add, total, self._sum_batch(variables, self.gather(data, constants, some, None))
            ), None

        padding = -len(rows.index) % VALIDATION_BATCH  # rows of weight 0
        batches = jax.tree.map(lambda column: jnp.pad(column, (0, padding)).reshape(-1, VALIDATION_BATCH), rows)
        zero = jnp.zeros(())
        no_sums = ValidationSums(jnp.zeros((HISTOGRAM_BINS, 2)), zero, zero, zero, jnp.zeros(self.n_units), zero)
        return validation_scores(lax.scan(add_batch, no_sums, batches)[0])

    def run_loss(self, logits: Float[Array, "row *rest"], batch: SpikeBatch) -> Float[Array, ""]:
        """Compute the loss of a run, which its constants choose.

        Parameters
        ----------
        logits : float array of shape (rows, ...)
            Logits of the targets.
        batch : SpikeBatch
            Targets, weights and constants.

        Returns
        -------
        float32 scalar
            The loss. If runs are computed one after the other, only its branch is computed.
        """
        run, target, weights = batch.constants, batch.target, batch.weights
        class_weight = target * run.alpha + (1 - target) * (1 - run.alpha)
        class_weight = jnp.where(run.alpha < 0, 1.0, class_weight)
        total = jnp.maximum(jnp.sum(weights), 1e-9)
        branches = {
            "bce": lambda: losses.bce(logits, target, weights=weights),
            "focal": lambda: (
                losses.focal(logits, target, run.gamma, weights=weights * class_weight)
                * (jnp.sum(weights * class_weight) / total)
            ),
            "dice": lambda: losses.dice(logits, target, smooth=run.smooth, weights=weights),
            "dice_bce": lambda: losses.dice_bce(logits, target, run.dice_share, run.smooth, weights=weights),
            "published_dice": lambda: losses.published_dice(logits, target, run.density, weights=weights),
        }
        return lax.switch(run.loss, [branches[name] for name in self.loss_names])

    def _sum_batch(self, variables: Variables, batch: SpikeBatch) -> ValidationSums:
        target, weights, logits = batch.target, batch.weights, self.compute_logits(variables, batch, None)
        nats = jax.nn.softplus(logits) - target * logits
        index = 2 * histogram_bin(logits, HISTOGRAM_BINS) + target.astype(jnp.int32)
        index, weights = (x.reshape(len(x), -1) for x in (index, weights))
        if self.scatter or self.n_entries:
            histogram = weighted_histogram(index, weights, 2 * HISTOGRAM_BINS, scatter=self.scatter)
        else:  # all entries of a window have one weight
            counts = count_indices(index, 2 * HISTOGRAM_BINS).astype(jnp.float32)
            histogram = jnp.einsum("r,rh->h", weights[:, 0], counts, precision=lax.Precision.HIGHEST)
        n_windows = jnp.sum(jnp.any(weights > 0, axis=1))
        return ValidationSums(
            histogram.reshape(HISTOGRAM_BINS, 2),
            jnp.sum(nats * batch.weights),
            self.run_loss(logits, batch) * n_windows,
            jnp.sum(batch.weights),
            jnp.sum(batch.spike_counts, axis=0),
            n_windows.astype(jnp.float32),
        )


def sample_entries(
    key: Key, target: Float[Array, "time unit"], n_entries: int
) -> tuple[Entries, Float[Array, "entry"]]:
    """Sample (bin, unit) entries of a window in three ways, and weight them by the inverse of their probability.

    Parameters
    ----------
    key : jax key
        Random key.
    target : float array of shape (bins, units)
        Zeros and ones.
    n_entries : int
        Number of entries.

    Returns
    -------
    entries : Entries
        Sampled entries, in this order: spikes, entries drawn in proportion to the rate of their unit, entries drawn evenly.
    weights : float32 array of shape (entries,)
        Weight of each entry: the number of entries of the window that it represents. The expected sum is bins x units.

    Notes
    -----
    If ``n_k`` entries are drawn in the k-th of these three ways, each being entry i with probability ``q_k(i)``, the weight of
    entry i is ``1 / sum_k n_k q_k(i)``, the inverse of its expected number of draws.
    """
    n_bins, n_units = target.shape
    n_spike_draws, n_rate_draws = int(SPIKE_SHARE * n_entries), int(RATE_SHARE * n_entries)
    n_even_draws = n_entries - n_spike_draws - n_rate_draws
    uniform = jax.random.uniform(key, (n_entries + n_rate_draws,))
    u_spike, u_unit, u_even, u_bin = jnp.split(uniform, [n_spike_draws, n_spike_draws + n_rate_draws, n_entries])
    spikes_so_far = jnp.cumsum(target.reshape(-1).astype(jnp.int32))
    n_spikes = spikes_so_far[-1]
    spike_entries = jnp.searchsorted(spikes_so_far, (u_spike * n_spikes).astype(jnp.int32), side="right")
    rate = (jnp.sum(target, axis=0) + 1) / (n_spikes + n_units)
    unit = jnp.minimum(jnp.searchsorted(jnp.cumsum(rate), u_unit), n_units - 1)
    rate_entries = (u_bin * n_bins).astype(jnp.int32) * n_units + unit
    even_entries = (u_even * (n_bins * n_units)).astype(jnp.int32)
    index = jnp.minimum(jnp.concatenate([spike_entries, rate_entries, even_entries]), n_bins * n_units - 1)
    entries = Entries(index // n_units, index % n_units)
    spike = target[entries.bin, entries.unit]
    expected_draws = (
        n_spike_draws * spike / jnp.maximum(n_spikes, 1)
        + n_rate_draws * rate[entries.unit] / n_bins
        + n_even_draws / (n_bins * n_units)
    )
    no_spike = (jnp.arange(n_entries) < n_spike_draws) & (n_spikes == 0)
    return entries, jnp.where(no_spike, 0.0, 1 / expected_draws)


class ValidationSums(NamedTuple):
    """Sums over validation windows from which the scores of an epoch follow.

    Parameters
    ----------
    histogram : float array of shape (histogram bins, 2)
        Weight of silent and spiking entries by logit.
    loss : float
        Negative log-likelihood in nats.
    objective : float
        Loss of the run, summed over windows.
    n_entries : float
        Sum of the weights.
    spike_counts : float array of shape (units,)
        Spikes of each unit.
    n_windows : float
        Number of windows that are not padding.
    """

    histogram: Float[Array, "histogram_bin 2"]
    loss: Float[Array, ""]
    objective: Float[Array, ""]
    n_entries: Float[Array, ""]
    spike_counts: Float[Array, "unit"]
    n_windows: Float[Array, ""]


def validation_scores(sums: ValidationSums) -> dict[str, Float[Array, ""]]:
    """Compute the scores that are recorded after each epoch.

    Parameters
    ----------
    sums : ValidationSums
        Sums over all validation windows.

    Returns
    -------
    dict of str to float32 scalar
        ``objective`` (mean loss of the run), ``loss`` (nats per entry), ``bits_per_spike``, ``roc_auc``,
        ``average_precision``, and the accuracies at the published threshold: the one with the best recall minus false positive
        rate among those with a false positive rate of at most 0.005.
    """
    negatives, positives = sums.histogram[::-1, 0], sums.histogram[::-1, 1]  # from the highest logit down
    false_positives, true_positives = jnp.cumsum(negatives), jnp.cumsum(positives)
    n_positives = jnp.maximum(true_positives[-1], 1e-9)
    n_negatives = jnp.maximum(false_positives[-1], 1e-9)
    false_rate = false_positives / n_negatives
    youden = true_positives / n_positives - false_rate
    best = jnp.argmax(jnp.where(false_rate <= MAX_FALSE_POSITIVE_RATE, youden, -jnp.inf))
    spikes, n_units = sums.spike_counts, len(sums.spike_counts)
    rate = jnp.clip(spikes * n_units / jnp.maximum(sums.n_entries, 1), 1e-6, 1 - 1e-6)
    n_bins = sums.n_entries / n_units
    baseline = -jnp.sum(spikes * jnp.log(rate) + (n_bins - spikes) * jnp.log1p(-rate))
    return {
        "objective": sums.objective / jnp.maximum(sums.n_windows, 1),
        "loss": sums.loss / jnp.maximum(sums.n_entries, 1),
        "bits_per_spike": (baseline - sums.loss) / jnp.log(2) / jnp.maximum(spikes.sum(), 1),
        "roc_auc": jnp.sum(negatives * (true_positives - positives / 2)) / n_positives / n_negatives,
        "average_precision": jnp.sum(positives * true_positives / jnp.maximum(true_positives + false_positives, 1e-9))
        / n_positives,
        "accuracy_on_0": 1 - false_rate[best],
        "accuracy_on_1": true_positives[best] / n_positives,
        "accuracy": (n_negatives - false_positives[best] + true_positives[best]) / (n_negatives + n_positives),
    }
