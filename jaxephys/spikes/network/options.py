"""Options from which a network is built for a recording. Start with :class:`NetworkOptions`."""

from __future__ import annotations

from dataclasses import dataclass

from jaxephys.spikes.history import Filters
from jaxephys.spikes.network.population import PopulationTransformer
from jaxephys.spikes.network.published import PublishedLayer

NETWORK_KINDS = ("population", "units", "published", "legacy")


@dataclass(frozen=True)
class NetworkOptions:
    """Options of a network that do not depend on the recording.

    Parameters
    ----------
    kind : {"population", "units", "published", "legacy"}, default "population"
        "population" takes any number of units in any order and can therefore be applied to other recordings. "units" has
        parameters for each unit of the training recording and takes these only. "published" is the published layer, made
        causal. "legacy" is the published layer in its original form, which sees the bin that it predicts: a reconstruction,
        for comparison only.
    width : int, default 32
        Width of the transformer.
    depth : int, default 1
        Number of transformer layers.
    heads : int, default 2
        Heads of a layer; twice the number must divide ``width``.
    window : int, default 128
        Number of past bins that a layer attends to.
    dropout : float, default 0.1
        Dropout rate in training.

    Raises
    ------
    ValueError
        If the kind is unknown.

    Notes
    -----
    Width, depth, heads and window apply to "population" and "units" only; the published layer has its published sizes.
    """

    kind: str = "population"
    width: int = 32
    depth: int = 1
    heads: int = 2
    window: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in NETWORK_KINDS:
            raise ValueError(f"network {self.kind!r} is unknown: choose one of {', '.join(NETWORK_KINDS)}")

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
        """
        if self.kind in ("published", "legacy"):
            return PublishedLayer(n_units, dropout=self.dropout, legacy=self.kind == "legacy")
        return PopulationTransformer(
            n_units if self.kind == "units" else None,
            self.width,
            self.depth,
            self.heads,
            self.window,
            dropout=self.dropout,
            filters=Filters(bin_ms=bin_ms),
        )
