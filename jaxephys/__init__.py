"""jaxephys: whole experiment grids of electrophysiology models as one compiled JAX program."""

__version__ = "0.1.0"

from jaxephys.estimator import load
from jaxephys.patchseq.classifier import PatchSeqClassifier
from jaxephys.patchseq.data import FamilyTable

__all__ = ["FamilyTable", "PatchSeqClassifier", "__version__", "load"]
