"""The published network: transformer layers over bins as tokens, and a linear head. Start with :class:`PublishedLayer`."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.spikes.network.form import ComputeForm
from jaxephys.spikes.network.interface import Memory
from jaxephys.spikes.network.layers import TransformerBlock, apply_blocks, check_units, torch_dense


class PublishedLayer(nn.Module):
    """The published layer as PyTorch defines it, with the bins themselves as tokens and a linear head.

    Parameters
    ----------
    units : int
        Number of units, which is also the width of the layer.
    heads : int
        Number of heads, a divisor of the number of units.
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
    form : ComputeForm
        How the network is computed.
    attention_dropout : bool
        Drop attention weights in training, at the same rate. No kernel for a GPU does, so that training takes several times as long there.

    Notes
    -----
    ``x = norm1(x + attention(x));  x = norm2(x + linear2(relu(linear1(x))));  logits = fc(x)``. There are no positions.
    Parameters have PyTorch's names.

    Deviation: attention weights are only dropped with ``attention_dropout``; in PyTorch they always are.
    """

    units: int = 128
    heads: int = 16
    hidden: int = 128
    depth: int = 1
    dropout: float = 0.1
    legacy: bool = False
    window: int | None = None
    form: ComputeForm = ComputeForm()
    attention_dropout: bool = False

    filters = None  # the layer reads the bins themselves
    supports_entry_sampling = False

    @property
    def is_reconstruction(self) -> bool:
        """Whether the network sees the bin that it is evaluated on."""
        return self.legacy

    @nn.compact
    def __call__(
        self,
        spikes: Float[AnyArray, "time unit"],
        memory: Memory | None = None,
        *,
        train: bool = False,
        dropout_rate: Float[AnyArray, ""] | float | None = None,
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
        dropout_rate : float, optional
            Rate in place of ``dropout``.

        Returns
        -------
        logits : float32 array of shape (bins, units)
            Row t belongs to bin t + 1, or to bin t if ``legacy``.
        memory : Memory
            Memory after the last bin.
        """
        check_units(spikes, self.units)
        names = ["layer"] if self.depth == 1 else [f"layer_{index}" for index in range(self.depth)]
        sizes = self.heads, self.window, self.hidden
        rate = (self.dropout if dropout_rate is None else dropout_rate) if train else 0.0
        options = {"causal": not self.legacy, "published": True, "form": self.form}
        options |= {"drops_weights": self.attention_dropout}
        blocks = [TransformerBlock(*sizes, name=name, **options) for name in names]
        x, caches = apply_blocks(blocks, jnp.asarray(spikes, self.form.activations), memory, rate)
        return torch_dense(self.units, self.units, "fc")(x), Memory(None, caches)
