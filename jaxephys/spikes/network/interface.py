"""The interface of all networks of this package, and the memory that a network keeps between windows.

A network is a flax module that is called with spikes of shape (bins, units) and a memory, and returns logits of the same
shape and the next memory. Row t of a causal network holds the logits of bin t + 1 and depends on bins up to t, those in the
memory included. The task, the forecaster and the analyses use networks through :class:`SpikeNetwork` only, so that a new
network needs nothing but these attributes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int

from jaxephys.dimensions import AnyArray
from jaxephys.spikes.history import Filters, History


class LayerCache(NamedTuple):
    """Keys and values of the last ``window`` bins that attention of one layer can still see.

    Parameters
    ----------
    key, value : float array of shape (window, heads, width)
        Keys before rotation, and values.
    n_valid : int
        Number of entries, counted from the end, that belong to real bins.
    """

    key: Float[AnyArray, "key head width"]
    value: Float[AnyArray, "key head width"]
    n_valid: Int[AnyArray, ""]


class Memory(NamedTuple):
    """State that a network keeps between two windows, or between two bins.

    Parameters
    ----------
    history : History or None
        State of the history filters; None for a network without filters.
    layers : tuple of LayerCache or None
        One entry per layer; None for a layer without a window, which starts anew in each window. An empty tuple is
        the beginning of a recording.
    """

    history: History | None
    layers: tuple[LayerCache | None, ...] = ()


class Entries(NamedTuple):
    """Some (bin, unit) pairs of a window. A loss over a thousand of them costs a fraction of a loss over all.

    Parameters
    ----------
    bin, unit : int array of shape (entries,)
        Indices into the window's bins and into the units.
    """

    bin: Int[AnyArray, "entry"]
    unit: Int[AnyArray, "entry"]


@runtime_checkable
class SpikeNetwork(Protocol):
    """Attributes and methods that networks provide.

    Networks are flax modules, so they are hashable, and are called as
    ``network.apply(variables, spikes, memory, train=False) -> (logits, memory)``; ``memory`` None is the beginning of a
    recording. In training ``train=True`` and ``rngs={"dropout": key}`` are added, and ``dropout_rate`` for another rate than
    that of the network.

    Parameters
    ----------
    *args, **kwargs
        Fields of the flax module.
    """

    @property
    def filters(self) -> Filters | None:
        """History filters that the network reads its input through; None if it reads the bins themselves."""
        ...

    @property
    def window(self) -> int | None:
        """Number of past bins that a layer attends to; None if it attends to all bins of its input."""
        ...

    @property
    def dropout(self) -> float:
        """Dropout rate in training, where ``apply`` is called without ``dropout_rate``."""
        ...

    @property
    def supports_entry_sampling(self) -> bool:
        """Whether ``apply`` takes ``entries`` and then returns the logits of these (bin, unit) pairs only."""
        ...

    @property
    def is_reconstruction(self) -> bool:
        """Whether row t of the output belongs to bin t of the input, which the network sees, rather than to bin t + 1."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def init(self, rngs: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Draw variables, as ``flax.linen.Module.init`` does.

        Parameters
        ----------
        rngs : jax key
            Random key.
        *args, **kwargs
            Arguments of a call of the network.

        Returns
        -------
        dict
            Variables by collection.
        """
        ...

    def apply(self, variables: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call the network with given variables, as ``flax.linen.Module.apply`` does.

        Parameters
        ----------
        variables : dict
            Variables by collection.
        *args, **kwargs
            Arguments of a call of the network.

        Returns
        -------
        logits, memory : (array, Memory)
            Output and memory after the window.
        """
        ...
