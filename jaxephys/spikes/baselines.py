"""The opponents of every network, on the same bins: rates, one exponential filter, and logistic regressions on the past.

They are fitted on the training and validation bins of one recording, and then give the logit of every bin and unit of any
recording, one step ahead: what they say of a bin rests on the bins before it, back to the first one read, and on no later one.

    training rate      the unit's mean over the training bins, the same at all times
    running rate       the unit's mean over the bins read before; nothing is fitted
    exponential        a + b log(e), e an exponential mean of the unit's own spikes; its time constant by validation bins
    shared GLM         one weight vector for all units: own past at many time scales, refractoriness, the population
    per-unit GLM       the same with a weight vector a unit, held near the shared one by a penalty that validation chooses

Two recordings have no cell in common. The rest goes over as it is, but the training rate and the per-unit GLM only by
channel index, which pairs strangers; a channel that the source lacks gets what all its units share.

NumPy goes through the bins one by one: an opponent that shares no code with the networks cannot share their mistakes.
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
from jaxephys.spikes.streaming_scores import Tally, empty_tally, fold

NAMES = ("training rate", "running rate", "exponential", "shared GLM", "per-unit GLM")
BY_CHANNEL = ("training rate", "per-unit GLM")  # carried over by the number of the channel
TAU_MS = (1.5, 4.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 6000.0)
CHOICES = range(2, 11)  # of these, one for the exponential filter
POPULATION = (0, 2, 4, 6, 8)  # of these, for the population
REFRACTORY = 5  # bins since the last spike that have an indicator each
PRIOR_MS, PRIOR_HZ = 1000.0, 1.0  # a unit not yet seen fires at so many Hz; so much time weighs this guess
KAPPA, BOUND = 0.1, 5.0  # silence is a tenth of the running rate; logarithms of ratios end there
FAINTEST = 1e-6  # spikes a bin that are added to an exponential mean before its logarithm
BLOCK = 2000  # bins that stand in memory at once
MOST = 4000  # spikes, and as many silences, of a unit that a regression sees
WARM_UP_MS = 5000.0  # at the start of a recording, where there is too little past to learn from
PENALTIES = (3000.0, 300.0, 30.0, 3.0)  # from strict to loose
RIDGE = 1.0  # of the shared regression, in bins


class Past(NamedTuple):
    """What is known before a bin. The last column is the mean over units: the population."""

    first: int  # bin that was read
    bins: int  # the bin before which this is known
    means: Float[np.ndarray, "filter column"]  # exponential, spikes a bin
    total: Float[np.ndarray, "column"]  # spikes so far
    last: Int[np.ndarray, "unit"]  # the bin of the last spike; far before the first where there is none


class Block(NamedTuple):
    """Successive bins, and before each of them what the past was."""

    start: int
    seen: Int[np.ndarray, "time"]  # bins that were read before each
    spikes: Shaped[np.ndarray, "time unit"]
    means: Float[np.ndarray, "time filter column"]
    total: Float[np.ndarray, "time column"]
    since: Int[np.ndarray, "time unit"]  # bins from the last spike, 1 if it was in the bin before


class Evidence(NamedTuple):
    """Of successive bins, all that the baselines rest on."""

    start: int
    spikes: Shaped[np.ndarray, "time unit"]
    rate: Float[np.ndarray, "time unit"]  # running
    feature: Float[np.ndarray, "time unit feature"]
    mean: Float[np.ndarray, "time unit choice"]  # exponential means that the history chooses among


class Rows(NamedTuple):
    """Bins of single units, drawn by outcome; ``weight`` is how many bins of the unit such a row stands for."""

    feature: Float[np.ndarray, "row feature"]
    mean: Float[np.ndarray, "row choice"]
    spike: Float[np.ndarray, "row"]
    weight: Float[np.ndarray, "row"]
    unit: Int[np.ndarray, "row"]


def no_past(units: int, first: int = 0) -> Past:
    return Past(first, first, np.zeros((len(TAU_MS), units + 1)), np.zeros(units + 1), np.full(units, -(10**9)))


def walk(recording: Recording, stop: int, past: Past | None = None) -> Iterator[tuple[Block, Past]]:
    """From where ``past`` ends, or the first bin, up to ``stop``: blocks, and the past after each."""
    past = no_past(recording.units) if past is None else past
    if stop > len(recording):
        raise ValueError(f"{recording.name} has {len(recording)} bins, and bin {stop - 1} was asked for")
    decay = np.exp(-recording.bin_ms / np.array(TAU_MS))[:, None]
    while past.bins < stop:
        start = past.bins
        spikes = recording.bits(start, min(start + BLOCK, stop))
        columns = np.concatenate([spikes, spikes.mean(axis=1, keepdims=True)], axis=1)
        means, now = np.empty((len(spikes), *past.means.shape), np.float32), past.means.copy()
        for place, column in enumerate(columns):
            means[place] = now
            now = decay * now + (1 - decay) * column
        bins = np.arange(start, start + len(spikes))[:, None]
        last = np.maximum.accumulate(np.concatenate([past.last[None], np.where(spikes > 0, bins, past.last)]))
        total = past.total + np.concatenate([np.zeros((1, columns.shape[1])), columns.cumsum(axis=0)])
        block = Block(start, bins[:, 0] - past.first, spikes, means, total[:-1], bins - last[:-1])
        past = Past(past.first, start + len(spikes), now, total[-1], last[-1])
        yield block, past


def gather(recording: Recording, start: int, stop: int, first: int = 0) -> Iterator[Evidence]:
    """The evidence of [start, stop), which rests on the bins from ``first`` on and on none before."""
    past = no_past(recording.units, first)
    for _, after in walk(recording, start, past):
        past = after
    for block, _ in walk(recording, stop, past):
        row, unit = np.arange(len(block.spikes))[:, None], np.arange(recording.units)
        rate = running_rate(block.total[:, :-1], block.seen[:, None], recording.bin_ms)
        feature = features(block, recording.bin_ms, row, unit)
        mean = np.moveaxis(block.means[:, CHOICES, :-1], 1, 2)
        yield Evidence(block.start, block.spikes, rate, feature, mean)


def running_rate(count: Real[np.ndarray, "..."], bins: Real[np.ndarray, "..."], bin_ms: float) -> np.ndarray:
    weight = PRIOR_MS / bin_ms
    guess = min(PRIOR_HZ * bin_ms / 1000, 0.5)
    return np.clip((count + weight * guess) / (bins + weight), 1e-7, 1 - 1e-4).astype(np.float32)


def features(
    block: Block, bin_ms: float, row: Int[np.ndarray, "..."], unit: Int[np.ndarray, "..."]
) -> Float[np.ndarray, "... feature"]:
    """Of some bins and units: numbers relative to running rates, and bounded, lest a rate never seen run away.

    The constant, the log of the running rate, the waiting time beside the mean interval, indicators of refractoriness,
    levels of own means, levels of the population's means.
    """
    row, unit = np.broadcast_arrays(row, unit)
    everyone = _levels(block.means[:, POPULATION, -1], running_rate(block.total[:, -1], block.seen, bin_ms))
    rate = running_rate(block.total[row, unit], block.seen[row], bin_ms)
    since = np.minimum(block.since[row, unit], 10**7).astype(np.float32)
    waited = np.clip(np.log(since * rate), -BOUND, BOUND)
    parts = [
        np.stack([np.ones_like(rate), np.log(rate), waited], axis=-1),
        since[..., None] == np.arange(1, REFRACTORY + 1),
        _levels(block.means[row, :, unit], rate),
        everyone[row],
    ]
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def _levels(
    means: Float[np.ndarray, "*rest filter"], rate: Float[np.ndarray, "*rest"]
) -> Float[np.ndarray, "*rest filter"]:
    """log((e + kappa r) / ((1 + kappa) r)): 0 where a unit fires as always."""
    base = rate[..., None]
    return np.minimum(np.log((means + KAPPA * base) / ((1 + KAPPA) * base)), BOUND)


@dataclass(frozen=True)
class Baselines:
    """All five, fitted on one recording."""

    source: str
    rate: Float[np.ndarray, "unit"]  # mean of the training bins, a spike at least
    choice: int  # of the exponential means
    line: Float[np.ndarray, "2"]  # of the exponential history: logit = line . (1, log e)
    shared: Float[np.ndarray, "feature"]
    own: Float[np.ndarray, "unit feature"]  # what a unit's weights are away from the shared ones
    penalty: float

    @property
    def tau_ms(self) -> float:
        return TAU_MS[CHOICES[self.choice]]

    def logits(self, evidence: Evidence) -> dict[str, Float[np.ndarray, "time unit"]]:
        """Of every bin and unit that the evidence is of."""
        units = evidence.rate.shape[1]
        channels = min(units, len(self.rate))
        rate = np.full(units, self.rate.mean())
        rate[:channels] = self.rate[:channels]
        weights = np.tile(self.shared, (units, 1))
        weights[:channels] += self.own[:channels]
        mean = np.log(evidence.mean[..., self.choice] + FAINTEST)
        found = {
            "training rate": np.broadcast_to(logit(rate), evidence.rate.shape),
            "running rate": logit(evidence.rate),
            "exponential": self.line[0] + self.line[1] * mean,
            "shared GLM": evidence.feature @ self.shared.astype(np.float32),
            "per-unit GLM": np.einsum("tuf,uf->tu", evidence.feature, weights.astype(np.float32)),
        }
        return {name: values.astype(np.float32) for name, values in found.items()}


def fit_baselines(recording: Recording, seed: int = 0) -> Baselines:
    """On the training bins; the time constant and the penalty by the validation bins."""
    train, validation = draw_rows(recording, seed)
    counts, (start, stop) = recording.counts("train"), recording.span("train")
    quality = [
        roc_auc_score(validation.spike, validation.mean[:, i], sample_weight=validation.weight)
        for i in range(len(CHOICES))
    ]
    choice = int(np.argmax(quality))
    straight = np.stack([np.ones(len(train.spike)), np.log(train.mean[:, choice] + FAINTEST)], axis=1)
    shared = regress(train.feature, train.spike, train.weight, RIDGE)
    own = {penalty: _fit_units(train, shared, recording.units, penalty) for penalty in PENALTIES}
    loss = {penalty: _loss_of_units(validation, shared, weights) for penalty, weights in own.items()}
    penalty = min(loss, key=lambda each: loss[each])
    return Baselines(
        source=recording.name,
        rate=np.clip(counts, 1, stop - start - 1) / (stop - start),
        choice=choice,
        line=regress(straight, train.spike, train.weight, RIDGE),
        shared=shared,
        own=own[penalty],
        penalty=penalty,
    )


def tally_baselines(
    fitted: Baselines, recording: Recording, block_of: Int[np.ndarray, "all"], known: Sequence[Evidence] = ()
) -> dict[str, Tally]:
    """Scored as networks are, on the bins of a recording whose ``block_of`` is not negative.

    ``known`` is what ``gather`` finds for these bins, where several are scored on them.
    """
    scored = np.flatnonzero(block_of >= 0)
    known = known or list(gather(recording, int(scored[0]), int(scored[-1]) + 1))
    empty = empty_tally(int(block_of.max()) + 1, recording.units)
    tallies = {name: jax.tree.map(jnp.copy, empty) for name in NAMES}  # buffers of their own, to be given away
    for evidence in known:
        where = np.full(BLOCK, -1, np.int32)  # padded: one shape, one compiled program
        where[: len(evidence.spikes)] = block_of[evidence.start : evidence.start + len(evidence.spikes)]
        target = _padded(evidence.spikes.astype(np.int32))
        for name, values in fitted.logits(evidence).items():
            tallies[name] = _fold(tallies[name], _padded(values), target, where)
    return tallies


_fold = jax.jit(fold, donate_argnums=0)


def _padded(values: Shaped[np.ndarray, "time unit"]) -> Shaped[np.ndarray, "_ unit"]:
    return np.pad(values, ((0, BLOCK - len(values)), (0, 0)))


def draw_rows(recording: Recording, seed: int = 0) -> tuple[Rows, Rows]:
    """Of training and of validation: of each unit its spikes and as many silences, at most MOST of each."""
    rng = np.random.default_rng(seed)
    chosen = []
    for split in ("train", "validation"):
        start, stop = recording.span(split)
        start = max(start, min(round(WARM_UP_MS / recording.bin_ms), (start + stop) // 2))
        spikes = recording.bits(start, stop)
        for unit, spike in np.ndindex(recording.units, 2):
            found = np.flatnonzero(spikes[:, unit] == spike)
            kept = rng.choice(found, min(len(found), MOST), replace=False)
            weight = np.full(len(kept), len(found) / max(len(kept), 1))
            chosen.append(
                np.stack([start + kept, np.full(len(kept), unit), np.full(len(kept), split == "train"), weight], 1)
            )
    table = np.concatenate(chosen)
    table = table[np.argsort(table[:, 0], kind="stable")]
    where, unit, train = (table[:, i].astype(int) for i in range(3))
    parts = []
    for block, past in walk(recording, int(where[-1]) + 1):
        mine = slice(*np.searchsorted(where, [block.start, past.bins]))
        row, own = where[mine] - block.start, unit[mine]
        means = block.means[row, :, own][:, CHOICES]
        parts.append((features(block, recording.bin_ms, row, own), means, block.spikes[row, own].astype(float)))
    feature, mean, spike = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows = Rows(feature, mean, spike, table[:, 3], unit)
    return Rows(*(x[train == 1] for x in rows)), Rows(*(x[train == 0] for x in rows))


def regress(
    x: Float[np.ndarray, "row feature"],
    spike: Float[np.ndarray, "row"],
    weight: Float[np.ndarray, "row"],
    penalty: float,
    offset: Float[np.ndarray, "row"] | None = None,
) -> Float[np.ndarray, "feature"]:
    """The w of least ``sum weight (softplus(l) - s l) + penalty |w|^2 / 2`` with ``l = x w + offset``.

    The sum is convex and has one such w. Newton's steps, halved where one goes too far.
    """
    x, ridge = x.astype(np.float64), penalty * np.eye(x.shape[1])
    w = np.zeros(x.shape[1])
    if offset is None:  # the first column is the constant: start at the mean rate
        offset = np.zeros(len(x))
        w[0] = logit(np.clip((weight * spike).sum() / weight.sum(), 1e-6, 1 - 1e-6))

    def cost(w: np.ndarray) -> float:
        return loss_of(x @ w + offset, spike, weight) + float(w @ ridge @ w) / 2

    value, gained = cost(w), np.inf
    while gained > 1e-8 * (1 + abs(value)):
        p = expit(x @ w + offset)
        slope = x.T @ (weight * (p - spike)) + ridge @ w
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge
        step, new = np.linalg.solve(curvature, slope), np.inf
        while new > value and np.abs(step).max() > 1e-12:
            new, step = cost(w - step), step / 2
        gained = value - new
        if gained > 0:
            value, w = new, w - 2 * step
    return w


def _fit_units(rows: Rows, shared: Float[np.ndarray, "feature"], units: int, penalty: float) -> np.ndarray:
    """For each unit what to add to the shared weights; 0 for one without rows of both kinds."""
    own = np.zeros((units, len(shared)))
    for unit in range(units):
        mine = np.flatnonzero(rows.unit == unit)
        if rows.spike[mine].any():
            x = rows.feature[mine]
            own[unit] = regress(x, rows.spike[mine], rows.weight[mine], penalty, x @ shared)
    return own


def _loss_of_units(rows: Rows, shared: Float[np.ndarray, "feature"], own: Float[np.ndarray, "unit feature"]) -> float:
    said = np.einsum("rf,rf->r", rows.feature, (shared + own)[rows.unit])
    return loss_of(said, rows.spike, rows.weight)


def loss_of(said: Float[np.ndarray, "row"], spike: Float[np.ndarray, "row"], weight: Float[np.ndarray, "row"]) -> float:
    """Of logits, in nats."""
    return float((weight * (np.logaddexp(0, said) - spike * said)).sum())


def logit(p: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
    return np.log(p) - np.log1p(-p)
