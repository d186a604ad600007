"""jaxephys: whole experiment grids of electrophysiology models as one compiled JAX program."""

__version__ = "0.1.0"

from jaxephys.hippie.estimator import Hippie
from jaxephys.hippie.published_api import TECHNOLOGY_IDS
from jaxephys.models.base import load
from jaxephys.patchseq.estimator import PatchSeqClassifier
from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.recording import Recording
from jaxephys.schemas.unit_table import UnitTable
from jaxephys.spikes.estimator import SpikeTransformer

__all__ = [
    "TECHNOLOGY_IDS",
    "FeatureTable",
    "Hippie",
    "PatchSeqClassifier",
    "Recording",
    "SpikeTransformer",
    "UnitTable",
    "__version__",
    "load",
]
