"""Networks that map binned spikes to logits of spikes: the published layer, and a transformer for any number of units.

Start with :mod:`~jaxephys.spikes.network.interface`, which describes what all networks have in common;
:mod:`~jaxephys.spikes.network.published` and :mod:`~jaxephys.spikes.network.population` hold the two networks, and
:mod:`~jaxephys.spikes.network.layers` the attention that both are built from.
"""

from jaxephys.spikes.network.form import ComputeForm
from jaxephys.spikes.network.interface import Entries, LayerCache, Memory, SpikeNetwork
from jaxephys.spikes.network.options import NETWORK_KINDS, NetworkOptions
from jaxephys.spikes.network.population import PopulationTransformer, fixed_point_mean
from jaxephys.spikes.network.published import PublishedLayer

__all__ = [
    "NETWORK_KINDS",
    "ComputeForm",
    "Entries",
    "LayerCache",
    "Memory",
    "NetworkOptions",
    "PopulationTransformer",
    "PublishedLayer",
    "SpikeNetwork",
    "fixed_point_mean",
]
