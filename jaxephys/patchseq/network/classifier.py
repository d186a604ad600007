"""The networks: ``SubclassNetwork``, ``TwoSpeciesNetwork`` with a head for each species, and ``TabularNetwork``.

``SubclassNetwork`` has an encoder, two ways of pooling and two heads, of which every run uses one each. The variants of the
published ablation differ after the LSTM, where almost nothing is computed. One network holds all of them and the switches of a
run select, so that seeds x folds x variants are one compiled program; what a run does not use receives no gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray
from jaxephys.models.dropout import Dropout
from jaxephys.patchseq.network.dropout import DEFAULT_RATES, DropoutRates
from jaxephys.patchseq.network.encoder import AdditiveAttention, FamilyEncoder, States, TokenEncoder, pool_states
from jaxephys.patchseq.network.forms import ComputeForm
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
    token : int or None, default None
        With a number, each family is projected to as many values and the network sees which values are missing
        (``TokenEncoder``); a run without attention then weighs all families alike. None selects the published encoder
        (``FamilyEncoder``): families are padded with zeros to the widest and normalized, and a run without attention
        takes the state of the last family, where the backward LSTM has seen that family only.
    form : ComputeForm
        How the operations are computed; see ``choose_form``.

    Notes
    -----
    With families normalized over 498 values and five classes, the published encoder, the attention and the softmax head have 677,865
    parameters. In PyTorch they are 678,889, because there each of the 1,024 gates has two biases, which are always added. The ArcFace
    head has 1,280 more, which are a part of the network in runs with the softmax head, too.
    """

    layout: RaggedLayout
    n_classes: int
    hidden: int = 128
    token: int | None = None
    form: ComputeForm = ComputeForm()

    @nn.compact
    def __call__(
        self,
        packed: Float[Array, "batch packed"],
        missing: Float[Array, "batch packed"],
        switches: NetworkSwitches,
        rates: DropoutRates = DEFAULT_RATES,
        *,
        train: bool,
    ) -> NetworkOutput:
        states = _encode_families(self, packed, missing, rates, train=train)
        attention = AdditiveAttention(self.hidden, self.form, name="attention")(states)
        if self.token is None:
            fixed = jnp.zeros_like(attention) + (np.arange(attention.shape[1]) == attention.shape[1] - 1)
        else:
            fixed = jnp.full_like(attention, 1 / attention.shape[1])
        weights = jnp.where(switches.attention, attention, fixed)
        pooled = pool_states(states, weights, self.form)
        linear = SoftmaxHead(self.n_classes, name="softmax")(pooled, rates.hidden, train=train)
        cosine = CosineHead(self.n_classes, self.form, name="arcface")(pooled)
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
    token : int or None, default None
        Number of values that each family is projected to (``TokenEncoder``); None selects the published ``FamilyEncoder``.
    form : ComputeForm
        How the operations are computed; see ``choose_form``.
    """

    layout: RaggedLayout
    n_classes: int
    hidden: int = 128
    token: int | None = None
    form: ComputeForm = ComputeForm()

    @nn.compact
    def __call__(
        self,
        packed: Float[Array, "batch packed"],
        missing: Float[Array, "batch packed"],
        rates: DropoutRates = DEFAULT_RATES,
        *,
        train: bool,
    ) -> SpeciesOutputs:
        states = _encode_families(self, packed, missing, rates, train=train)
        weights = AdditiveAttention(self.hidden, self.form, name="attention")(states)
        pooled = pool_states(states, weights, self.form)
        human = SoftmaxHead(self.n_classes, name="human")(pooled, rates.hidden, train=train)
        mouse = SoftmaxHead(self.n_classes, name="mouse")(pooled, rates.hidden, train=train)
        return SpeciesOutputs(human, mouse)


def _encode_families(
    network: SubclassNetwork | TwoSpeciesNetwork,
    packed: Float[Array, "batch packed"],
    missing: Float[Array, "batch packed"],
    rates: DropoutRates,
    *,
    train: bool,
) -> States:
    """The states of all families by the encoder that ``token`` selects. It is a submodule of the network that calls this function."""
    if network.token is None:
        return FamilyEncoder(network.layout, network.hidden, network.form, name="encoder")(packed)
    encoder = TokenEncoder(network.layout, network.hidden, network.token, network.form, name="encoder")
    return encoder(packed, missing, rates.inputs, train=train)


class TabularNetwork(nn.Module):
    """Two hidden layers with dropout of inputs and of hidden units.

    Dropping inputs makes the network independent of any single feature, as cells without a stimulus protocol require.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    hidden : int, default 128
        Units of each hidden layer.
    form : ComputeForm
        Its ``dtype`` is that of the products of the hidden layers.
    """

    n_classes: int
    hidden: int = 128
    form: ComputeForm = ComputeForm()

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch column"], rates: DropoutRates = DEFAULT_RATES, *, train: bool
    ) -> Float[Array, "batch class"]:
        x = Dropout(enlarge_last=True)(x, rates.inputs if train else 0.0)
        initializer = nn.initializers.he_normal()
        for layer in range(2):
            dense = nn.Dense(self.hidden, dtype=self.form.dtype, kernel_init=initializer, name=f"layer_{layer}")
            x = Dropout(enlarge_last=True)(nn.silu(dense(x)).astype(jnp.float32), rates.hidden if train else 0.0)
        return nn.Dense(self.n_classes, name="head")(x)
