"""Dense encoders and decoders that replace the ResNets for data sets of a few hundred units.

They compile in seconds and train about fifty times faster. Each is a linear map plus two hidden layers: the linear map alone is a
ridge regression, which predicts missing curves well from few units, and the hidden layers add what it misses.
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray
from jaxephys.hippie.network.resnet1d import CPU_FORM, SLOPE, ComputeForm, dense_init

HIDDEN_FACTOR = 8  # hidden units per unit of width, as many as the last layer of a ResNet has channels


Rows = Bool[AnyArray, "pass batch"] | None


class DenseEncoder(nn.Module):
    """A dense encoder of one curve. It has no batch statistics: ``rows`` and ``train`` change nothing.

    Parameters
    ----------
    features : int
        Length of the encoding.
    width : int
        An eighth of the number of hidden units.
    form : ComputeForm
        Unused; present because the ResNets have it. These networks are so small that they are always computed in float32.
    """

    features: int
    width: int = 16
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(self, curve: Float[Array, "row position"], rows: Rows, train: bool) -> Float[Array, "row encoding"]:
        return DenseOutput(self.features, name="output")((curve, _hidden_layers(curve, self.width)))


class DenseDecoder(nn.Module):
    """The hidden layers of a dense decoder, see `DenseOutput`. It has no batch statistics: ``rows`` and ``train`` change nothing.

    Parameters
    ----------
    width : int
        An eighth of the number of hidden units.
    form : ComputeForm
        Unused; present because the ResNets have it. These networks are so small that they are always computed in float32.
    """

    width: int = 16
    form: ComputeForm = CPU_FORM

    @nn.compact
    def __call__(
        self, features: Float[Array, "row encoding"], rows: Rows, train: bool
    ) -> tuple[Float[Array, "row encoding"], Float[Array, "row hidden"]]:
        return features, _hidden_layers(features, self.width)


class DenseOutput(nn.Module):
    """The sum of a linear map of the input and one of the hidden units.

    Parameters
    ----------
    length : int
        Number of outputs.

    Notes
    -----
    ``y = linear(x) + dense_out(f(dense_1(f(dense_0(x)))))`` with the leaky ReLU f.
    """

    length: int

    @nn.compact
    def __call__(self, x: tuple[Float[Array, "row in"], Float[Array, "row hidden"]]) -> Float[Array, "row _"]:
        layers = [nn.Dense(self.length, kernel_init=dense_init, name=name) for name in ("linear", "dense_out")]
        return layers[0](x[0]) + layers[1](x[1])


def _hidden_layers(x: Float[Array, "row in"], width: int) -> Float[Array, "row hidden"]:
    """Two dense layers of the module that calls this function."""
    for layer in (0, 1):
        x = nn.leaky_relu(nn.Dense(HIDDEN_FACTOR * width, kernel_init=dense_init, name=f"dense_{layer}")(x), SLOPE)
    return x
