"""Scores of predicted spikes, streamed: blocks of logits are folded into counts of fixed size, and no logit is kept.

The counts are a histogram of the logits for each block of time, unit and outcome. All scores are sums over it: pooled
(which rewards knowing *who* fires) and within the unit (which rewards knowing *when*). Blocks of time are kept apart,
so that an interval can resample them, the same ones for all models.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real
from scipy.special import expit

from jaxephys.dimensions import AnyArray
from jaxephys.evaluation.intervals import Interval

PLACES = 2048  # of a histogram: on real recordings every area is then within 1e-4 of the exact one
MIDDLE, BEND = (
    -4.0,
    3.0,
)  # logit where the places are finest, and how far from it they are half as dense: spikes are rare
FEWEST = 10  # spikes, below which a unit has no area of its own
CALIBRATION_BINS = 15
WORST = 1e30  # nats of an infinite logit that was wrong: finite, since a table of zeros times infinity is no number
LONGEST_ALARM = 0.005  # false positive rate that a threshold may have


class Tally(NamedTuple):
    """What is known of a model on a recording: adding two tallies tells the scores on both."""

    count: Real[AnyArray, "*run block unit place 2"]  # bins without (0) and with (1) a spike
    loss: Float[AnyArray, "*run block unit"]  # sum of -log p(outcome), in nats
    squares: Float[AnyArray, "*run block unit"]  # sum of (p - outcome)^2


def empty_tally(blocks: int, units: int, places: int = PLACES) -> Tally:
    zero = jnp.zeros((blocks, units))
    return Tally(jnp.zeros((blocks, units, places, 2), jnp.int32), zero, zero)


def fold(
    tally: Tally,
    logit: Float[AnyArray, "time unit"],
    target: Int[AnyArray, "time unit"],
    block: Int[AnyArray, "time"],
) -> Tally:
    """The tally with these bins added; a bin whose block is negative is padding. Runs under `jit`, `scan` and `vmap`.

    The sums over blocks are products with a one-hot table: unlike a scatter-add they sum in a fixed order.
    """
    blocks, units, places, _ = tally.count.shape
    real = (block >= 0)[:, None]
    logit = jnp.where(real, logit.astype(jnp.float32), 0.0)
    cell = (block[:, None] * units + jnp.arange(units)) * places + place_of(logit, places)
    broken = jnp.isnan(logit) | ~real  # a NaN has no place; the loss carries it into every score
    cell = jnp.where(broken, tally.count.size, 2 * cell + target)
    count = tally.count.reshape(-1).at[cell.reshape(-1)].add(1, mode="drop").reshape(tally.count.shape)
    member = jax.nn.one_hot(block, blocks)
    loss = jnp.minimum(jax.nn.softplus(jnp.where(target == 1, -logit, logit)), WORST)
    squares = (jax.nn.sigmoid(logit) - target) ** 2
    total = [
        jnp.einsum("tb,tu->bu", member, jnp.where(real, value, 0.0), precision=jax.lax.Precision.HIGHEST)
        for value in (loss, squares)
    ]
    return Tally(count, tally.loss + total[0], tally.squares + total[1])


def place_of(logit: Float[AnyArray, "..."], places: int) -> Int[AnyArray, "..."]:
    """Of d, the logit less the middle: d / (|d| + bend), from -1 to 1, cut into equal parts. No logit falls outside."""
    away = jnp.clip(logit - MIDDLE, -1e30, 1e30)
    bent = away / (jnp.abs(away) + BEND)
    return jnp.clip(jnp.floor((bent + 1) * (places / 2)), 0, places - 1).astype(jnp.int32)


def logit_of(place: Float[np.ndarray, "place"], places: int) -> Float[np.ndarray, "place"]:
    """The logit at which a place begins, and between two places in between: `place_of` turned round."""
    bent = 2 * place / places - 1
    with np.errstate(divide="ignore"):
        return MIDDLE + BEND * bent / (1 - np.abs(bent))


def scores(
    tally: Tally, rate: Float[np.ndarray, "unit"] | None = None, threshold: float | None = None
) -> dict[str, float]:
    """All scores of one model on the blocks of its tally.

    `bits_per_spike` is the likelihood gained on each unit's own mean in these very bins, which no forecast knows
    beforehand; `bits_per_spike_training` on `rate`, the spikes a bin of each unit in training. The accuracies are those
    of calling a spike wherever the logit is at least `threshold`.
    """
    count = np.asarray(tally.count).sum(0).astype(np.float64)
    loss, squares = (np.asarray(x, np.float64).sum() for x in (tally.loss, tally.squares))
    if np.isnan(loss):
        raise ValueError("the logits hold a NaN: the model has diverged and has no scores.")
    spikes, bins = count[..., 1].sum(1), count.sum((1, 2))
    enough = spikes >= FEWEST
    auc, ap = areas(count.sum(0))
    own_auc, own_ap = areas(count[enough])
    prevalence = spikes.sum() / bins.sum()
    found = {
        "roc_auc": auc,
        "average_precision": ap,
        "ap_over_prevalence": ap / prevalence,
        "roc_auc_within_unit": _mean(own_auc),
        "average_precision_within_unit": _mean(own_ap),
        "ap_over_prevalence_within_unit": _mean(own_ap / (spikes / bins)[enough]),
        "bits_per_spike": _gain(loss, spikes, bins, spikes / bins),
        "brier": squares / bins.sum(),
        "ece": calibration_error(count.sum(0)),
        "prevalence": prevalence,
        "units_scored": enough.sum(),
    }
    if rate is not None:
        found["bits_per_spike_training"] = _gain(loss, spikes, bins, rate)
    if threshold is not None:
        found |= accuracies(count.sum(0), threshold)
    return {name: float(value) for name, value in found.items()}


def areas(count: Real[np.ndarray, "*unit place 2"]) -> tuple[Float[AnyArray, "*unit"], Float[AnyArray, "*unit"]]:
    """ROC-AUC and average precision of a histogram; scores in one place are ties. nan where one outcome is absent.

    AUC = P(a spike's place above a silence's) + P(same) / 2, and AP = sum of (recall gained) x precision from the
    highest place down: scikit-learn's two definitions.
    """
    silent, spiking = count[..., ::-1, 0], count[..., ::-1, 1]
    hits, alarms = spiking.cumsum(-1), silent.cumsum(-1)
    both = np.where((hits[..., -1] > 0) & (alarms[..., -1] > 0), 1.0, np.nan)
    spikes, silences = np.maximum(hits[..., -1], 1), np.maximum(alarms[..., -1], 1)
    auc = (silent * (hits - spiking / 2)).sum(-1) / spikes / silences
    ap = (spiking * hits / np.maximum(hits + alarms, 1)).sum(-1) / spikes
    return auc * both, ap * both


@jax.jit
def exact_areas(
    logit: Float[AnyArray, "row"], target: Int[AnyArray, "row"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`areas` without a histogram, by one sort on the device: the check of the streamed ones. `vmap` it over units.

    Counts are integers, and the products are added in pairs, then pairs of pairs: six million float32 added one after
    the other would lose the sixth digit.
    """
    order, spiking = jax.lax.sort((-logit.astype(jnp.float32), target.astype(jnp.int32)), num_keys=1)
    end = jnp.append(order[1:] != order[:-1], True)  # the last of each tie
    hits = jnp.cumsum(spiking)
    alarms = jnp.arange(1, len(order) + 1) - hits
    before = jax.lax.cummax(jnp.where(end, jnp.arange(1, len(order) + 1), 0))  # rows up to the last end
    before = jnp.append(0, before[:-1])
    at_start = lambda total: jnp.where(before > 0, total[jnp.maximum(before - 1, 0)], 0)  # noqa: E731
    new_hits, new_alarms = (jnp.where(end, total - at_start(total), 0) for total in (hits, alarms))
    total_hits, total_alarms = hits[-1].astype(jnp.float32), alarms[-1].astype(jnp.float32)
    auc = _pairwise_sum(new_alarms / total_alarms * ((hits - new_hits / 2) / total_hits))
    ap = _pairwise_sum(new_hits / total_hits * (hits / (hits + alarms)))
    return auc, jnp.where(total_alarms == 0, jnp.nan, ap)


def choose_threshold(tally: Tally) -> float:
    """The logit of the highest (recall - false positive rate), Youden's J, with at most 5 false alarms in 1,000 silences.

    To be chosen on validation bins. It is the lowest logit of a place, so that the histogram of the test bins counts
    exactly what lies above it.
    """
    count = np.asarray(tally.count).sum((0, 1)).astype(np.float64)
    above = count[::-1].cumsum(0)[::-1] / count.sum(0)  # at or above each place
    gain = np.where(above[:, 0] <= LONGEST_ALARM, above[:, 1] - above[:, 0], -np.inf)
    return float(logit_of(np.array([float(gain.argmax())]), len(count))[0])


def accuracies(count: Float[np.ndarray, "place 2"], threshold: float) -> dict[str, float]:
    """Shares of the silent and of the spiking bins that are called right, and of both together."""
    above = logit_of(np.arange(len(count)) * 1.0, len(count)) >= threshold
    zeros, ones = count[~above, 0].sum(), count[above, 1].sum()
    total = count.sum(0)
    return {
        "accuracy_on_0": zeros / total[0],
        "accuracy_on_1": ones / total[1],
        "accuracy": (zeros + ones) / total.sum(),
    }


def calibration_error(count: Float[np.ndarray, "place 2"], bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over bins that hold equally many predictions.

    Bins of equal width would hold nearly all in the first: a spike's probability is rarely above 1/15. The prediction of a
    place is the probability at its middle.
    """
    probability = expit(logit_of(np.arange(len(count)) + 0.5, len(count)))
    total = count.sum(1)
    part = np.minimum((total.cumsum() - total / 2) / total.sum() * bins, bins - 1).astype(int)
    expected, seen = (np.bincount(part, weights, bins) for weights in (total * probability, count[:, 1]))
    return float(np.abs(expected - seen).sum() / total.sum())


def bootstrap(
    tallies: dict[str, Tally], resamples: int = 200, seed: int = 0, level: float = 0.95, **given
) -> dict[tuple[str, str], Interval]:
    """`{(model, score): interval}`, and `{("a - b", score): interval}` of each pair, over resampled blocks of time.

    A resample draws as many blocks as there are, with repeats, the same for all models: what makes some seconds hard
    for all of them does not widen their difference. It holds a block beside itself, and so knows less of slow changes:
    areas within units come out .01 lower than from all blocks. That is of the draw and not of the model: the quantiles
    are moved by what their mean is away from the estimate. `given` goes to `scores`.
    """
    blocks = {len(tally.loss) for tally in tallies.values()}
    if len(blocks) != 1 or min(blocks) < 2:
        raise ValueError(f"models are compared on the same 2 or more blocks of time, not on {sorted(blocks)}.")
    n = blocks.pop()
    rng = np.random.default_rng(seed)
    ready = {name: Tally(*(np.asarray(part, np.float32) for part in tally)) for name, tally in tallies.items()}
    found: dict[tuple[str, str], list[float]] = {}
    for draw in [np.arange(n), *rng.integers(n, size=(resamples, n))]:
        times = np.bincount(draw, minlength=n).astype(np.float32)
        each = {name: scores(_weighed(tally, times), **given) for name, tally in ready.items()}
        names = list(each)
        each |= {
            f"{a} - {b}": {key: each[a][key] - each[b][key] for key in each[a]}
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        }
        for name, values in each.items():
            for key, value in values.items():
                found.setdefault((name, key), []).append(value)
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = {}
    for key, (whole, *drawn) in found.items():
        low, high = np.nanquantile(drawn, tails) - np.nanmean(drawn) + whole
        intervals[key] = Interval(whole, float(low), float(high))
    return intervals


def _weighed(tally: Tally, times: Float[np.ndarray, "block"]) -> Tally:
    """The tally of a resample, in one block: each block counted as often as it was drawn."""
    return Tally(*(np.tensordot(times, part, 1)[None] for part in tally))


def _gain(
    loss: float, spikes: Float[np.ndarray, "unit"], bins: Float[np.ndarray, "unit"], rate: Float[np.ndarray, "unit"]
) -> float:
    """Bits a spike gained on the constant `rate` of each unit; a unit that was silent counts as one spike in 10^6 bins."""
    rate = np.clip(rate, 1e-6, 1 - 1e-6)
    null = -(spikes * np.log(rate) + (bins - spikes) * np.log1p(-rate)).sum()
    return (null - loss) / np.log(2) / spikes.sum()


def _pairwise_sum(values: Float[AnyArray, "row"]) -> Float[Array, ""]:
    values = jnp.pad(values, (0, 2 ** (len(values) - 1).bit_length() - len(values)))
    while len(values) > 1:
        values = values[::2] + values[1::2]
    return values[0]


def _mean(values: Float[np.ndarray, "unit"]) -> float:
    """nan, without NumPy's warning, where no unit has enough spikes."""
    return float(values.mean()) if len(values) else float("nan")
