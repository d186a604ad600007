"""Decoding what was not measured: a missing curve, a unit under another technology, a traversal of the latent space.

Each is the training task with other outputs, so that the engine applies it to all runs and any number of units. `measure_noise` gives
the imputed curves their uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.engine.compile_cache import memoize
from jaxephys.engine.devices import task_for_backend
from jaxephys.engine.predict import predict
from jaxephys.engine.rows import plain_rows, stack_rows
from jaxephys.engine.task import Backend, Task, Variables
from jaxephys.hippie.network.cvae import ConditionalVAE, Conditions
from jaxephys.hippie.task import (
    CPU,
    MIN_VARIANCE,
    UnitArrays,
    UnitBatch,
    choose_block,
    make_task,
    network_for_backend,
    pad_query,
)

Curves = dict[str, Float[AnyArray, "*run row _"]]


class DecodedCurves(NamedTuple):
    """Decoded curves of units.

    Parameters
    ----------
    mean : dict of arrays (run, row, length)
        Mean over samples of the posterior, or the curve decoded from its mean.
    variance : dict of arrays (run, row, length)
        Variance over samples; 0 where only the posterior mean was decoded.
    """

    mean: Curves
    variance: Curves


@memoize
def decoding_task(
    network: ConditionalVAE, *, samples: int = 0, source: int | None = None, backend: Backend = CPU
) -> Task:
    """Return a task whose outputs are the decoded curves of each unit.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    samples : int
        Number of samples of the posterior, an even number. With 0 the posterior mean is decoded.
    source : int, optional
        Technology that the decoder receives instead of the unit's own.
    backend : Backend
        What the programs are compiled for. The engine chooses it by ``Task.for_backend``.

    Returns
    -------
    Task
        Its outputs are `DecodedCurves`.

    Notes
    -----
    The noise is the same for every unit, and every sample is accompanied by its mirror image, so that the result for a unit
    depends on nothing but the unit.
    """
    task = task_for_backend(make_task(network), backend)
    decoder = network_for_backend(network, backend, training=False)
    half = np.random.default_rng(0).normal(size=(max(1, samples // 2), network.latent)).astype(np.float32)
    noise = np.concatenate([half, -half]) if samples else np.zeros((1, network.latent), np.float32)

    def outputs(variables: Variables, batch: UnitBatch) -> DecodedCurves:
        latent = task.outputs(variables, batch)

        def decode_sample(step: Float[Array, "latent"]) -> Curves:
            return _decode(decoder, variables, latent.mu + step * jnp.exp(latent.log_var / 2), batch, source)

        curves = jax.lax.map(decode_sample, jnp.asarray(noise))
        return DecodedCurves(
            {name: jnp.mean(curve, axis=0) for name, curve in curves.items()},
            {name: jnp.var(curve, axis=0) for name, curve in curves.items()},
        )

    def for_backend(backend: Backend) -> Task:
        return decoding_task(network, samples=samples, source=source, backend=backend)

    return task._replace(outputs=outputs, for_backend=for_backend)


def traversal_task(
    network: ConditionalVAE, dimension: int, values: Float[np.ndarray, "step"], *, backend: Backend = CPU
) -> Task:
    """Return a task whose outputs are the curves of each unit with one latent dimension set to each of some values.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    dimension : int
        Index of the latent dimension.
    values : float array (step,)
        Values of that dimension; the others keep their posterior mean.
    backend : Backend
        What the programs are compiled for. The engine chooses it by ``Task.for_backend``.

    Returns
    -------
    Task
        Its outputs are a dict of arrays (row, step, length).
    """
    task = task_for_backend(make_task(network), backend)
    decoder = network_for_backend(network, backend, training=False)

    def outputs(variables: Variables, batch: UnitBatch) -> dict[str, Array]:
        mu = task.outputs(variables, batch).mu
        curves = jax.lax.map(
            lambda value: _decode(decoder, variables, mu.at[:, dimension].set(value), batch, None), jnp.asarray(values)
        )
        return {name: jnp.moveaxis(curve, 0, 1) for name, curve in curves.items()}

    def for_backend(backend: Backend) -> Task:
        return traversal_task(network, dimension, values, backend=backend)

    return task._replace(outputs=outputs, for_backend=for_backend)


def _decode(
    network: ConditionalVAE, variables: Variables, z: Float[Array, "row latent"], batch: UnitBatch, source: int | None
) -> Curves:
    """Decode without a class."""
    sources = batch.source if source is None else jnp.full_like(batch.source, source)
    curves: Any = network.apply(variables, z, Conditions(sources if network.sources else None), method="decode")
    return curves


def modality_subsets(n_modalities: int) -> Bool[np.ndarray, "subset modality"]:
    """Return every subset of modalities that can be given to the encoder.

    Parameters
    ----------
    n_modalities : int
        Number of modalities.

    Returns
    -------
    bool array (2**n_modalities, n_modalities)
        Row n contains modality m where bit m of n is set.

    Examples
    --------
    >>> modality_subsets(2).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    return (np.arange(2**n_modalities)[:, None] >> np.arange(n_modalities) & 1).astype(bool)


def hide_curves(data: UnitArrays, given: Bool[np.ndarray, "*cell modality"], *, zeros: bool = False) -> UnitArrays:
    """Return units of which the encoder receives only some curves.

    Parameters
    ----------
    data : UnitArrays of n_units
        Units.
    given : bool array (n_units, n_modalities) or (n_modalities,)
        Which curves the encoder receives, if the units have them.
    zeros : bool
        Replace the other curves by zeros, which the encoder receives like any other curve, as in the published imputation. By
        default they are absent.

    Returns
    -------
    UnitArrays
        The units.
    """
    if not zeros:
        return data._replace(present=data.present & given)
    given = np.broadcast_to(given, data.present.shape)
    curves = {
        name: np.where(given[:, [m]], curve, np.float32(0)) for m, (name, curve) in enumerate(data.curves.items())
    }
    return data._replace(curves=curves)


def measure_noise(
    network: ConditionalVAE,
    data: UnitArrays,
    variables: Variables,
    rows: Sequence[Int[np.ndarray, "some"]],
    samples: int,
    *,
    zeros: bool = False,
) -> dict[str, Float[np.ndarray, "run subset position"]]:
    """Measure the variance of curves that the samples of the posterior do not explain, for each subset of given modalities.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    data : UnitArrays
        All units.
    variables : dict
        Variables of the runs, with a leading run axis.
    rows : sequence of int arrays
        For each run, units that it was not trained on.
    samples : int
        Samples of the posterior.
    zeros : bool
        Whether curves that are not given are zeros for the encoder, as in the published imputation, instead of absent.

    Returns
    -------
    dict of arrays (run, subset, length)
        By modality, the mean squared error of each sample of the curve less the variance over posterior samples, at least 1e-4. NaN
        where no unit has both the curve and all modalities of the subset.
    """
    data = jax.device_get(data)
    union, subsets = np.unique(np.concatenate(rows)), modality_subsets(len(network.modalities))
    tiled = UnitArrays(
        {name: np.tile(curve[union], (len(subsets), 1)) for name, curve in data.curves.items()},
        np.tile(data.present[union], (len(subsets), 1)),
        np.tile(data.source[union], len(subsets)),
    )
    tiled = hide_curves(tiled, np.repeat(subsets, len(union), axis=0), zeros=zeros)
    indices = [np.searchsorted(union, units) for units in rows]
    tables = [(np.arange(len(subsets))[:, None] * len(union) + index).ravel() for index in indices]
    row_sets = stack_rows([plain_rows(table) for table in tables])
    task = decoding_task(network, samples=samples)
    tiled, row_sets = pad_query(tiled, row_sets)
    decoded = predict(task, tiled, variables, row_sets, block=choose_block())
    noise = {}
    for m, (name, length) in enumerate(network.modalities):
        noise[name] = np.full((len(rows), len(subsets), length), np.nan, np.float32)
        for run, (units, table) in enumerate(zip(rows, tables, strict=True)):
            shape = (len(subsets), len(units), -1)
            mean, variance = (part[name][run, : len(table)].reshape(shape) for part in decoded)
            residual = (mean - data.curves[name][units]) ** 2 - variance
            for index, subset in enumerate(subsets):
                complete = data.present[units, m] & (data.present[units] >= subset).all(axis=1)
                if complete.any():
                    noise[name][run, index] = np.maximum(residual[index, complete].mean(axis=0), MIN_VARIANCE)
    return noise
