"""The first weights of a network, as ``network.init`` draws them, in one call of the generator.

A network of ResNets has hundreds of arrays, and a call for each takes XLA a minute to compile.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxephys.engine.task import Key, Variables
from jaxephys.hippie.network.cvae import ConditionalVAE, remember
from jaxephys.hippie.torch_checkpoint import shapes_of

ONES = ("scale", "var")
LOWEST = float(np.nextafter(np.float32(-1), np.float32(0)))  # at -1 the inverse of the error function is infinite


def draw_weights(network: ConditionalVAE, key: Key) -> Variables:
    """Kernels U(-b, b), b = fan_in^-1/2; embeddings N(0, 1); scales and variances 1; the rest 0."""
    shapes: dict[Any, Any] = dict(traverse_util.flatten_dict(_shapes(network)))
    chance = {path: leaf.shape for path, leaf in shapes.items() if path[-1] == "kernel" or "_embedding" in path[-1]}
    sizes = [int(np.prod(shape)) for shape in chance.values()]
    numbers = jnp.split(jax.random.uniform(key, (sum(sizes),), minval=LOWEST, maxval=1.0), np.cumsum(sizes)[:-1])
    drawn = {path: jnp.full(leaf.shape, float(path[-1] in ONES)) for path, leaf in shapes.items()}
    for (path, shape), number in zip(chance.items(), numbers, strict=True):
        number = number.reshape(shape)
        bound = int(np.prod(shape[:-1])) ** -0.5
        drawn[path] = bound * number if path[-1] == "kernel" else np.sqrt(2) * jax.lax.erf_inv(number)
    return traverse_util.unflatten_dict(drawn)


@remember
def _shapes(network: ConditionalVAE) -> Variables:
    return shapes_of(network)
