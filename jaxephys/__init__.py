"""jaxephys: whole experiment grids of electrophysiology models as one compiled JAX program."""

__version__ = "0.1.0"

from jaxephys.estimator import load
from jaxephys.hippie.card import TECHNOLOGY_IDS
from jaxephys.hippie.data import UnitTable
from jaxephys.hippie.embedder import Hippie
from jaxephys.patchseq.classifier import PatchSeqClassifier
from jaxephys.patchseq.data import FamilyTable
from jaxephys.spikes.data import Recording
from jaxephys.spikes.predictor import SpikeTransformer

__all__ = [
    "TECHNOLOGY_IDS",
    "FamilyTable",
    "Hippie",
    "PatchSeqClassifier",
    "Recording",
    "SpikeTransformer",
    "UnitTable",
    "__version__",
    "load",
]
