"""Initial weights of a network, distributed as by ``network.init`` but drawn by one call of the random number generator.

A network of ResNets has hundreds of arrays; XLA takes a minute to compile one call for each of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array

from jaxephys.hippie.network.cvae import STACKED, ConditionalVAE
from jaxephys.hippie.network.resnet1d import CPU_FORM

ONES = ("scale", "var")  # names of arrays that are initialized to 1
LOWEST = float(np.nextafter(np.float32(-1), np.float32(0)))  # the inverse error function is infinite at -1


def initialize_variables(network: ConditionalVAE, key: Array) -> dict[str, Any]:
    """Draw the initial variables of a network.

    Parameters
    ----------
    network : ConditionalVAE
        The network.
    key : jax.Array
        Random key.

    Returns
    -------
    dict
        The collections ``params`` and ``batch_stats``. Kernels are uniform in (-b, b) with b = fan_in^-1/2, embeddings are standard
        normal, scales and variances are 1 and everything else is 0.
    """
    shapes: dict[Any, Any] = dict(traverse_util.flatten_dict(variable_shapes(network)))
    random = {path: leaf.shape for path, leaf in shapes.items() if path[-1] == "kernel" or "_embedding" in path[-1]}
    sizes = [int(np.prod(shape)) for shape in random.values()]
    numbers = jnp.split(jax.random.uniform(key, (sum(sizes),), minval=LOWEST, maxval=1.0), np.cumsum(sizes)[:-1])
    # Arrays of NumPy, which are not traced.
    variables: dict[Any, Any] = {
        path: np.full(leaf.shape, path[-1] in ONES, np.float32) for path, leaf in shapes.items()
    }
    for (path, shape), number in zip(random.items(), numbers, strict=True):
        number = number.reshape(shape)
        fan_in = shape[1:-1] if path[1].startswith(STACKED) else shape[:-1]  # without the axis of modalities
        bound = int(np.prod(fan_in)) ** -0.5
        variables[path] = bound * number if path[-1] == "kernel" else np.sqrt(2) * jax.lax.erf_inv(number)
    return traverse_util.unflatten_dict(variables)


def variable_shapes(network: ConditionalVAE) -> dict[str, Any]:
    """Return the shape and type of every variable of a network, without computing any.

    Parameters
    ----------
    network : ConditionalVAE
        The network. Results are cached by network, without its ``form``.

    Returns
    -------
    dict
        Collections of ``jax.ShapeDtypeStruct``.
    """
    return _shapes(network.clone(form=CPU_FORM))  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=16)  # Flax modules are hashable
def _shapes(network: ConditionalVAE) -> dict[str, Any]:
    def init(key: jax.Array) -> dict[str, Any]:
        curves = {name: np.zeros((1, length), np.float32) for name, length in network.modalities}
        return dict(network.init(key, curves))

    return jax.eval_shape(init, jax.random.key(0))
