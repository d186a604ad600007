"""How a network is computed on a device. Start with :class:`ComputeForm`."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

ATTENTION_KERNELS = ("sequential", "blocked", "cudnn", "pallas")


@dataclass(frozen=True)
class ComputeForm:
    """The operations that a network is computed with. They determine speed and rounding, and neither function nor parameters.

    `jaxephys.spikes.backend.network_for_backend` chooses them. They are not saved with a model.

    Parameters
    ----------
    attention : {"sequential", "blocked", "cudnn", "pallas"}, default "sequential"
        Kernel of self-attention, see `jaxephys.spikes.attention.attend`.
    dtype : {"float32", "bfloat16"}, default "float32"
        Type of activations and of the factors of matrix products. Parameters, the statistics of layer normalization, the softmax of
        attention and logits are float32 with both.
    scatter : bool, default True
        Whether gradients of gathered rows are added by a scatter, as JAX does, or by a product with a one-hot matrix. On a GPU a scatter
        adds in an order that differs from call to call, and hence rounds differently.

    Raises
    ------
    ValueError
        If the kernel or the type is unknown.
    """

    attention: str = "sequential"
    dtype: str = "float32"
    scatter: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (("attention", ATTENTION_KERNELS), ("dtype", ("float32", "bfloat16"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown: choose one of {', '.join(allowed)}")

    @property
    def activations(self) -> jnp.dtype:
        """Type of activations, as JAX names it."""
        return jnp.dtype(self.dtype)
