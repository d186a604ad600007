"""From recordings to arrays on the device: packed bits, and the filter state before every window.

Windows lie on a fixed grid: window k holds the bins from ``k length`` to ``(k + 1) length - 1``, and the bin after each of
them is predicted. The states of the history filters before every window are computed once, so that a training window starts
from everything that happened before it. Start with :func:`make_data`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt

from jaxephys.dimensions import AnyArray
from jaxephys.engine.devices import jit_local
from jaxephys.schemas.recording import Recording
from jaxephys.spikes.history import Filters, History, initial_history, last_state, trace_history


class SpikeData(NamedTuple):
    """All recordings of a grid, as the engine puts them on the device.

    Parameters
    ----------
    packed : uint8 array of shape (recordings, bins, ceil(units / 8))
        Eight units a byte; shorter recordings end with silent bins.
    history : History or None
        State of the history filters before each window, with leading axes (recordings, windows); None for a network without
        filters.
    """

    packed: UInt[AnyArray, "recording all byte"]
    history: History | None


def make_data(recordings: Sequence[Recording], filters: Filters | None, length: int) -> SpikeData:
    """Stack recordings, and compute the filter states before their windows.

    Parameters
    ----------
    recordings : sequence of Recording
        Recordings of equally many units. Shorter ones are padded with silence, which no window reaches.
    filters : Filters or None
        Filters of the network (``network.filters``).
    length : int
        Bins of a window.

    Returns
    -------
    SpikeData
        NumPy arrays.

    Raises
    ------
    ValueError
        If the recordings have different numbers of units.
    """
    units = {recording.units for recording in recordings}
    if len(units) != 1:
        raise ValueError(f"recordings of {sorted(units)} units cannot be trained as one program: give equally many")
    n_units = units.pop()
    longest = max(max(len(recording) for recording in recordings), length + 1)
    packed = np.stack([np.pad(recording.packed, ((0, longest - len(recording)), (0, 0))) for recording in recordings])
    if filters is None:
        return SpikeData(packed, None)
    history = [jax.device_get(_compiled_history(filters, part, n_units, length)) for part in packed]
    return SpikeData(packed, jax.tree.map(lambda *leaves: np.stack(leaves), *history))


def unpack_bits(packed: UInt[AnyArray, "*run time byte"], n_units: int) -> Float[Array, "*run time unit"]:
    """Unpack bits to zeros and ones on the device.

    Parameters
    ----------
    packed : uint8 array of shape (..., bins, ceil(n_units / 8))
        Eight units a byte, the first unit in the lowest bit, as :class:`jaxephys.schemas.recording.Recording` holds them.
    n_units : int
        Number of units; the spare bits of the last byte are dropped.

    Returns
    -------
    float32 array of shape (..., bins, n_units)
        1 where a unit fired in a bin.
    """
    return jnp.unpackbits(packed, axis=-1, count=n_units, bitorder="little").astype(jnp.float32)


def unpack_window(
    packed: UInt[AnyArray, "all byte"], start: Int[AnyArray, ""], n_bins: int, n_units: int
) -> Float[Array, "time unit"]:
    """Unpack ``n_bins`` bins that begin with bin ``start``.

    Parameters
    ----------
    packed : uint8 array of shape (bins, ceil(n_units / 8))
        All bins of a recording.
    start : int
        First bin. A start later than ``bins - n_bins`` is moved back to it, as ``jax.lax.dynamic_slice`` does.
    n_bins, n_units : int
        Size of the result.

    Returns
    -------
    float32 array of shape (n_bins, n_units)
        Zeros and ones.
    """
    return unpack_bits(lax.dynamic_slice_in_dim(packed, start, n_bins), n_units)


def history_before_windows(filters: Filters, packed: UInt[AnyArray, "all byte"], n_units: int, length: int) -> History:
    """Compute the filter states before bins 0, ``length``, 2 ``length``, ... of a recording.

    With them a training window starts from everything that happened before it.

    Parameters
    ----------
    filters : Filters
        Time constants and bin width.
    packed : uint8 array of shape (bins, ceil(n_units / 8))
        All bins of a recording.
    n_units : int
        Number of units.
    length : int
        Bins of a window.

    Returns
    -------
    History
        One state per whole window, stacked along a leading window axis.

    Raises
    ------
    ValueError
        If ``length`` is below 1 or longer than the recording.
    """
    if not 1 <= length <= len(packed):
        raise ValueError(
            f"windows of {length} bins do not fit a recording of {len(packed)}: use 1 to {len(packed)} bins"
        )

    def read_window(history: History, start: Array) -> tuple[History, History]:
        spikes = unpack_window(packed, start, length, n_units)
        return last_state(trace_history(filters, history, spikes)), history

    starts = jnp.arange(0, len(packed) - length + 1, length, dtype=jnp.int32)
    return lax.scan(read_window, initial_history(filters, n_units), starts)[1]


_compiled_history = jit_local(history_before_windows, (0, 2, 3))
