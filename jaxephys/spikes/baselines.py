"""Baselines on the same bins as the networks: rates, one exponential filter, and logistic regressions on the spike history.

They are fitted on training and validation bins of one recording and then give the logit of every bin and unit of any
recording. The logit of a bin depends on earlier bins only, back to the first one that is read.

    training rate      mean of the unit over the training bins, constant in time
    running rate       mean of the unit over the bins read so far; nothing is fitted
    exponential        a + b log(e) with e an exponential mean of the unit's own spikes; validation bins choose its time constant
    shared GLM         logistic regression with weights that all units share: own past at many time scales, refractoriness,
                       the population
    per-unit GLM       the same with weights for each unit, regularized towards the shared ones; validation chooses how strongly

Networks are calibrated, and mixed with experts whose weights follow the tested recording. So that they are compared with baselines that
adapt as much, :func:`count_baseline_outcomes` adds

    ..., adapted           exponential, shared GLM and per-unit GLM, with scale and shift refitted on the bins read before the scored ones
    per-unit GLM, mixed    the per-unit GLM mixed with shared GLM, running rate and exponential means by the rule of the networks
                           (:func:`jaxephys.spikes.expert_mixture.mix_experts`)

Two recordings have no cell in common. On another recording the training rate and the per-unit GLM are therefore used by
channel index, which pairs unrelated cells; a channel that the training recording lacks gets what all its units share.

The computation of features and logits is plain NumPy, bin by bin: baselines that share no code with the networks cannot share their
mistakes.
Start with :func:`fit_baselines` and :func:`count_baseline_outcomes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Real, Shaped
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from jaxephys.dimensions import AnyArray
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.calibration import adapt_counts
from jaxephys.spikes.expert_mixture import MAX_PROBABILITY, SLOW_MS, ExpertWeights, mix_experts
from jaxephys.spikes.streaming_scores import N_BLOCKS, StreamingCounts, add_bins, empty_counts, split_past

BASELINE_NAMES = ("training rate", "running rate", "exponential", "shared GLM", "per-unit GLM")
REFITTED = ("exponential", "shared GLM", "per-unit GLM")  # baselines whose scale and shift are refitted as well
MIXED_GLM = "per-unit GLM, mixed"
ADAPTIVE_NAMES = (*(f"{name}, adapted" for name in REFITTED), MIXED_GLM)
USED_BY_CHANNEL = (  # on another recording, by channel index
    "training rate",
    "per-unit GLM",
    "per-unit GLM, adapted",
    MIXED_GLM,
)
TAU_MS = (1.5, 4.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 6000.0)  # of exponential means
EXPONENTIAL_CHOICES = range(2, 11)  # indices of the time constants that the exponential baseline chooses from
SLOW_CHOICES = [i for i, choice in enumerate(EXPONENTIAL_CHOICES) if TAU_MS[choice] >= SLOW_MS]  # those that are mixed
N_EXPERTS = 5 + len(SLOW_CHOICES)
POPULATION_FILTERS = (0, 2, 4, 6, 8)  # indices of those of the population's features
REFRACTORY_BINS = 5  # each of the bins after a spike has an indicator
PRIOR_MS, PRIOR_HZ = 1000.0, 1.0  # prior of the running rate, and the recording time that it counts for
KAPPA, MAX_LOG_RATIO = 0.1, 5.0  # share of the running rate added to means, and bound of logarithms
MIN_MEAN = 1e-6  # spikes per bin, added to an exponential mean before its logarithm
BLOCK_BINS = 2000  # bins in memory at once
MAX_ROWS = 4000  # rows of each unit and outcome that a regression is fitted on
WARM_UP_MS = 5000.0  # the start of a recording is skipped: it has too little past
PENALTIES = (3000.0, 300.0, 30.0, 3.0)  # of a unit's deviation from the shared weights, from strong to weak
SHARED_PENALTY = 1.0  # of the shared weights


@dataclass(frozen=True)
class SpikeBaselines:
    """All baselines, fitted on one recording.

    Parameters
    ----------
    source : str
        Name of the recording.
    rate : float array of shape (units,)
        Mean spikes per bin in the training bins, at least one spike.
    choice : int
        Index of the chosen time constant among `EXPONENTIAL_CHOICES`.
    exponential_weights : float array of shape (2,)
        Constant and slope of the exponential baseline.
    shared_weights : float array of shape (features,)
        Weights of the shared GLM.
    unit_weights : float array of shape (units, features)
        What the per-unit GLM adds to the shared weights.
    """

    source: str
    rate: Float[np.ndarray, "unit"]
    choice: int
    exponential_weights: Float[np.ndarray, "2"]
    shared_weights: Float[np.ndarray, "feature"]
    unit_weights: Float[np.ndarray, "unit feature"]

    @property
    def tau_ms(self) -> float:
        """Time constant of the exponential baseline in milliseconds."""
        return TAU_MS[EXPONENTIAL_CHOICES[self.choice]]

    def expert_logits(
        self, inputs: BaselineInputs, logits: dict[str, Float[np.ndarray, "time unit"]]
    ) -> Float[np.ndarray, "time unit expert"]:
        """Compute the logits that are mixed with those of the per-unit GLM, as a network is mixed.

        Parameters
        ----------
        inputs : BaselineInputs
            Successive bins of any recording.
        logits : dict of str to float array of shape (bins, units)
            Result of `compute_logits`.

        Returns
        -------
        float32 array of shape (bins, units, experts)
            Row t belongs to bin t. Per-unit GLM, shared GLM, their mean, the mean of per-unit GLM and running rate, the running
            rate, and the exponential means with a time constant of 100 ms or more.
        """
        unit, shared, rate = (logits[name] for name in ("per-unit GLM", "shared GLM", "running rate"))
        means = (inputs.mean[..., SLOW_CHOICES] + KAPPA * inputs.rate[..., None]) / (1 + KAPPA)
        means = _logit(np.minimum(means, MAX_PROBABILITY))
        favored = np.stack([unit, shared, (unit + shared) / 2, (unit + rate) / 2, rate], axis=-1)
        return np.concatenate([favored, means], axis=-1, dtype=np.float32)

    def compute_logits(self, inputs: BaselineInputs) -> dict[str, Float[np.ndarray, "time unit"]]:
        """Compute the logits of all baselines.

        Parameters
        ----------
        inputs : BaselineInputs
            Successive bins of any recording.

        Returns
        -------
        dict of str to float32 array of shape (bins, units)
            By name of the baseline; row t belongs to bin t and depends on earlier bins.
        """
        n_units = inputs.rate.shape[1]
        n_shared = min(n_units, len(self.rate))
        rate = np.full(n_units, self.rate.mean())
        rate[:n_shared] = self.rate[:n_shared]
        weights = np.tile(self.shared_weights, (n_units, 1))
        weights[:n_shared] += self.unit_weights[:n_shared]
        log_mean = np.log(inputs.mean[..., self.choice] + MIN_MEAN)
        logits = {
            "training rate": np.broadcast_to(_logit(rate), inputs.rate.shape),
            "running rate": _logit(inputs.rate),
            "exponential": self.exponential_weights[0] + self.exponential_weights[1] * log_mean,
            "shared GLM": inputs.features @ self.shared_weights.astype(np.float32),
            "per-unit GLM": np.einsum("tuf,uf->tu", inputs.features, weights.astype(np.float32)),
        }
        return {name: values.astype(np.float32) for name, values in logits.items()}


class BaselineInputs(NamedTuple):
    """Inputs of the baselines for successive bins. All arrays but the spikes depend on earlier bins only.

    Parameters
    ----------
    start : int
        First bin.
    spikes : array of shape (bins, units)
        Zeros and ones of the bins, which are the targets.
    rate : float array of shape (bins, units)
        Running rate, spikes per bin.
    features : float array of shape (bins, units, features)
        Features of the GLMs.
    mean : float array of shape (bins, units, choices)
        Exponential means that the exponential baseline chooses from.
    """

    start: int
    spikes: Shaped[np.ndarray, "time unit"]
    rate: Float[np.ndarray, "time unit"]
    features: Float[np.ndarray, "time unit feature"]
    mean: Float[np.ndarray, "time unit choice"]


def fit_baselines(recording: Recording, seed: int = 0) -> SpikeBaselines:
    """Fit all baselines on the training bins, and choose time constant and penalty on the validation bins.

    Parameters
    ----------
    recording : Recording
        The recording.
    seed : int
        Seed of the sample of bins.

    Returns
    -------
    SpikeBaselines
        The fitted baselines.
    """
    train, validation = sample_rows(recording, seed)
    counts, (start, stop) = recording.counts("train"), recording.span("train")
    quality = [
        roc_auc_score(validation.spike, validation.mean[:, i], sample_weight=validation.weight)
        for i in range(len(EXPONENTIAL_CHOICES))
    ]
    choice = int(np.argmax(quality))
    regressors = np.stack([np.ones(len(train.spike)), np.log(train.mean[:, choice] + MIN_MEAN)], axis=1)
    shared = fit_logistic_regression(train.features, train.spike, train.weight, SHARED_PENALTY)
    unit_weights = [_fit_units(train, shared, recording.units, penalty) for penalty in PENALTIES]
    return SpikeBaselines(
        source=recording.name,
        rate=np.clip(counts, 1, stop - start - 1) / (stop - start),
        choice=choice,
        exponential_weights=fit_logistic_regression(regressors, train.spike, train.weight, SHARED_PENALTY),
        shared_weights=shared,
        unit_weights=min(unit_weights, key=lambda weights: _loss_of_units(validation, shared, weights)),
    )


def baseline_inputs(
    recording: Recording, start: int, stop: int, first: int = 0, *, past: bool = False
) -> Iterator[BaselineInputs]:
    """Compute what the baselines need of the bins [start, stop), block by block.

    Parameters
    ----------
    recording : Recording
        The recording.
    start, stop : int
        First bin, and bin after the last.
    first : int
        First bin that is read; earlier ones are ignored.
    past : bool
        Also yield the bins that are read before ``start``.

    Yields
    ------
    BaselineInputs
        Up to `BLOCK_BINS` successive bins.
    """
    for block in iterate_blocks(recording, start, stop, first, past=past):
        row, unit = np.arange(len(block.spikes))[:, None], np.arange(recording.units)
        rate = running_rate(block.total[:, :-1], block.n_read[:, None], recording.bin_ms)
        features = compute_glm_features(block, recording.bin_ms, row, unit)
        mean = np.moveaxis(block.means[:, EXPONENTIAL_CHOICES, :-1], 1, 2)
        yield BaselineInputs(block.start, block.spikes, rate, features, mean)


def count_baseline_outcomes(
    baselines: Sequence[SpikeBaselines],
    recording: Recording,
    span: tuple[int, int],
    *,
    warm_up: int,
    n_blocks: int = N_BLOCKS,
) -> Iterator[dict[str, StreamingCounts]]:
    """Count predictions and outcomes of all baselines, as it is done for networks.

    Parameters
    ----------
    baselines : sequence of SpikeBaselines
        Baselines, each fitted on any recording.
    recording : Recording
        Recording to score on.
    span : tuple of (int, int)
        First scored bin, and bin after the last.
    warm_up : int
        Number of earlier bins that are read, at most.
    n_blocks : int
        Number of time blocks.

    Yields
    ------
    dict of str to StreamingCounts
        Counts by name of the baseline, for each element of ``baselines``: those of `BASELINE_NAMES`, then those of
        `ADAPTIVE_NAMES`. The last time block of each holds the bins that are read before the scored ones, see `split_past`.
    """
    start, stop = span
    inputs = list(baseline_inputs(recording, start, stop, max(start - warm_up, 0), past=True))
    for fitted in baselines:
        empty = empty_counts(n_blocks + 1, recording.units)  # copied: each baseline needs buffers to donate
        counts: dict[str, StreamingCounts] = {name: jax.tree.map(jnp.copy, empty) for name in BASELINE_NAMES}
        counts[MIXED_GLM] = jax.tree.map(jnp.copy, empty)
        silence = np.zeros((recording.units, N_EXPERTS), np.float32)
        weights, last_spikes = ExpertWeights(silence, silence), np.zeros((1, recording.units), np.float32)
        for part in inputs:
            n_bins = len(part.spikes)
            block = np.full(BLOCK_BINS, -1, np.int32)  # padded to one shape, so that one program is compiled
            block[:n_bins] = (part.start - start + np.arange(n_bins)) * n_blocks // (stop - start)
            if part.start < start:
                block[:n_bins] = n_blocks
            padding = ((0, BLOCK_BINS - n_bins), (0, 0))
            target = np.pad(part.spikes.astype(np.int32), padding)
            logits = fitted.compute_logits(part)
            observed = np.concatenate([last_spikes, part.spikes]).astype(np.float32)  # one bin before each forecast
            mixed, weights = _mix_experts(weights, fitted.expert_logits(part, logits), observed[:-1])
            logits[MIXED_GLM], last_spikes = np.asarray(mixed), observed[-1:]
            for name, values in logits.items():
                counts[name] = _add_bins(counts[name], np.pad(values, padding), target, block)
        yield counts | {f"{name}, adapted": adapt_with_past(counts[name]) for name in REFITTED}


def adapt_with_past(counts: StreamingCounts) -> StreamingCounts:
    """Return the counts that a model would have after calibration on the bins before the scored ones.

    Parameters
    ----------
    counts : StreamingCounts
        Counts of one model, with the bins before the scored ones as the last time block.

    Returns
    -------
    StreamingCounts
        Adapted counts, see :func:`jaxephys.spikes.calibration.adapt_counts`; the last block is unchanged.
    """
    scored, past = split_past(StreamingCounts(*map(np.asarray, counts)))
    parts = zip(adapt_counts(scored, past), past, strict=True)
    return StreamingCounts(*(np.concatenate(part) for part in parts))


class Block(NamedTuple):
    """Successive bins, and the summary of the past before each of them; the last column is the mean over units.

    Parameters
    ----------
    start : int
        First bin.
    n_read : int array of shape (bins,)
        Number of bins read before each.
    spikes : array of shape (bins, units)
        Zeros and ones.
    means : float array of shape (bins, filters, units + 1)
        Exponential means.
    total : float array of shape (bins, units + 1)
        Spikes so far.
    since_spike : int array of shape (bins, units)
        Bins since the last spike; 1 if it was in the bin before.
    """

    start: int
    n_read: Int[np.ndarray, "time"]
    spikes: Shaped[np.ndarray, "time unit"]
    means: Float[np.ndarray, "time filter column"]
    total: Float[np.ndarray, "time column"]
    since_spike: Int[np.ndarray, "time unit"]


class SampledRows(NamedTuple):
    """A sample of (bin, unit) pairs, drawn separately for spikes and for silent bins.

    Parameters
    ----------
    features : float array of shape (rows, features)
        Features of the GLMs.
    mean : float array of shape (rows, choices)
        Exponential means.
    spike : float array of shape (rows,)
        Zeros and ones.
    weight : float array of shape (rows,)
        Weight of each row: the number of bins of the unit that it represents.
    unit : int array of shape (rows,)
        Unit of each row.
    """

    features: Float[np.ndarray, "row feature"]
    mean: Float[np.ndarray, "row choice"]
    spike: Float[np.ndarray, "row"]
    weight: Float[np.ndarray, "row"]
    unit: Int[np.ndarray, "row"]


def iterate_blocks(
    recording: Recording, start: int, stop: int, first: int = 0, *, past: bool = False
) -> Iterator[Block]:
    """Read the bins [start, stop) of a recording block by block, each bin with what is known before it.

    Parameters
    ----------
    recording : Recording
        The recording.
    start, stop : int
        First bin, and bin after the last.
    first : int
        First bin that is read; earlier ones are ignored.
    past : bool
        Also yield the blocks that are read before ``start``.

    Yields
    ------
    Block
        Up to `BLOCK_BINS` successive bins.

    Raises
    ------
    ValueError
        If the recording has fewer bins.
    """
    if stop > len(recording):
        raise ValueError(f"{recording.name} has {len(recording)} bins, but bin {stop - 1} was requested")
    decay = np.exp(-recording.bin_ms / np.array(TAU_MS))[:, None]
    mean, total = np.zeros((len(TAU_MS), recording.units + 1)), np.zeros(recording.units + 1)
    last = np.full(recording.units, -(10**9))  # far before the first bin
    begin = first
    while begin < stop:
        end = min(begin + BLOCK_BINS, start if begin < start else stop)
        spikes = recording.bits(begin, end)
        columns = np.concatenate([spikes, spikes.mean(axis=1, keepdims=True)], axis=1)
        means = np.empty((len(spikes), *mean.shape), np.float32)
        for index, column in enumerate(columns):
            means[index] = mean
            mean = decay * mean + (1 - decay) * column
        bins = np.arange(begin, end)[:, None]
        last_spike = np.maximum.accumulate(np.concatenate([last[None], np.where(spikes > 0, bins, last)]))
        totals = total + np.concatenate([np.zeros((1, columns.shape[1])), columns.cumsum(axis=0)])
        if past or begin >= start:
            yield Block(begin, bins[:, 0] - first, spikes, means, totals[:-1], bins - last_spike[:-1])
        begin, total, last = end, totals[-1], last_spike[-1]


def running_rate(
    n_spikes: Real[np.ndarray, "..."], n_bins: Real[np.ndarray, "..."], bin_ms: float
) -> Float[np.ndarray, "..."]:
    """Compute the running rate with its prior.

    Parameters
    ----------
    n_spikes, n_bins : array
        Spikes and bins so far, of shapes that broadcast.
    bin_ms : float
        Width of a bin in milliseconds.

    Returns
    -------
    float32 array
        Spikes per bin, between 1e-7 and 1 - 1e-4.
    """
    weight = PRIOR_MS / bin_ms
    prior = min(PRIOR_HZ * bin_ms / 1000, 0.5)
    return np.clip((n_spikes + weight * prior) / (n_bins + weight), 1e-7, 1 - 1e-4).astype(np.float32)


def compute_glm_features(
    block: Block, bin_ms: float, row: Int[np.ndarray, "..."], unit: Int[np.ndarray, "..."]
) -> Float[np.ndarray, "... feature"]:
    """Compute the features of the GLMs, relative to running rates and bounded.

    Unbounded features would extrapolate at rates that the training recording does not have.

    Parameters
    ----------
    block : Block
        Successive bins.
    bin_ms : float
        Width of a bin in milliseconds.
    row, unit : int array
        Rows of the block and units, of shapes that broadcast.

    Returns
    -------
    float32 array of shape (..., features)
        Constant; log of the running rate; log of the waiting time relative to the mean interval; indicators of the first
        bins after a spike; levels of the unit's exponential means; levels of the population's means.
    """
    row, unit = np.broadcast_arrays(row, unit)
    population = _levels(block.means[:, POPULATION_FILTERS, -1], running_rate(block.total[:, -1], block.n_read, bin_ms))
    rate = running_rate(block.total[row, unit], block.n_read[row], bin_ms)
    since = np.minimum(block.since_spike[row, unit], 10**7).astype(np.float32)
    waiting = np.clip(np.log(since * rate), -MAX_LOG_RATIO, MAX_LOG_RATIO)
    parts = [
        np.stack([np.ones_like(rate), np.log(rate), waiting], axis=-1),
        since[..., None] == np.arange(1, REFRACTORY_BINS + 1),
        _levels(block.means[row, :, unit], rate),
        population[row],
    ]
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def sample_rows(recording: Recording, seed: int = 0) -> tuple[SampledRows, SampledRows]:
    """Sample bins of every unit: its spikes and as many silent bins, at most `MAX_ROWS` of each.

    Parameters
    ----------
    recording : Recording
        The recording.
    seed : int
        Seed of the sample.

    Returns
    -------
    train, validation : SampledRows
        Rows of the training and of the validation split.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for split in ("train", "validation"):
        start, stop = recording.span(split)
        start = max(start, min(round(WARM_UP_MS / recording.bin_ms), (start + stop) // 2))
        spikes = recording.bits(start, stop)
        for unit, spike in np.ndindex(recording.units, 2):
            candidates = np.flatnonzero(spikes[:, unit] == spike)
            kept = rng.choice(candidates, min(len(candidates), MAX_ROWS), replace=False)
            weight = len(candidates) / max(len(kept), 1)
            chosen.append(np.stack(np.broadcast_arrays(start + kept, unit, split == "train", weight), axis=1))
    table = np.concatenate(chosen)
    table = table[np.argsort(table[:, 0], kind="stable")]
    bins, unit, train = (table[:, i].astype(int) for i in range(3))
    parts = []
    for block in iterate_blocks(recording, 0, int(bins[-1]) + 1):
        in_block = slice(*np.searchsorted(bins, [block.start, block.start + len(block.spikes)]))
        row, units = bins[in_block] - block.start, unit[in_block]
        means = block.means[row, :, units][:, EXPONENTIAL_CHOICES]
        features = compute_glm_features(block, recording.bin_ms, row, units)
        parts.append((features, means, block.spikes[row, units].astype(float)))
    features, mean, spike = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows = SampledRows(features, mean, spike, table[:, 3], unit)
    return SampledRows(*(x[train == 1] for x in rows)), SampledRows(*(x[train == 0] for x in rows))


def fit_logistic_regression(
    x: Float[np.ndarray, "row feature"],
    spike: Float[np.ndarray, "row"],
    weight: Float[np.ndarray, "row"],
    penalty: float,
    offset: Float[np.ndarray, "row"] | None = None,
) -> Float[np.ndarray, "feature"]:
    """Fit a weighted, ridge-penalized logistic regression with an offset by Newton's method.

    Parameters
    ----------
    x : float array of shape (rows, features)
        Regressors. Without an offset the first column must be the constant: the fit starts at the mean rate.
    spike : float array of shape (rows,)
        Zeros and ones.
    weight : float array of shape (rows,)
        How often each row counts.
    penalty : float
        Penalty of the squared weights.
    offset : float array of shape (rows,), optional
        Logits to which the fit is added.

    Returns
    -------
    float array of shape (features,)
        The unique w that minimizes ``sum weight (softplus(l) - s l) + penalty |w|^2 / 2`` with ``l = x w + offset``.

    Notes
    -----
    A Newton step that does not decrease the loss is halved. scikit-learn's solver has no offset.
    """
    x, ridge = x.astype(np.float64), penalty * np.eye(x.shape[1])
    w = np.zeros(x.shape[1])
    if offset is None:
        offset = np.zeros(len(x))
        w[0] = _logit(np.clip((weight * spike).sum() / weight.sum(), 1e-6, 1 - 1e-6))

    def loss(w: np.ndarray) -> float:
        return log_loss(x @ w + offset, spike, weight) + float(w @ ridge @ w) / 2

    value, gained = loss(w), np.inf
    while gained > 1e-8 * (1 + abs(value)):
        p = expit(x @ w + offset)
        gradient = x.T @ (weight * (p - spike)) + ridge @ w
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge
        step, new_value = np.linalg.solve(curvature, gradient), np.inf
        while new_value > value and np.abs(step).max() > 1e-12:
            new_value, step = loss(w - step), step / 2
        gained = value - new_value
        if gained > 0:
            value, w = new_value, w - 2 * step
    return w


def log_loss(
    logits: Float[np.ndarray, "row"], spike: Float[np.ndarray, "row"], weight: Float[np.ndarray, "row"]
) -> float:
    """Compute the weighted negative log-likelihood of logits.

    Parameters
    ----------
    logits, spike, weight : float array of shape (rows,)
        Logits, zeros and ones, and how often each row counts.

    Returns
    -------
    float
        Sum in nats.
    """
    return float((weight * (np.logaddexp(0, logits) - spike * logits)).sum())


def _fit_units(rows: SampledRows, shared: Float[np.ndarray, "feature"], n_units: int, penalty: float) -> np.ndarray:
    """Return what to add to the shared weights for each unit; 0 for a unit without spikes in the sample."""
    weights = np.zeros((n_units, len(shared)))
    for unit in range(n_units):
        unit_rows = np.flatnonzero(rows.unit == unit)
        if rows.spike[unit_rows].any():
            x = rows.features[unit_rows]
            weights[unit] = fit_logistic_regression(
                x, rows.spike[unit_rows], rows.weight[unit_rows], penalty, x @ shared
            )
    return weights


def _loss_of_units(
    rows: SampledRows, shared: Float[np.ndarray, "feature"], unit_weights: Float[np.ndarray, "unit feature"]
) -> float:
    logits = np.einsum("rf,rf->r", rows.features, (shared + unit_weights)[rows.unit])
    return log_loss(logits, rows.spike, rows.weight)


def _levels(
    means: Float[np.ndarray, "*rest filter"], rate: Float[np.ndarray, "*rest"]
) -> Float[np.ndarray, "*rest filter"]:
    """Return log((e + kappa r) / ((1 + kappa) r)): 0 where a unit fires at its running rate."""
    base = rate[..., None]
    return np.minimum(np.log((means + KAPPA * base) / ((1 + KAPPA) * base)), MAX_LOG_RATIO)


_add_bins = jax.jit(add_bins, donate_argnums=0)
_mix_experts = jax.jit(mix_experts)


def _logit(p: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
    return np.log(p) - np.log1p(-p)
