"""TwoHeads: one encoder for two species, and a head for each.

What the species share is learnt once, from the cells of both; what tells the classes of one species apart is its own head's.
Both heads read every cell. Which of them a loss or a prediction takes is not decided here.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.patchseq.network.encoder import AdditiveAttention, FamilyEncoder, TokenEncoder
from jaxephys.patchseq.network.heads import SoftmaxHead
from jaxephys.patchseq.network.ragged_layout import Staircase

SHARED = ("encoder", "attention")  # the modules that both species train


class BySpecies(NamedTuple):
    """What each head says of cells, of whichever species they are."""

    human: Float[Array, "batch class"]
    mouse: Float[Array, "batch class"]


class TwoHeads(nn.Module):
    """With ``token`` the families are projected as in ``TokenEncoder``, without as published."""

    stairs: Staircase
    classes: int
    hidden: int = 128
    dropout: float = 0.2
    token: int | None = None

    @nn.compact
    def __call__(
        self, packed: Float[Array, "batch packed"], missing: Float[Array, "batch packed"], *, train: bool
    ) -> BySpecies:
        if self.token is None:
            states = FamilyEncoder(self.stairs, self.hidden, name="encoder")(packed)
        else:
            states = TokenEncoder(self.stairs, self.hidden, self.token, name="encoder")(packed, missing, train=train)
        weights = AdditiveAttention(self.hidden, name="attention")(states)
        pooled = jnp.einsum("bf,bfp->bp", weights, states)
        human = SoftmaxHead(self.classes, self.dropout, name="human")(pooled, train=train)
        mouse = SoftmaxHead(self.classes, self.dropout, name="mouse")(pooled, train=train)
        return BySpecies(human, mouse)
