"""TabularNetwork: a plain network over all features of a cell at once, in whatever families they came."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float


class TabularNetwork(nn.Module):
    """Two hidden layers. Dropping inputs makes it do without any one feature, as a cell with a missing protocol must."""

    classes: int
    hidden: int = 128
    dropout: float = 0.2
    input_dropout: float = 0.1

    @nn.compact
    def __call__(self, x: Float[Array, "batch column"], *, train: bool) -> Float[Array, "batch class"]:
        x = nn.Dropout(self.input_dropout, deterministic=not train)(x)
        for layer in range(2):
            x = nn.silu(nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal(), name=f"layer_{layer}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.classes, name="head")(x)
