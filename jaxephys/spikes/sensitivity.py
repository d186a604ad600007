"""Which networks a sensitivity analysis compares: a reference, and networks that differ from it in one option.

Start with :class:`SpikeSensitivity`; :mod:`jaxephys.spikes.report.sensitivity` has the tables and figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxephys.spikes.grid import SpikeSettings
from jaxephys.spikes.network import NetworkOptions
from jaxephys.spikes.report.sensitivity import OptionChange


@dataclass(frozen=True)
class SpikeSensitivity(SpikeSettings):
    """Settings of the sensitivity analysis."""

    populations: int = 6
    """Number of simulated populations, alternately in vitro and in vivo."""
    networks: tuple[Literal["population", "units", "published"], ...] = ("published",)
    """published: the described layer, causal; population: ours, takes any units; units: ours, has parameters for each unit. The first
    is used."""
    loss: str = "dice"
    """Name of the loss."""
    length: int = 256
    """Bins of a training window in the reference."""
    batch_size: int = 16
    """Windows of an optimizer step."""
    max_epochs: int = 10
    """Passes over the training windows."""
    optimizer: Literal["adamw", "published"] = "published"
    """published: plain Adam with a falling rate, windows in the order of time; adamw: AdamW with clipping and warm-up, windows shuffled."""
    select_by: str | None = "accuracy"
    """Validation score that selects the epoch; last: the last epoch; None: as the loss requires."""
    lengths: tuple[int, ...] = (64, 256, 1024)
    """Bins of a training window. The reference is --length."""
    depths: tuple[int, ...] = (1, 2, 3, 4)
    """Number of layers."""
    heads: tuple[int, ...] = (1, 4, 16)
    """Heads of a layer."""
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.3)
    """Dropout rates."""
    matched: bool = True
    """Depths have as many parameters as the deepest network with the feed-forward width of the reference."""

    added: ClassVar[tuple[str, ...]] = ()  # earlier versions trained with other defaults

    @property
    def reference(self) -> dict[str, float | int]:
        """Options of the reference network."""
        network: Any = NetworkOptions(self.networks[0]).with_defaults()
        return {"length": self.length, "depth": network.depth, "heads": network.heads, "dropout": network.dropout}

    @property
    def changes(self) -> list[OptionChange]:
        """The reference, and every network that differs from it in one option."""
        values = zip(self.reference, (self.lengths, self.depths, self.heads, self.dropouts), strict=True)
        changes = [OptionChange(option, value) for option, option_values in values for value in option_values]
        kept = [
            change for change in changes if change.value != self.reference[change.option] or self._is_matched(change)
        ]
        return [OptionChange("", 0), *kept]

    def parameters(self, change: OptionChange, n_units: int) -> dict[str, Any]:
        """Return a change as parameters of the estimator.

        Parameters
        ----------
        change : OptionChange
            A change, or the reference.
        n_units : int
            Units of the recordings, on which numbers of parameters depend.

        Returns
        -------
        dict
            Values by name, such as ``network__depth``.
        """
        if not change.option or change.option == "length":
            return {change.option: change.value} if change.option else {}
        parameters: dict[str, Any] = {f"network__{change.option}": change.value}
        if self._is_matched(change):
            deepest, network = (
                NetworkOptions(self.networks[0], depth=depth) for depth in (max(self.depths), int(change.value))
            )
            hidden = network.with_parameters(deepest.count_parameters(n_units), n_units).hidden
            parameters["network__hidden"] = hidden
        return parameters

    def _is_matched(self, change: OptionChange) -> bool:
        return self.matched and change.option == "depth"
