"""A mixture of several forecasts (experts) of the next bin, weighted by how well each has predicted the recording so far.

A network may predict another recording badly, which can only be found out from the past of that recording. Each unit has its own
weights. With p_k(t) the probability that expert k gave to the observed value (spike or no spike) of bin t, and w_k(t) the weight of
the expert after bin t,

    log w_k(t) = prior_k + sum_{s <= t} 2^(-(t - s) / HALF_LIFE) log p_k(s),    p(t + 1) = sum_k w_k(t) p_k(t + 1) / sum_k w_k(t).

This is Bayesian model averaging over the experts, in which older bins count less. The log likelihood of the mixture is therefore close
to that of its best expert, or higher. The mixture is causal if all experts are. The experts are, in this order:

1. the network,
2. a linear model of the same features,
3. the mean of the logits of these two,
4. the mean of the logits of the network and of the running rate,
5. the running rate of the unit,
6. and further: exponential means of the unit's spikes, with the slower time constants.

The experts 1 to 3 have a larger prior, which determines the weights of a unit as long as it has fired too rarely to compare experts.

The linear model improves transfer to other recordings. From the in vitro to the in vivo recording, on validation bins, the AUC within
units is .56 without it and .60 with it, and bits per spike are .14 and .18; scores on the training recording do not decrease.

Start with :func:`mix_experts`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.spikes.history import Filters, HistoryFeatures
from jaxephys.spikes.linear_expert import linear_logits

HALF_LIFE = 20_000  # bins after which an observed bin counts half
N_FAVORED, PRIOR_NATS = 3, 6.0  # prior_k is 6 nats for the first three experts and 0 for the others
SLOW_MS = 100.0  # exponential means with this time constant or a longer one are experts; faster ones predict badly
MAX_PROBABILITY = 0.99  # largest probability that an exponential mean predicts as an expert


class ExpertWeights(NamedTuple):
    """State of the mixture after a window: what is needed to continue with the next one.

    Parameters
    ----------
    log_likelihood : float array of shape (units, experts)
        Sum over s of the formula above, in nats; in every bin, the largest log p_k(s) is subtracted from that of all experts,
        which does not change the mixture.
    next_logits : float array of shape (units, experts)
        Forecasts of the experts for the first bin after the window.
    """

    log_likelihood: Float[AnyArray, "unit expert"]
    next_logits: Float[AnyArray, "unit expert"]


def initial_expert_weights(filters: Filters, n_units: int) -> ExpertWeights:
    """Return the state of the mixture before the first bin.

    Parameters
    ----------
    filters : Filters
        Filters of the spike history, whose time constants determine the number of experts.
    n_units : int
        Number of units.

    Returns
    -------
    ExpertWeights
        Zeros, that is, forecasts of 1/2 for the first bin.
    """
    n_means = int(np.sum(np.array(filters.tau_ms[:-1]) >= SLOW_MS))  # the last filter is the running rate
    n_experts = N_FAVORED + 2 + n_means
    return ExpertWeights(jnp.zeros((n_units, n_experts)), jnp.zeros((n_units, n_experts)))


def expert_logits(
    filters: Filters,
    features: HistoryFeatures,
    logits: Float[Array, "time unit"],
    linear_weights: Float[AnyArray, "weight"],
) -> Float[Array, "time unit expert"]:
    """Compute the logits of all experts.

    Parameters
    ----------
    filters : Filters
        Filters of the spike history.
    features : HistoryFeatures
        Features of each bin of a window.
    logits : float array of shape (bins, units)
        Logits of the network; row t belongs to bin t + 1.
    linear_weights : float array of shape (2 + features,)
        Weights of the linear expert.

    Returns
    -------
    float32 array of shape (bins, units, experts)
        Row t belongs to bin t + 1. The probability of an exponential mean is ``exp(level) * rate``, computed from the feature
        level_k and the running rate, and hence contains a small share of the running rate.
    """
    first = int(np.searchsorted(filters.tau_ms[:-1], SLOW_MS))
    rate = jax.nn.sigmoid(features.rate_logit)[..., None]
    # The first features of a unit are the levels of all filters but the last.
    mean = jnp.minimum(rate * jnp.exp(features.unit[..., first : len(filters.tau_ms) - 1]), MAX_PROBABILITY)
    linear = linear_logits(linear_weights, features)
    favored = [logits, linear, (logits + linear) / 2]
    others = [(logits + features.rate_logit) / 2, features.rate_logit]
    return jnp.concatenate(
        [jnp.stack([*favored, *others], axis=-1), jnp.log(mean) - jnp.log1p(-mean)],
        axis=-1,
    )


def mix_experts(
    weights: ExpertWeights, logits: Float[Array, "time unit expert"], spikes: Float[AnyArray, "time unit"]
) -> tuple[Float[Array, "time unit"], ExpertWeights]:
    """Compute the logits of the mixture over a window.

    Parameters
    ----------
    weights : ExpertWeights
        State before the window.
    logits : float array of shape (bins, units, experts)
        Logits of the experts; row t belongs to bin t + 1.
    spikes : float array of shape (bins, units)
        Zeros and ones: the observed bins of the window.

    Returns
    -------
    logits : float32 array of shape (bins, units)
        Logits of the mixture; row t belongs to bin t + 1 and depends on spikes up to bin t.
    weights : ExpertWeights
        State after the window.
    """
    forecasts = jnp.concatenate([weights.next_logits[None], logits[:-1]])  # row t belongs to bin t
    spike_sign = (2 * spikes - 1)[..., None]
    log_p = jax.nn.log_sigmoid(spike_sign * forecasts)
    log_p = log_p - jnp.max(log_p, axis=-1, keepdims=True)  # only differences between experts matter
    bins = jnp.arange(1, len(spikes) + 1)[:, None, None]
    decay = 2.0 ** (-bins / HALF_LIFE)
    log_likelihood = decay * (weights.log_likelihood + jnp.cumsum(log_p / decay, axis=0))
    log_weight = jax.nn.log_softmax(log_likelihood.at[..., :N_FAVORED].add(PRIOR_NATS), axis=-1)
    spike, silence = (jax.nn.logsumexp(log_weight + jax.nn.log_sigmoid(sign * logits), axis=-1) for sign in (1, -1))
    return spike - silence, ExpertWeights(log_likelihood[-1], logits[-1])
