"""The plainest expert: what it finds, and what it may look at."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxephys.schemas.recording import Recording
from jaxephys.spikes.history import Filters, advance, no_history, read, trace
from jaxephys.spikes.linear_expert import WINDOW, along, fit_line, running_rate_line
from tests.spikes.synthetic import planted

FILTERS, UNITS = Filters(), 12


def drawn_from(line: np.ndarray, bins: int) -> np.ndarray:
    """Spikes of units whose next bin is what the line says of their past, about a rate of each."""

    def step(carry, key):
        state, spikes = carry
        state = advance(FILTERS, state, spikes)
        reading = jax.tree.map(lambda leaf: leaf[None], read(FILTERS, state))
        spikes = (jax.random.uniform(key, (UNITS,)) < jax.nn.sigmoid(along(line, reading)[0])).astype(jnp.float32)
        return (state, spikes), spikes

    keys = jax.random.split(jax.random.key(0), bins)
    start = no_history(FILTERS, UNITS), jnp.zeros(UNITS)
    return np.asarray(jax.lax.scan(step, start, keys)[1]).astype(np.uint8)


def misfit(line: np.ndarray, spikes: np.ndarray) -> float:
    """Nats a bin and unit, a step ahead."""
    reading = read(FILTERS, trace(FILTERS, no_history(FILTERS, UNITS), jnp.asarray(spikes[:-1], jnp.float32)))
    return float(-jax.nn.log_sigmoid((2.0 * spikes[1:] - 1) * along(line, reading)).mean())


def test_it_finds_the_line_that_made_the_spikes():
    made = np.zeros_like(running_rate_line(FILTERS))
    recent = 2 + FILTERS.features - 5  # spikes of 0 to 1, 1 to 2, 2 to 3, 3 to 5 and 5 to 10 ms ago
    made[[0, 1, recent, recent + 1, recent + 2]] = [-2.5, 0.2, -4.0, -2.0, 1.5]
    spikes = drawn_from(made, 60_000)
    found = fit_line(FILTERS, Recording.from_array(spikes, name="drawn"))
    least, rate = misfit(made, spikes[-10_000:]), misfit(running_rate_line(FILTERS), spikes[-10_000:])
    assert misfit(found, spikes[-10_000:]) < least + 0.02 * (rate - least)


def test_it_looks_at_training_bins_alone():
    one = planted(0)
    stop = one.span("train")[1]
    other = replace(one, packed=np.concatenate([one.packed[:stop], one.packed[stop:][::-1]]))
    assert other.sha256 != one.sha256
    np.testing.assert_array_equal(fit_line(FILTERS, one), fit_line(FILTERS, other))


def test_silence_teaches_nothing():
    one, packed = planted(0), planted(0).packed.copy()
    packed[slice(*one.span("train"))] = 0
    np.testing.assert_array_equal(fit_line(FILTERS, replace(one, packed=packed)), running_rate_line(FILTERS))


def test_two_windows_are_enough_to_learn_from():
    short = replace(planted(0), splits=np.array([[0, 2 * WINDOW], [2000, 4000], [4000, 6000]]))
    assert not np.array_equal(fit_line(FILTERS, short), running_rate_line(FILTERS))
