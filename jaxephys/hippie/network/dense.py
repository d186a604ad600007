"""Dense trunks in the place of the ResNets, for a few hundred units: a linear map and, added to it, two hidden layers.

They compile in seconds and train some fifty times faster. With few units they also guess better what was not measured: the linear
map alone is a ridge regression, which is hard to beat there, and the layers add what it misses.
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from jaxephys.dimensions import AnyArray
from jaxephys.hippie.network.resnet1d import FORM, SLOPE, dense_init

HIDDEN = 8  # times the width, as many as a ResNet's last layer has channels


class Trunk(nn.Module):
    """``dense_linear(x) + dense_out(leaky(dense_1(leaky(dense_0(x)))))``."""

    features: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch in"]) -> Float[Array, "batch _"]:
        linear = nn.Dense(self.features, kernel_init=dense_init, name="linear")(x)
        for layer in (0, 1):
            x = nn.leaky_relu(nn.Dense(HIDDEN * self.width, kernel_init=dense_init, name=f"dense_{layer}")(x), SLOPE)
        return linear + nn.Dense(self.features, kernel_init=dense_init, name="dense_out")(x)


class DenseEncoder(nn.Module):
    """A curve -> ``features`` numbers. No statistic of a batch, so that ``rows`` and ``train`` change nothing."""

    features: int
    width: int = 16
    form: str = FORM

    @nn.compact
    def __call__(
        self,
        curve: Float[Array, "batch position"],
        rows: Bool[AnyArray, "batch"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch encoding"]:
        return Trunk(self.features, self.width, name="trunk")(curve)


class DenseDecoder(nn.Module):
    """Numbers -> a curve of ``length``."""

    length: int
    width: int = 16
    form: str = FORM

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "batch encoding"],
        rows: Bool[AnyArray, "batch"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch position"]:
        return Trunk(self.length, self.width, name="trunk")(features)
