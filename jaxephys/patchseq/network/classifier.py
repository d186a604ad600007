"""The networks: ``SubclassNetwork``, ``TwoSpeciesNetwork`` with a head for each species, and ``TabularNetwork``.

``SubclassNetwork`` has an encoder, two ways of pooling and two heads, of which every run uses one each. The variants of the
published ablation differ after the LSTM, where almost nothing is computed. One network holds all of them and the switches of a
run select, so that seeds x folds x variants are one compiled program; what a run does not use receives no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray
from jaxephys.patchseq.network.encoder import AdditiveAttention, FamilyEncoder, TokenEncoder
from jaxephys.patchseq.network.heads import CosineHead, SoftmaxHead
from jaxephys.patchseq.network.ragged_layout import RaggedLayout

SHARED_MODULES = ("encoder", "attention")  # of TwoSpeciesNetwork, trained by the cells of both species


class NetworkSwitches(NamedTuple):
    """The parts of the network that a run uses.

    Parameters
    ----------
    attention : bool array of shape (run,) or ()
        Pool the families by attention; otherwise with fixed weights (see ``SubclassNetwork``).
    arcface : bool array of shape (run,) or ()
        Classify with the ArcFace head; otherwise with the softmax head.
    """

    attention: Bool[AnyArray, "*run"]
    arcface: Bool[AnyArray, "*run"]


class NetworkOutput(NamedTuple):
    """Outputs of the network for a batch of cells.

    Parameters
    ----------
    linear : array of shape (batch, class)
        Logits of the softmax head.
    cosine : array of shape (batch, class)
        Cosines of the ArcFace head, before margin and scale.
    attention : array of shape (batch, family)
        Weights with which the families are pooled; the fixed weights in a run without attention.
    pooled : array of shape (batch, 2 * hidden)
        The weighted mean of the encoder's states.
    """

    linear: Float[Array, "batch class"]
    cosine: Float[Array, "batch class"]
    attention: Float[Array, "batch family"]
    pooled: Float[Array, "batch pooled"]


class SubclassNetwork(nn.Module):
    """The network of the subclass classifier.

    Parameters
    ----------
    layout : RaggedLayout
        Order of the features.
    n_classes : int
        Number of classes.
    hidden : int, default 128
        Hidden units of the LSTM in each direction.
    dropout : float, default 0.2
        Dropout before the softmax head.
    token : int or None, default None
        With a number, each family is projected to as many values and the network sees which values are missing
        (``TokenEncoder``); a run without attention then weighs all families alike. None selects the published encoder
        (``FamilyEncoder``): families are padded with zeros to the widest and normalized, and a run without attention
        takes the state of the last family, where the backward LSTM has seen that family only.
    """

    layout: RaggedLayout
    n_classes: int
    hidden: int = 128
    dropout: float = 0.2
    token: int | None = None

    @nn.compact
    def __call__(
        self,
        packed: Float[Array, "batch packed"],
        missing: Float[Array, "batch packed"],
        switches: NetworkSwitches,
        *,
        train: bool,
    ) -> NetworkOutput:
        states = _encode_families(self, packed, missing, train=train)
        attention = AdditiveAttention(self.hidden, name="attention")(states)
        if self.token is None:
            fixed = jnp.zeros_like(attention).at[:, -1].set(1.0)
        else:
            fixed = jnp.full_like(attention, 1 / attention.shape[1])
        weights = jnp.where(switches.attention, attention, fixed)
        pooled = jnp.einsum("bf,bfp->bp", weights, states)
        linear = SoftmaxHead(self.n_classes, self.dropout, name="softmax")(pooled, train=train)
        cosine = CosineHead(self.n_classes, name="arcface")(pooled)
        return NetworkOutput(linear, cosine, weights, pooled)


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
        states = _encode_families(self, packed, missing, train=train)
        weights = AdditiveAttention(self.hidden, name="attention")(states)
        pooled = jnp.einsum("bf,bfp->bp", weights, states)
        human = SoftmaxHead(self.n_classes, self.dropout, name="human")(pooled, train=train)
        mouse = SoftmaxHead(self.n_classes, self.dropout, name="mouse")(pooled, train=train)
        return SpeciesOutputs(human, mouse)


def _encode_families(
    network: SubclassNetwork | TwoSpeciesNetwork,
    packed: Float[Array, "batch packed"],
    missing: Float[Array, "batch packed"],
    *,
    train: bool,
) -> Float[Array, "batch family pooled"]:
    """The states of all families by the encoder that ``token`` selects. It is a submodule of the network that calls this function."""
    if network.token is None:
        return FamilyEncoder(network.layout, network.hidden, name="encoder")(packed)
    return TokenEncoder(network.layout, network.hidden, network.token, name="encoder")(packed, missing, train=train)


class TabularNetwork(nn.Module):
    """Two hidden layers with dropout of inputs and of hidden units.

    Dropping inputs makes the network independent of any single feature, as cells without a stimulus protocol require.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    hidden : int, default 128
        Units of each hidden layer.
    dropout : float, default 0.2
        Dropout after each hidden layer.
    input_dropout : float, default 0.1
        Dropout of the inputs.
    """

    n_classes: int
    hidden: int = 128
    dropout: float = 0.2
    input_dropout: float = 0.1

    @nn.compact
    def __call__(self, x: Float[Array, "batch column"], *, train: bool) -> Float[Array, "batch class"]:
        x = nn.Dropout(self.input_dropout, deterministic=not train)(x)
        for layer in range(2):
            x = nn.silu(nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal(), name=f"layer_{layer}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.n_classes, name="head")(x)
