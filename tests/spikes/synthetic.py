"""Recordings whose next bin can be told: a unit that fired three bins ago fires again, seven times in ten."""

from typing import Any

import numpy as np

from jaxephys.schemas.recording import Recording

LAG, AGAIN, RATE = 3, 0.7, 0.01
SMALL: dict[str, Any] = dict(
    width=8, heads=2, window=16, length=100, cells=128, max_epochs=4, batch_size=4, calibration_bins=1000
)


def planted(seed, bins=6000, units=6, name="planted"):
    rng = np.random.default_rng(seed)
    luck, spikes = rng.random((bins, units)), np.zeros((bins, units), np.uint8)
    for t in range(bins):
        echo = AGAIN * spikes[t - LAG] if t >= LAG else 0.0
        spikes[t] = luck[t] < np.maximum(RATE, echo)
    return Recording.from_array(spikes, name=f"{name} {seed}")
