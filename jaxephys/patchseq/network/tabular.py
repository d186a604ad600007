"""TabularNetwork: a multilayer perceptron over all features of a cell at once, whatever their families."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float


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
