"""The linear expert recovers known weights and uses training bins only."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxephys.schemas.recording import Recording
from jaxephys.spikes.history import Filters, compute_features, initial_history, trace_history
from jaxephys.spikes.linear_expert import WINDOW, fit_linear_expert, linear_logits, running_rate_weights
from tests.spikes.synthetic import advance_one_bin, synthetic_recording

FILTERS, UNITS = Filters(), 12


def simulate(weights: np.ndarray, bins: int) -> np.ndarray:
    """Draw spikes of units whose next bin follows from their past by known weights."""

    def step(carry, key):
        state, spikes = carry
        state = advance_one_bin(FILTERS, state, spikes)
        features = jax.tree.map(lambda leaf: leaf[None], compute_features(FILTERS, state))
        spikes = (jax.random.uniform(key, (UNITS,)) < jax.nn.sigmoid(linear_logits(weights, features)[0])).astype(
            jnp.float32
        )
        return (state, spikes), spikes

    keys = jax.random.split(jax.random.key(0), bins)
    start = initial_history(FILTERS, UNITS), jnp.zeros(UNITS)
    return np.asarray(jax.lax.scan(step, start, keys)[1]).astype(np.uint8)


def misfit(weights: np.ndarray, spikes: np.ndarray) -> float:
    """Nats per bin and unit."""
    features = compute_features(
        FILTERS, trace_history(FILTERS, initial_history(FILTERS, UNITS), jnp.asarray(spikes[:-1], jnp.float32))
    )
    return float(-jax.nn.log_sigmoid((2.0 * spikes[1:] - 1) * linear_logits(weights, features)).mean())


def test_known_weights_are_recovered():
    true_weights = np.zeros_like(running_rate_weights(FILTERS))
    recent = 2 + FILTERS.n_features - 5  # spikes of 0 to 1, 1 to 2, 2 to 3, 3 to 5 and 5 to 10 ms ago
    true_weights[[0, 1, recent, recent + 1, recent + 2]] = [-2.5, 0.2, -4.0, -2.0, 1.5]
    spikes = simulate(true_weights, 60_000)
    found = fit_linear_expert(FILTERS, Recording.from_array(spikes, name="simulated"))
    least, rate = misfit(true_weights, spikes[-10_000:]), misfit(running_rate_weights(FILTERS), spikes[-10_000:])
    assert misfit(found, spikes[-10_000:]) < least + 0.02 * (rate - least)


def test_only_training_bins_are_used():
    one = synthetic_recording(0)
    stop = one.span("train")[1]
    other = replace(one, packed=np.concatenate([one.packed[:stop], one.packed[stop:][::-1]]))
    assert other.sha256 != one.sha256
    np.testing.assert_array_equal(fit_linear_expert(FILTERS, one), fit_linear_expert(FILTERS, other))


def test_a_silent_training_split_gives_the_running_rate():
    one, packed = synthetic_recording(0), synthetic_recording(0).packed.copy()
    packed[slice(*one.span("train"))] = 0
    np.testing.assert_array_equal(
        fit_linear_expert(FILTERS, replace(one, packed=packed)), running_rate_weights(FILTERS)
    )


def test_two_windows_are_enough_to_fit():
    short = replace(synthetic_recording(0), splits=np.array([[0, 2 * WINDOW], [2000, 4000], [4000, 6000]]))
    assert not np.array_equal(fit_linear_expert(FILTERS, short), running_rate_weights(FILTERS))
