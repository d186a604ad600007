"""A class table for the decoder of a trained network: `with_class_table`, for training with labels that the network has not had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxephys.engine.task import PyTree
from jaxephys.hippie.network.cvae import ConditionalVAE

TABLE = "label_embedding"
STREAM = 1  # distinguishes these random numbers from others of the same seed


def with_class_table(
    network: ConditionalVAE, variables: PyTree, n_classes: int, seeds: Sequence[int] | Int[np.ndarray, "run"]
) -> tuple[ConditionalVAE, dict[str, Any]]:
    """Give networks a new table of class embeddings. All other parameters are kept.

    Parameters
    ----------
    network : ConditionalVAE
        The network, with or without a class table.
    variables : dict
        Its variables, with a leading run axis.
    n_classes : int
        Number of classes of the new table.
    seeds : sequence of int
        Seed of each run, from which its new parameters are drawn.

    Returns
    -------
    network : ConditionalVAE
        The network with ``n_classes`` classes.
    variables : dict
        The variables with a new table. If there was none, the first dense layers of the decoders, and that of the fusion, get rows
        for the class embedding. A unit without a class has an embedding of zeros, so that its encoding and its decoded curves are
        those of the original network.

    Notes
    -----
    Embeddings are standard normal and the rows uniform in (-b, b) with b = fan_in^-1/2, as in a new network. The published training, too,
    draws its class table anew before its supervised stage. The encoder never receives a class; its rows exist because the published
    network has them.
    """
    params = dict(variables["params"])
    generators = [np.random.default_rng([STREAM, int(seed)]) for seed in seeds]
    shape = (n_classes, network.condition)
    params[TABLE] = np.stack([generator.normal(size=shape) for generator in generators]).astype(np.float32)
    if not network.classes:
        source = network.condition if network.sources else 0  # the class follows the source in the input of both layers
        starts = {
            "fusion_encoder": 2 * network.latent * len(network.modalities) + source,
            "decoder_fcs": network.latent + source,
        }
        for module, start in starts.items():
            layer = params[module]["dense_0"]
            kernel = _insert_rows(np.asarray(layer["kernel"]), start, network.condition, generators)
            params[module] = {**params[module], "dense_0": {**layer, "kernel": kernel}}
    options: dict[str, Any] = {"classes": n_classes}
    return network.clone(**options), {**variables, "params": params}


def _insert_rows(
    kernel: Float[np.ndarray, "run ..."], start: int, count: int, generators: Sequence[np.random.Generator]
) -> Float[np.ndarray, "run ..."]:
    """Insert new input rows before the row ``start`` of the kernels (run, ..., in, out)."""
    bound = (kernel.shape[-2] + count) ** -0.5
    shape = (*kernel.shape[1:-2], count, kernel.shape[-1])
    rows = np.stack([generator.uniform(-bound, bound, shape) for generator in generators]).astype(np.float32)
    return np.concatenate([kernel[..., :start, :], rows, kernel[..., start:, :]], axis=-2)
