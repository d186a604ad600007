"""Bits are unpacked on the device as NumPy unpacks them, and the history before a window holds every bin before it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxephys.spikes.history import Filters, initial_history, last_state, trace_history
from jaxephys.spikes.preprocessing import history_before_windows, unpack_bits, unpack_window

RNG = np.random.default_rng(0)
BINS, UNITS = 400, 11
SPIKES = (RNG.random((BINS, UNITS)) < 0.1).astype(np.uint8)
PACKED = np.packbits(SPIKES, axis=1, bitorder="little")


@pytest.mark.parametrize("units", [1, 7, 8, 9, 128])
def test_bits_are_unpacked_on_the_device_as_numpy_does(units):
    spikes = RNG.random((20, units)) < 0.5
    packed = np.packbits(spikes, axis=1, bitorder="little")
    np.testing.assert_array_equal(jax.jit(unpack_bits, static_argnums=1)(packed, units), spikes)


def test_a_window_begins_with_the_requested_bin():
    window = jax.jit(unpack_window, static_argnums=(2, 3))(jnp.asarray(PACKED), jnp.int32(123), 50, UNITS)
    np.testing.assert_array_equal(window, SPIKES[123:173])


def test_history_before_windows_holds_all_bins_before():
    filters = Filters(bin_ms=0.5)
    states = history_before_windows(filters, jnp.asarray(PACKED), UNITS, 90)
    assert states.n_bins.tolist() == [0, 90, 180, 270]
    whole = last_state(trace_history(filters, initial_history(filters, UNITS), jnp.asarray(SPIKES[:270], jnp.float32)))
    for found, wanted in zip(states, whole, strict=True):
        np.testing.assert_allclose(found[3], wanted, rtol=1e-5, atol=1e-7)


def test_windows_longer_than_the_recording_are_refused():
    with pytest.raises(ValueError, match="windows of 401 bins do not fit a recording of 400"):
        history_before_windows(Filters(), jnp.asarray(PACKED), UNITS, 401)
