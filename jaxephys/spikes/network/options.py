"""Options from which a network is built for a recording. Start with :class:`NetworkOptions`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxephys.spikes.history import Filters
from jaxephys.spikes.network.population import PopulationTransformer
from jaxephys.spikes.network.published import PublishedLayer

NETWORK_KINDS = ("population", "units", "published", "legacy")
_OURS = {"width": 32, "heads": 2, "window": 128, "hidden": 64}
_PUBLISHED = {"heads": 16, "hidden": 128, "attention_dropout": False}
# Options that each kind takes besides depth and dropout, with their defaults. All bins are visible without a window.
DEFAULTS: dict[str, dict[str, Any]] = {
    "population": _OURS,
    "units": _OURS,
    "published": {**_PUBLISHED, "window": None},
    "legacy": _PUBLISHED,
}


@dataclass(frozen=True)
class NetworkOptions:
    """Options of a network that do not depend on the recording.

    Where an option is None, the kind's own value is used. A value for an option that the kind does not have is an error.

    Parameters
    ----------
    kind : {"population", "units", "published", "legacy"}, default "population"
        "population" takes any number of units in any order and can therefore be applied to other recordings. "units" has
        parameters for each unit of the training recording and takes these only. "published" is the published layer, made
        causal. "legacy" is the published layer in its original form, which sees the bin that it predicts: a reconstruction,
        for comparison only.
    width : int, optional
        Width of the transformer, 32 by default. Option of "population" and "units"; the published layer is as wide as the recording has
        units.
    depth : int, default 1
        Number of transformer layers.
    heads : int, optional
        Heads of a layer. By default 2 for "population" and "units", where twice the number must divide ``width``, and 16 for "published"
        and "legacy", where it must divide the number of units.
    window : int, optional
        Number of past bins that a layer attends to. By default 128 for "population" and "units", and all bins of its input for
        "published"; "legacy" has no window.
    dropout : float, default 0.1
        Dropout rate in training.
    hidden : int, optional
        Width of the feed-forward part of a layer. By default 64 for "population" and "units", and 128 for "published" and "legacy".
    attention_dropout : bool, optional
        Drop attention weights in training, too, as the published layer does in PyTorch. Option of "published" and "legacy", False by
        default, because no attention kernel of a GPU has it.

    Raises
    ------
    ValueError
        If the kind is unknown, does not take an option that is given, or a number is impossible.

    Examples
    --------
    >>> from jaxephys import NetworkOptions
    >>> NetworkOptions("published", depth=3, heads=4, window=64).build(n_units=48, bin_ms=1.0).heads
    4
    >>> NetworkOptions("published", width=64)
    Traceback (most recent call last):
    ...
    ValueError: the network 'published' takes no width, which is an option of population and units
    """

    kind: str = "population"
    width: int | None = None
    depth: int = 1
    heads: int | None = None
    window: int | None = None
    dropout: float = 0.1
    hidden: int | None = None
    attention_dropout: bool | None = None

    def __post_init__(self) -> None:
        if self.kind not in NETWORK_KINDS:
            raise ValueError(f"network {self.kind!r} is unknown: choose one of {', '.join(NETWORK_KINDS)}")
        for name in ("width", "heads", "window", "hidden", "attention_dropout"):
            takers = [kind for kind, options in DEFAULTS.items() if name in options]
            if getattr(self, name) is not None and self.kind not in takers:
                listed = " and ".join((", ".join(takers[:-1]), takers[-1]))
                raise ValueError(f"the network {self.kind!r} takes no {name}, which is an option of {listed}")
        for name, least in (("width", 1), ("depth", 0), ("heads", 1), ("window", 0), ("hidden", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} of a network is {value}: give at least {least}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout of a network is {self.dropout}: give a rate from 0 to below 1")

    def with_defaults(self) -> NetworkOptions:
        """Return these options with the kind's own values in place of None.

        Returns
        -------
        NetworkOptions
            Options that the kind does not take, and the window of a network that sees all bins, remain None.
        """
        missing = {name: value for name, value in DEFAULTS[self.kind].items() if getattr(self, name) is None}
        return replace(self, **missing)

    def with_parameters(self, n_parameters: int, n_units: int) -> NetworkOptions:
        """Return these options with the feed-forward width that brings the number of parameters nearest to a given one.

        Parameters
        ----------
        n_parameters : int
            Number of parameters.
        n_units : int
            Units of the training recording.

        Returns
        -------
        NetworkOptions
            With ``hidden`` of at least 1, whether or not so few parameters can be reached.
        """
        if self.depth == 0:
            return self
        least, more = (replace(self, hidden=hidden).count_parameters(n_units) for hidden in (1, 2))
        return replace(self, hidden=max(1, 1 + round((n_parameters - least) / (more - least))))

    def count_parameters(self, n_units: int) -> int:
        """Count the parameters of the network.

        Parameters
        ----------
        n_units : int
            Units of the training recording.

        Returns
        -------
        int
            The number of parameters.
        """
        network: Any = self.build(n_units, bin_ms=1.0)
        shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, n_units)))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    def build(self, n_units: int, bin_ms: float) -> PopulationTransformer | PublishedLayer:
        """Build the network.

        Parameters
        ----------
        n_units : int
            Units of the training recording.
        bin_ms : float
            Width of a bin in milliseconds.

        Returns
        -------
        PopulationTransformer or PublishedLayer
            A flax module without variables.

        Raises
        ------
        ValueError
            If the heads of the published layer do not divide the number of units.
        """
        options: Any = self.with_defaults()
        if self.kind in ("published", "legacy"):
            if n_units % options.heads:
                raise ValueError(
                    f"{options.heads} heads cannot divide the {n_units} units of the recording, the width of the published layer: "
                    f"choose heads that do, or another number of units"
                )
            return PublishedLayer(
                n_units,
                heads=options.heads,
                hidden=options.hidden,
                depth=self.depth,
                dropout=self.dropout,
                legacy=self.kind == "legacy",
                window=options.window,
                attention_dropout=options.attention_dropout,
            )
        return PopulationTransformer(
            n_units if self.kind == "units" else None,
            width=options.width,
            depth=self.depth,
            heads=options.heads,
            window=options.window,
            hidden=options.hidden,
            dropout=self.dropout,
            filters=Filters(bin_ms=bin_ms),
        )
