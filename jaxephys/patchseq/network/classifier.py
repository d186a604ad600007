"""SubclassNetwork: the encoder, both ways to pool it and both heads. Which one a run uses is data, not code.

The variants of the paper's ladder differ after the LSTM, where almost nothing is computed. One network holds them all and
a run's switches choose, so that seeds x folds x variants are one compiled program; what is not chosen receives no gradient.

With ``token`` each family has a projection of its own to so many numbers and the network sees what is missing: ours. Without,
families are padded with zeros to the widest and normalised, as published.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray
from jaxephys.patchseq.network.encoder import AdditiveAttention, FamilyEncoder, TokenEncoder
from jaxephys.patchseq.network.heads import CosineHead, SoftmaxHead
from jaxephys.patchseq.network.ragged_layout import Staircase


class Switches(NamedTuple):
    """What a run uses: attention or the last step to pool, ArcFace or softmax to classify."""

    attention: Bool[AnyArray, "*run"]
    arcface: Bool[AnyArray, "*run"]


class Readout(NamedTuple):
    """What the network says of cells. ``linear`` and ``cosine`` are the two heads before any margin or scale."""

    linear: Float[Array, "batch class"]
    cosine: Float[Array, "batch class"]
    attention: Float[Array, "batch family"]  # fixed for a run without attention
    pooled: Float[Array, "batch pooled"]


class SubclassNetwork(nn.Module):
    stairs: Staircase
    classes: int
    hidden: int = 128
    dropout: float = 0.2
    token: int | None = None

    @nn.compact
    def __call__(
        self,
        packed: Float[Array, "batch packed"],
        missing: Float[Array, "batch packed"],
        switches: Switches,
        *,
        train: bool,
    ) -> Readout:
        if self.token is None:
            states = FamilyEncoder(self.stairs, self.hidden, name="encoder")(packed)
        else:
            states = TokenEncoder(self.stairs, self.hidden, self.token, name="encoder")(packed, missing, train=train)
        learnt = AdditiveAttention(self.hidden, name="attention")(states)
        weights = jnp.where(switches.attention, learnt, self._fixed(learnt))
        pooled = jnp.einsum("bf,bfp->bp", weights, states)
        linear = SoftmaxHead(self.classes, self.dropout, name="softmax")(pooled, train=train)
        cosine = CosineHead(self.classes, name="arcface")(pooled)
        return Readout(linear, cosine, weights, pooled)

    def _fixed(self, learnt: Float[Array, "batch family"]) -> Float[Array, "batch family"]:
        """All families alike. The published baseline takes the last, where the backward half has seen that family alone."""
        if self.token is None:
            return jnp.zeros_like(learnt).at[:, -1].set(1.0)
        return jnp.full_like(learnt, 1 / learnt.shape[1])
