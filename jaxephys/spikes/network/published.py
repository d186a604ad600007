"""The published network: one transformer layer over bins as tokens, and a linear head. Start with :class:`PublishedLayer`."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.spikes.network.interface import LayerCache, Memory
from jaxephys.spikes.network.layers import LAYER_NORM_EPSILON, SelfAttention, check_units, layer_caches, torch_dense


class PublishedLayer(nn.Module):
    """The published layer as PyTorch defines it, with the bins themselves as tokens and a linear head.

    Parameters
    ----------
    units : int
        Number of units, which is also the width of the layer.
    heads : int
        Number of heads.
    hidden : int
        Width of the feed-forward part.
    depth : int
        Number of layers.
    dropout : float
        Dropout rate in training, 0 to 1.
    legacy : bool
        If True, every bin sees all bins, past and future, and row t of the output belongs to bin t, as in the published
        code: a reconstruction. If False, row t sees bins up to t and belongs to bin t + 1.
    window : int, optional
        Number of past bins that a layer attends to; None for all of the input.

    Notes
    -----
    ``x = norm1(x + attention(x));  x = norm2(x + linear2(relu(linear1(x))));  logits = fc(x)``. There are no positions.
    Parameters have PyTorch's names.

    Deviation: no dropout of attention weights.
    """

    units: int = 128
    heads: int = 16
    hidden: int = 128
    depth: int = 1
    dropout: float = 0.1
    legacy: bool = False
    window: int | None = None

    @property
    def filters(self) -> None:
        """None: the layer reads the bins themselves."""
        return None

    @property
    def supports_entry_sampling(self) -> bool:
        """False: all logits are computed."""
        return False

    @property
    def is_reconstruction(self) -> bool:
        """Whether the network sees the bin that it is evaluated on."""
        return self.legacy

    @nn.compact
    def __call__(
        self, spikes: Float[AnyArray, "time unit"], memory: Memory | None = None, *, train: bool = False
    ) -> tuple[Float[Array, "time unit"], Memory]:
        """Compute logits of spikes.

        Parameters
        ----------
        spikes : array of shape (bins, units)
            Zeros and ones.
        memory : Memory, optional
            Memory after the bins before; None at the beginning of a recording.
        train : bool
            Whether to apply dropout.

        Returns
        -------
        logits : float32 array of shape (bins, units)
            Row t belongs to bin t + 1, or to bin t if ``legacy``.
        memory : Memory
            Memory after the last bin.
        """
        check_units(spikes, self.units)
        x, caches = jnp.asarray(spikes, jnp.float32), []
        for index, cache in zip(range(self.depth), layer_caches(memory, self.depth), strict=True):
            name = "layer" if self.depth == 1 else f"layer_{index}"
            block = PublishedBlock(self.heads, self.hidden, self.dropout, not self.legacy, self.window, name=name)
            x, next_cache = block(x, cache, train=train)
            caches.append(next_cache)
        return torch_dense(self.units, x.shape[-1], "fc")(x), Memory(None, tuple(caches))


class PublishedBlock(nn.Module):
    """Attention and feed-forward part, each followed by layer normalization.

    Parameters
    ----------
    heads : int
        Number of heads.
    hidden : int
        Width of the feed-forward part.
    dropout : float
        Dropout rate in training.
    causal : bool
        Whether a bin sees no later bin.
    window : int or None
        Number of past bins that a query attends to.
    """

    heads: int
    hidden: int
    dropout: float
    causal: bool
    window: int | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "time model"], cache: LayerCache | None, *, train: bool
    ) -> tuple[Float[Array, "time model"], LayerCache | None]:
        """Apply the block.

        Parameters
        ----------
        x : float array of shape (bins, model)
            Vectors of the bins.
        cache : LayerCache or None
            Keys and values of the bins before.
        train : bool
            Whether to apply dropout.

        Returns
        -------
        x : float array of shape (bins, model)
            Vectors after the block.
        cache : LayerCache or None
            Cache for the next window.
        """

        def drop(y: Array) -> Array:
            return nn.Dropout(self.dropout, deterministic=not train)(y)

        model = x.shape[-1]
        attention = SelfAttention(self.heads, self.window, self.causal, rotary=False, name="self_attn")
        y, next_cache = attention(x, cache)
        x = nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm1")(x + drop(y))
        y = drop(nn.relu(torch_dense(self.hidden, model, "linear1")(x)))
        y = drop(torch_dense(model, self.hidden, "linear2")(y))
        return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, name="norm2")(x + y), next_cache
