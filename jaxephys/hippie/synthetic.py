"""Simulated units for examples and tests of the estimator. Realistic units are simulated by ``python -m data_prep units simulate``."""

from __future__ import annotations

import numpy as np

from jaxephys.schemas.unit_table import UnitTable


def make_synthetic_units(n_units: int = 60, seed: int = 0) -> UnitTable:
    """Simulate units of two classes with all three curves.

    Parameters
    ----------
    n_units : int
        Number of units.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    UnitTable
        Units of the classes "fast" and "regular", whose spikes are 0.3 and 0.6 ms wide and which fire every 10 and 40 ms on average;
        half of them recorded with "neuropixels" and half with "silicon_probe", which doubles the width of the spike.

    Examples
    --------
    >>> units = make_synthetic_units(60)
    >>> units
    UnitTable(60 units: wave 60, isi 60, acg 60; 60 labelled)
    >>> units.classes.tolist()
    ['fast', 'regular']
    """
    rng = np.random.default_rng(seed)
    regular, probe = np.arange(n_units) % 2, np.arange(n_units) // 2 % 2
    time = np.linspace(-1.25, 1.25, 50)  # ms
    width = 0.15 * (1 + regular) * (1 + probe) * rng.uniform(0.9, 1.1, n_units)
    wave = 0.3 * np.exp(-(((time - 0.5) / 0.3) ** 2)) - np.exp(-((time / width[:, None]) ** 2))
    interval, mean = np.arange(100) + 0.5, np.where(regular, 40.0, 10.0)[:, None]
    isi = rng.poisson(2000 / mean * np.exp(-interval / mean))
    lag = np.abs(np.arange(-50, 50) + 0.5)
    acg = rng.poisson(2000 / mean * (1 - np.exp(-lag / (0.2 * mean))))
    return UnitTable.from_arrays(
        wave=wave.astype(np.float32),
        isi=isi.astype(np.float32),
        acg=acg.astype(np.float32),
        label=np.array(["fast", "regular"])[regular],
        technology=np.array(["neuropixels", "silicon_probe"])[probe],
    )
