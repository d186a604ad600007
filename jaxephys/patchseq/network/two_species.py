"""TwoSpeciesNetwork: one encoder for the cells of two species and a classification head for each species."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxephys.dimensions import AnyArray
from jaxephys.patchseq.network.encoder import AdditiveAttention, FamilyEncoder, TokenEncoder
from jaxephys.patchseq.network.heads import SoftmaxHead
from jaxephys.patchseq.network.ragged_layout import RaggedLayout

SHARED_MODULES = ("encoder", "attention")  # trained by the cells of both species


class SpeciesOutputs(NamedTuple):
    """Logits or probabilities of both heads for the same cells, of whichever species these are.

    Parameters
    ----------
    human, mouse : array of shape (batch, class), or (run, batch, class) for several runs
        Output of the head that is trained with the cells of this species.
    """

    human: Float[AnyArray, "*run batch class"]
    mouse: Float[AnyArray, "*run batch class"]


class TwoSpeciesNetwork(nn.Module):
    """A network with shared encoder and attention, and one softmax head per species.

    Both heads are computed for every cell; the loss and the prediction select the one they need.

    Parameters
    ----------
    layout : RaggedLayout
        Order of the features.
    n_classes : int
        Number of classes.
    hidden : int, default 128
        Hidden units of the LSTM in each direction.
    dropout : float, default 0.2
        Dropout before each head.
    token : int or None, default None
        Number of values that each family is projected to (``TokenEncoder``); None selects the published ``FamilyEncoder``.
    """

    layout: RaggedLayout
    n_classes: int
    hidden: int = 128
    dropout: float = 0.2
    token: int | None = None

    @nn.compact
    def __call__(
        self, packed: Float[Array, "batch packed"], missing: Float[Array, "batch packed"], *, train: bool
    ) -> SpeciesOutputs:
        if self.token is None:
            states = FamilyEncoder(self.layout, self.hidden, name="encoder")(packed)
        else:
            states = TokenEncoder(self.layout, self.hidden, self.token, name="encoder")(packed, missing, train=train)
        weights = AdditiveAttention(self.hidden, name="attention")(states)
        pooled = jnp.einsum("bf,bfp->bp", weights, states)
        human = SoftmaxHead(self.n_classes, self.dropout, name="human")(pooled, train=train)
        mouse = SoftmaxHead(self.n_classes, self.dropout, name="mouse")(pooled, train=train)
        return SpeciesOutputs(human, mouse)
