"""The encoder of a fitted `Hippie` as one function of prepared curves, for `jaxephys.models.export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxephys.engine.task import Variables
from jaxephys.hippie.network.cvae import ABSENT, Conditions, Latent
from jaxephys.hippie.task import CPU, apply_network, network_for_backend
from jaxephys.models.export import ExportedArray, ExportProgram
from jaxephys.schemas.unit_table import TECHNOLOGIES

if TYPE_CHECKING:
    from jaxephys.hippie.estimator import Hippie

NOTES = """The program takes prepared curves. With raw curves in the rows of an array (mean waveform, histogram of inter-spike intervals,
autocorrelogram, each of any number of samples), they are prepared by NumPy:

```python
import numpy as np


def resample(rows, length):
    old = rows.shape[1]
    position = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
    left = np.floor(position).astype(int)
    share = position - left
    return rows[:, left] * (1 - share) + rows[:, np.minimum(left + 1, old - 1)] * share


def scale(rows):
    low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
    return 2 * (rows - low) / (high - low + 1e-8) - 1


def prepare(rows, length, intervals=False):
    rows = np.asarray(rows, float)
    if intervals:
        rows = np.log1p({intervals})
    return {composition}
```

with `intervals=True` for `isi`. A curve that is missing or constant is a row of NaN.
"""
COMPOSITIONS = {"train": "resample(scale(rows), length)", "card": "scale(resample(rows, length))"}
INTERVALS = {"common": "10_000 * rows / rows.sum(axis=1, keepdims=True)", "stored": "rows"}


def make_program(model: Hippie) -> ExportProgram:
    """Return the function that embeds prepared curves.

    Parameters
    ----------
    model : Hippie
        A fitted estimator.

    Returns
    -------
    ExportProgram
        Inputs: each curve (unit, length), prepared as the notes of the program describe, and ``technology`` (unit,). Outputs:
        ``embedding`` and ``log_variance`` (network, unit, latent), the posterior of each unit.
    """
    network = network_for_backend(model.network_, CPU, training=False)
    runs = jax.tree.map(np.asarray, dict(model.variables_))

    def embed(*inputs: Array) -> dict[str, Array]:
        *curves, technology = inputs
        present = [jnp.isfinite(rows).all(axis=1) & (rows.max(axis=1) > rows.min(axis=1)) for rows in curves]
        filled = {
            name: jnp.where(exists[:, None], rows, ABSENT)
            for (name, _), rows, exists in zip(network.modalities, curves, present, strict=True)
        }
        conditions = Conditions(technology if network.sources else None)

        def embed_run(variables: Variables) -> Latent:
            return apply_network(network, variables, filled, conditions, jnp.stack(present, axis=1), method="encode")

        latent = lax.map(embed_run, jax.tree.map(jnp.asarray, runs))
        return {"embedding": latent.mu, "log_variance": latent.log_var}

    shape = f"{model.n_networks_}, n, {network.latent}"
    known = ", ".join(f"{code} {name}" for name, code in TECHNOLOGIES.items())
    preparation = model.preparation_
    return ExportProgram(
        embed,
        [
            *(
                ExportedArray(name, f"n, {length}", "float32", "prepared curve, -1 to 1; NaN where a unit has none")
                for name, length in network.modalities
            ),
            ExportedArray("technology", "n", "int32", f"{known}, -1 unknown"),
        ],
        [
            ExportedArray("embedding", shape, "float32", "posterior mean, by network; spaces of networks differ"),
            ExportedArray("log_variance", shape, "float32", "logarithm of the posterior variance"),
        ],
        NOTES.format(intervals=INTERVALS[preparation.intervals], composition=COMPOSITIONS[preparation.order]),
    )
