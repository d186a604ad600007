"""Asdf: a MATLAB cell array of spike times -> trains.

One cell of ticks a unit, then the length of a tick in ms (often empty, or zeros), then [units, length in ticks]. The format has
no unit of time that can be relied on: of the published files some count milliseconds and others samples at 30 kHz.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from data_prep.spikes.spike_times import REMEDY, SpikesError, Trains, trains_of


def read_asdf(path: str | Path, *, tick_ms: float | None = None, interval: tuple[float, float] | None = None) -> Trains:
    """Read a file of MATLAB v5; ``tick_ms`` goes before what the file says."""
    path = Path(path)
    cells = cell_array(path)
    if len(cells) < 3:
        raise SpikesError(f"{path} has {len(cells)} cells: asdf has one a unit, then the tick, then [units, length]")
    ticks, said, tail = cells[:-2], np.ravel(cells[-2]), np.ravel(cells[-1])
    if tail.size != 2 or int(tail[0]) != len(ticks):
        raise SpikesError(
            f"the last cell of {path} is {tail.tolist()} for {len(ticks)} units: asdf has [units, length] there"
        )
    if tick_ms is None:
        if said.size != 1 or not float(said[0]) > 0:
            raise SpikesError(f"{path} does not say how long a tick is: give {REMEDY}")
        tick_ms = float(said[0])
    end = float(tail[1])
    if end in (np.max(own) for own in ticks if np.size(own)):
        end += 1  # MATLAB counts from 1: a spike at the length is the last tick, not one beyond it
    return trains_of(path, [str(i) for i in range(len(ticks))], ticks, tick_ms, end=end, interval=interval)


def cell_array(path: Path) -> list[Any]:
    """The one cell array of the file."""
    if not path.is_file():
        raise SpikesError(f"there is no file {path}: give one with an asdf cell array")
    try:
        content = loadmat(path)
    except NotImplementedError:
        raise SpikesError(f"{path} is a file of MATLAB v7.3: save it again in MATLAB with save(..., '-v7')") from None
    except (MatReadError, ValueError, TypeError, OSError, EOFError) as error:
        raise SpikesError(f"{path} is no readable MATLAB file ({error}): fetch it again") from None
    cells = {
        name: value for name, value in content.items() if isinstance(value, np.ndarray) and value.dtype.kind == "O"
    }
    if len(cells) != 1:
        raise SpikesError(f"{path} has {len(cells)} cell arrays ({', '.join(cells) or 'none'}): asdf has one")
    return list(np.ravel(next(iter(cells.values()))))
