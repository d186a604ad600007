"""The forecast of a fitted `SpikeTransformer` as one function of a stretch of spikes, for `jaxephys.models.export`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxephys.engine.task import Backend
from jaxephys.models.export import ExportedArray, ExportProgram
from jaxephys.spikes.backend import network_for_backend
from jaxephys.spikes.forecaster import ForecastParameters, ForecastState, forecast, initial_state

if TYPE_CHECKING:
    from jaxephys.spikes.estimator import SpikeTransformer

PORTABLE = Backend("tpu", "map", "float32")  # its operations exist on all platforms


def make_program(model: SpikeTransformer) -> ExportProgram:
    """Return the function that forecasts a stretch of spikes from its first bin on, with empty memory.

    Parameters
    ----------
    model : SpikeTransformer
        A fitted estimator. The program takes as many units as it was trained on.

    Returns
    -------
    ExportProgram
        Input ``spikes`` (bin, unit), zeros and ones, of a multiple of ``length`` bins; outputs ``probability`` (bin, unit), the mean
        over networks, and ``logit`` (network, bin, unit). Calibration and the mixture of experts are included.
    """
    config, n_units = model.forecaster_.config, model.units_
    config = replace(config, network=network_for_backend(config.network, PORTABLE))
    parameters = jax.tree.map(np.asarray, model.forecaster_.parameters)

    def predict(spikes: Array) -> dict[str, Array]:
        windows = spikes.reshape(-1, config.length, n_units)

        def predict_run(run: ForecastParameters) -> Array:
            def predict_window(state: ForecastState, window: Array) -> tuple[ForecastState, Array]:
                logits, state = forecast(config, run, window, state)
                return state, logits

            return lax.scan(predict_window, initial_state(config, run.variables, n_units), windows)[1]

        logits = lax.map(predict_run, jax.tree.map(jnp.asarray, parameters)).reshape(-1, *spikes.shape)
        return {"probability": jax.nn.sigmoid(logits).mean(axis=0), "logit": logits}

    shape = f"{config.length}*n, {n_units}"
    rows = (
        "row t belongs to bin t"
        if config.network.is_reconstruction
        else "row t belongs to bin t + 1, forecast from bins 0 to t"
    )
    return ExportProgram(
        predict,
        [ExportedArray("spikes", shape, "float32", f"1 where a unit fires in a bin of {model.bin_ms_:g} ms, else 0")],
        [
            ExportedArray("probability", shape, "float32", f"probability of a spike, mean over networks; {rows}"),
            ExportedArray("logit", f"{model.n_networks_}, {shape}", "float32", f"by network; {rows}"),
        ],
        f"Bin the spikes of {n_units} units, in one order throughout, into bins of {model.bin_ms_:g} ms and clip counts at 1. Fill the end with "
        f"zeros up to a multiple of {config.length} bins: a forecast does not depend on later bins. The memory is empty before the first bin, "
        "and the running rates need some 10,000 bins to settle, so that earlier spikes than those to be forecast improve the result.",
    )
