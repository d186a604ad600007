"""The computation of a fitted `PatchSeqClassifier` as one function of raw features, for `jaxephys.models.export`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxephys.engine.task import PyTree
from jaxephys.evaluation.calibration import MIN_PROBABILITY
from jaxephys.models.export import ExportedArray, ExportProgram
from jaxephys.patchseq.network.classifier import SubclassNetwork
from jaxephys.patchseq.network.ragged_layout import RaggedLayout
from jaxephys.patchseq.preprocessing import apply_scale, missing_flags
from jaxephys.patchseq.task import CellBatch, Prediction, make_task

if TYPE_CHECKING:
    from jaxephys.patchseq.estimator import PatchSeqClassifier


def make_program(model: PatchSeqClassifier) -> ExportProgram:
    """Return the function that a fitted classifier computes.

    Parameters
    ----------
    model : PatchSeqClassifier
        A fitted classifier.

    Returns
    -------
    ExportProgram
        Input ``values`` (cell, column), raw features with NaN for missing values; outputs ``probability`` (cell, class), calibrated
        and averaged over networks, ``attention`` (cell, family) and ``embedding`` (network, cell, 2 hidden). Scaling is included.
    """
    layout = RaggedLayout.from_widths(model.widths_)
    n_classes, n_columns = len(model.classes_), sum(model.widths_)
    task = make_task(SubclassNetwork(layout, n_classes, model.hidden, model.token))
    runs = jax.tree.map(np.asarray, (model.variables_, model.constants_))

    def predict(values: Array) -> dict[str, Array]:
        source = layout.source_column
        packed = jnp.where(source < 0, 0.0, values[:, np.maximum(source, 0)])
        nothing = jnp.zeros_like(values[:, 0])

        def predict_run(run: PyTree) -> Prediction:
            variables, constants = run
            x, missing = apply_scale(packed, constants.scale), missing_flags(packed, constants.scale)
            return task.outputs(variables, CellBatch(x, missing, nothing.astype(jnp.int32), nothing + 1, constants))

        networks = lax.map(predict_run, jax.tree.map(jnp.asarray, runs))
        logits = jnp.log(jnp.maximum(networks.probability, MIN_PROBABILITY)) / model.temperature_
        probability = jax.nn.softmax(logits, axis=-1).mean(axis=0)
        return {
            "probability": probability,
            "attention": networks.attention.mean(axis=0),
            "embedding": networks.embedding,
        }

    families = ", ".join(f"{name} ({width})" for name, width in zip(model.families_, model.widths_, strict=True))
    return ExportProgram(
        predict,
        [ExportedArray("values", f"n, {n_columns}", "float32", f"features by family: {families}; NaN is missing")],
        [
            ExportedArray(
                "probability", f"n, {n_classes}", "float32", f"classes {', '.join(map(str, model.classes_))}"
            ),
            ExportedArray("attention", f"n, {len(model.families_)}", "float32", "weight of each family"),
            ExportedArray(
                "embedding", f"{model.n_networks_}, n, {2 * model.hidden}", "float32", "pooled vector, by network"
            ),
        ],
        "None: the program scales the features and replaces missing values, as it was fitted to the training cells. Columns, in order: "
        + ", ".join(f"`{name}`" for name in model.features_)
        + ".",
    )
