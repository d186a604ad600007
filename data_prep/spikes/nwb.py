"""Spike times from the units table of an NWB file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from data_prep.spikes.spike_times import MS_PER_SECOND, SpikeTimes, make_spike_times
from data_prep.units.h5 import open_h5, read_array, row_slice
from jaxephys.schemas.storage import DataError


def read_nwb(
    path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> SpikeTimes:
    """Read the spike times of all units of a file.

    Parameters
    ----------
    path : str or Path
        The NWB file.
    tick_ms : float, optional
        Length of a tick in ms; the format has seconds.
    interval : (float, float), optional
        Start and stop in s of the part to keep; all by default.

    Returns
    -------
    SpikeTimes
        The spike times, with the depth of units if the table has it. The recording ends with the last observation
        interval, if the table has them.

    Raises
    ------
    DataError
        If the file cannot be read or has no units with spike times.
    """
    path = Path(path)
    with open_h5(path) as file:
        table = file.get("units")
        if not isinstance(table, h5py.Group) or not {"id", "spike_times", "spike_times_index"} <= set(table):
            raise DataError(f"{path} has no units with spike times: sort its spikes first")
        times, ends = read_array(table, "spike_times"), read_array(table, "spike_times_index")
        ticks = [times[row_slice(ends, row)] for row in range(len(ends))]
        unit = [str(x) for x in read_array(table, "id")]
        observed = read_array(table, "obs_intervals") if "obs_intervals" in table else np.zeros((0, 2))
        about = {"depth": read_array(table, "depth")} if "depth" in table else {}
    end = float(observed.max()) if observed.size else None
    return make_spike_times(path, unit, ticks, tick_ms or MS_PER_SECOND, end=end, interval=interval, about=about)
