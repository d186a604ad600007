"""Spike times from asdf files: MATLAB cell arrays with one cell of ticks per unit.

The last two cells are the length of a tick in ms (often empty, or zeros) and [units, length in ticks]. The format has
no reliable unit of time: of the published files some count milliseconds and others samples at 30 kHz.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from data_prep.spikes.spike_times import TICK_OPTIONS, SpikeTimes, make_spike_times
from jaxephys.schemas.storage import DataError


def read_asdf(
    path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None
) -> SpikeTimes:
    """Read an asdf file of MATLAB v5.

    Parameters
    ----------
    path : str or Path
        The file.
    tick_ms : float, optional
        Length of a tick in ms; it takes precedence over the one in the file.
    interval : (float, float), optional
        Start and stop in s of the part to keep; all by default.

    Returns
    -------
    SpikeTimes
        The spike times; units are named by their position, "0", "1", ...

    Raises
    ------
    DataError
        If the file is missing or has another layout, or neither the file nor ``tick_ms`` gives the length of a tick.
    """
    path = Path(path)
    cells = _cell_array(path)
    if len(cells) < 3:
        raise DataError(f"{path} has {len(cells)} cells: asdf has one per unit, then the tick, then [units, length]")
    ticks, stored_tick, size = cells[:-2], np.ravel(cells[-2]), np.ravel(cells[-1])
    if size.size != 2 or int(size[0]) != len(ticks):
        raise DataError(
            f"the last cell of {path} is {size.tolist()} for {len(ticks)} units: in asdf it is [units, length]"
        )
    if tick_ms is None:
        if stored_tick.size != 1 or not float(stored_tick[0]) > 0:
            raise DataError(f"{path} does not contain the length of a tick: give {TICK_OPTIONS}")
        tick_ms = float(stored_tick[0])
    end = float(size[1])
    if end in (np.max(unit_ticks) for unit_ticks in ticks if np.size(unit_ticks)):
        end += 1  # MATLAB counts from 1: a spike at the length is the last tick, not one beyond it
    return make_spike_times(path, [str(i) for i in range(len(ticks))], ticks, tick_ms, end=end, interval=interval)


def _cell_array(path: Path) -> list[Any]:
    """Return the only cell array of the file."""
    if not path.is_file():
        raise DataError(f"there is no file {path}: give one with an asdf cell array")
    try:
        content = loadmat(path)
    except NotImplementedError:
        raise DataError(f"{path} is a file of MATLAB v7.3: save it again in MATLAB with save(..., '-v7')") from None
    except (MatReadError, ValueError, TypeError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable MATLAB file ({error}): fetch it again") from None
    cells = {
        name: value for name, value in content.items() if isinstance(value, np.ndarray) and value.dtype.kind == "O"
    }
    if len(cells) != 1:
        raise DataError(f"{path} has {len(cells)} cell arrays ({', '.join(cells) or 'none'}): asdf has one")
    return list(np.ravel(next(iter(cells.values()))))
