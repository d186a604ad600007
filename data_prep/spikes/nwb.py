"""Nwb: the units table of an NWB file -> trains."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from data_prep.spikes.arrays import SECOND
from data_prep.spikes.spike_times import SpikesError, Trains, trains_of
from data_prep.units.h5 import array, open_h5, span


def read_nwb(path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None) -> Trains:
    """Read a file; the format has seconds. The end is that of the observation intervals, if the table has them."""
    path = Path(path)
    with open_h5(path) as file:
        table = file.get("units")
        if not isinstance(table, h5py.Group) or not {"id", "spike_times", "spike_times_index"} <= set(table):
            raise SpikesError(f"{path} has no units with spike times: sort its spikes first")
        times, ends = array(table, "spike_times"), array(table, "spike_times_index")
        ticks = [times[span(ends, row)] for row in range(len(ends))]
        unit = [str(x) for x in array(table, "id")]
        observed = array(table, "obs_intervals") if "obs_intervals" in table else np.zeros((0, 2))
        about = {"depth": array(table, "depth")} if "depth" in table else {}
    end = float(observed.max()) if observed.size else None
    return trains_of(path, unit, ticks, tick_ms or SECOND, end=end, interval=interval, about=about)
