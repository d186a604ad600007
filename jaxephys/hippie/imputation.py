"""What a trained network draws that was not measured: a missing curve, a unit under another technology, a walk in the latent.

Each is the task with other outputs, so that the engine applies it to all runs and any number of units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import Task, Variables
from jaxephys.hippie.network.cvae import ConditionalVAE, Conditions, remember
from jaxephys.hippie.task import LEAST, UnitBatch, Units, make_task

Curves = dict[str, Float[AnyArray, "*run row _"]]


class Drawn(NamedTuple):
    mean: Curves
    variance: Curves  # over samples of z; 0 where mu alone was drawn


@remember
def drawing(network: ConditionalVAE, *, samples: int = 0, source: int | None = None) -> Task:
    """Curves of each unit from mu, or their mean and variance over ``samples`` of its posterior.

    ``source``: what the decoder is told instead of the unit's own. The noise is the same for every unit, and each draw
    stands beside its mirror image: the answer for a unit depends on nothing but the unit.
    """
    task = make_task(network)
    half = np.random.default_rng(0).normal(size=(max(1, samples // 2), network.latent)).astype(np.float32)
    steps = np.concatenate([half, -half]) if samples else np.zeros((1, network.latent), np.float32)

    def outputs(variables: Variables, batch: UnitBatch) -> Drawn:
        seen = task.outputs(variables, batch)

        def one(step: Float[Array, "latent"]) -> Curves:
            return _decode(network, variables, seen.mu + step * jnp.exp(seen.log_var / 2), batch, source)

        curves = jax.lax.map(one, jnp.asarray(steps))
        return Drawn(*({name: f(curve, axis=0) for name, curve in curves.items()} for f in (jnp.mean, jnp.var)))

    return task._replace(outputs=outputs)


def walk(network: ConditionalVAE, dimension: int, values: Float[np.ndarray, "step"]) -> Task:
    """Curves [row, step, position] of each unit with one number of its mu put to each of ``values``."""
    task = make_task(network)

    def outputs(variables: Variables, batch: UnitBatch) -> dict[str, Array]:
        mu = task.outputs(variables, batch).mu
        curves = jax.lax.map(
            lambda value: _decode(network, variables, mu.at[:, dimension].set(value), batch, None), jnp.asarray(values)
        )
        return {name: jnp.moveaxis(curve, 0, 1) for name, curve in curves.items()}

    return task._replace(outputs=outputs)


def _decode(
    network: ConditionalVAE, variables: Variables, z: Float[Array, "row latent"], batch: UnitBatch, source: int | None
) -> Curves:
    """The class is unknown."""
    told = batch.source if source is None else jnp.full_like(batch.source, source)
    curves: Any = network.apply(variables, z, Conditions(told if network.sources else None), method="decode")
    return curves


def givens(modalities: int) -> Bool[np.ndarray, "given modality"]:
    """Every choice of modalities that a unit may show: line n shows modality m where bit m of n is set."""
    return (np.arange(2**modalities)[:, None] >> np.arange(modalities) & 1).astype(bool)


def measure_noise(
    network: ConditionalVAE, data: Units, variables: Variables, rows: Sequence[Int[np.ndarray, "some"]], samples: int
) -> dict[str, Float[np.ndarray, "run given position"]]:
    """The variance of each sample of a curve that the draws from the latent do not explain, given each choice of modalities.

    Mean squared error of each run on its own ``rows``, which it was not trained on, less the variance of its draws. NaN
    where no unit shows all that the choice asks for, and the curve itself.
    """
    union, choices = np.unique(np.concatenate(rows)), givens(len(network.modalities))
    shown = np.concatenate([data.present[union] & choice for choice in choices])
    tiled = Units(
        {name: np.tile(curve[union], (len(choices), 1)) for name, curve in data.curves.items()},
        shown,
        np.tile(data.source[union], len(choices)),
    )
    places = [np.searchsorted(union, some) for some in rows]
    tables = [(np.arange(len(choices))[:, None] * len(union) + place).ravel() for place in places]
    drawn = predict(drawing(network, samples=samples), tiled, variables, stack_rows([plain_rows(t) for t in tables]))
    noise = {}
    for m, (name, length) in enumerate(network.modalities):
        noise[name] = np.full((len(rows), len(choices), length), np.nan, np.float32)
        for run, (some, table) in enumerate(zip(rows, tables, strict=True)):
            mean, variance = (part[name][run, : len(table)].reshape(len(choices), len(some), -1) for part in drawn)
            left = (mean - data.curves[name][some]) ** 2 - variance
            for place, choice in enumerate(choices):
                asked = data.present[some, m] & (data.present[some] >= choice).all(axis=1)
                if asked.any():
                    noise[name][run, place] = np.maximum(left[place, asked].mean(axis=0), LEAST)
    return noise
