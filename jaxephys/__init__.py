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
    "KernelClassifier": "jaxephys.evaluation.kernel_classifier",
    "NetworkOptions": "jaxephys.spikes.network.options",
    "Objective": "jaxephys.spikes.task",
    "PatchSeqClassifier": "jaxephys.patchseq.estimator",
    "Recording": "jaxephys.schemas.recording",
    "SpikeTransformer": "jaxephys.spikes.estimator",
    "TECHNOLOGY_IDS": "jaxephys.hippie.published_api",
    "UnitTable": "jaxephys.schemas.unit_table",
    "export_for_spikeinterface": "jaxephys.models.spikeinterface_export",
    "export_model": "jaxephys.models.export",
    "load": "jaxephys.models.loading",
    "load_exported": "jaxephys.models.export",
    "load_pretrained": "jaxephys.models.hub",
}

for _kind in ("Hippie", "PatchSeqClassifier", "SpikeTransformer"):
    registry.register(_kind, _MODULES[_kind])

if TYPE_CHECKING:
    from jaxephys.evaluation.kernel_classifier import KernelClassifier
    from jaxephys.hippie.estimator import Hippie
    from jaxephys.hippie.published_api import TECHNOLOGY_IDS
    from jaxephys.models.export import export_model, load_exported
    from jaxephys.models.hub import load_pretrained
    from jaxephys.models.loading import load
    from jaxephys.models.spikeinterface_export import export_for_spikeinterface
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
    "KernelClassifier",
    "NetworkOptions",
    "Objective",
    "PatchSeqClassifier",
    "Recording",
    "SpikeTransformer",
    "UnitTable",
    "__version__",
    "export_for_spikeinterface",
    "export_model",
    "load",
    "load_exported",
    "load_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'jaxephys' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return __all__
