"""SubclassNetwork: the encoder, both ways to pool it and both heads. Which one a run uses is data, not code.

The variants of the paper's ladder differ after the LSTM, where almost nothing is computed. One network holds them all and
a run's switches choose, so that seeds x folds x variants are one compiled program; what is not chosen receives no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxephys.dims import AnyArray
from jaxephys.patchseq.encoder import AdditiveAttention, FamilyEncoder
from jaxephys.patchseq.heads import CosineHead, SoftmaxHead
from jaxephys.patchseq.staircase import Staircase


class Switches(NamedTuple):
    """What a run uses: attention or the last step to pool, ArcFace or softmax to classify."""

    attention: Bool[AnyArray, "*run"]
    arcface: Bool[AnyArray, "*run"]


class Readout(NamedTuple):
    """What the network says of cells. ``linear`` and ``cosine`` are the two heads before any margin or scale."""

    linear: Float[Array, "batch class"]
    cosine: Float[Array, "batch class"]
    attention: Float[Array, "batch family"]  # 1 at the last family for a run without attention
    pooled: Float[Array, "batch pooled"]


class SubclassNetwork(nn.Module):
    stairs: Staircase
    classes: int
    hidden: int = 128
    dropout: float = 0.2

    @nn.compact
    def __call__(self, packed: Float[Array, "batch packed"], switches: Switches, *, train: bool) -> Readout:
        states = FamilyEncoder(self.stairs, self.hidden, name="encoder")(packed)
        learnt = AdditiveAttention(self.hidden, name="attention")(states)
        # The published baseline pools the output of the last family, so its backward half has seen that family alone.
        last = jnp.zeros_like(learnt).at[:, -1].set(1.0)
        weights = jnp.where(switches.attention, learnt, last)
        pooled = jnp.einsum("bf,bfp->bp", weights, states)
        linear = SoftmaxHead(self.classes, self.dropout, name="softmax")(pooled, train=train)
        cosine = CosineHead(self.classes, name="arcface")(pooled)
        return Readout(linear, cosine, weights, pooled)
