"""jaxephys: train whole experiment grids of electrophysiology models as one compiled JAX program.

Start with an estimator: :class:`PatchSeqClassifier`, :class:`Hippie` or :class:`SpikeTransformer`. Names are imported when they
are first used, so ``import jaxephys`` is fast and does not start JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jaxephys.models import registry

__version__ = "0.1.0"

# Where each public name is defined.
_MODULES = {
    "FeatureTable": "jaxephys.schemas.feature_table",
    "Hippie": "jaxephys.hippie.estimator",
    "NetworkOptions": "jaxephys.spikes.network.options",
    "Objective": "jaxephys.spikes.task",
    "PatchSeqClassifier": "jaxephys.patchseq.estimator",
    "Recording": "jaxephys.schemas.recording",
    "SpikeTransformer": "jaxephys.spikes.estimator",
    "TECHNOLOGY_IDS": "jaxephys.hippie.published_api",
    "UnitTable": "jaxephys.schemas.unit_table",
    "load": "jaxephys.models.loading",
}

for _kind in ("Hippie", "PatchSeqClassifier", "SpikeTransformer"):
    registry.register(_kind, _MODULES[_kind])

if TYPE_CHECKING:
    from jaxephys.hippie.estimator import Hippie
    from jaxephys.hippie.published_api import TECHNOLOGY_IDS
    from jaxephys.models.loading import load
    from jaxephys.patchseq.estimator import PatchSeqClassifier
    from jaxephys.schemas.feature_table import FeatureTable
    from jaxephys.schemas.recording import Recording
    from jaxephys.schemas.unit_table import UnitTable
    from jaxephys.spikes.estimator import SpikeTransformer
    from jaxephys.spikes.network.options import NetworkOptions
    from jaxephys.spikes.task import Objective

__all__ = [
    "TECHNOLOGY_IDS",
    "FeatureTable",
    "Hippie",
    "NetworkOptions",
    "Objective",
    "PatchSeqClassifier",
    "Recording",
    "SpikeTransformer",
    "UnitTable",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'jaxephys' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return __all__
