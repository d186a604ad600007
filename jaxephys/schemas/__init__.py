"""The data that data_prep writes and the models read, as NumPy arrays and as files.

``feature_table`` has the features of Patch-seq cells, ``unit_table`` waveforms, intervals and autocorrelograms of sorted units,
``recording`` binned spikes, and ``storage`` what their file formats share. ``spike_sources``, ``unit_sources`` and ``data_frames`` read
the objects and folders of other packages; ``unit_features`` computes the curves of units. Nothing here imports JAX.
"""

from jaxephys.schemas.feature_table import FeatureTable
from jaxephys.schemas.recording import Recording, as_recording
from jaxephys.schemas.storage import DataError, TableError
from jaxephys.schemas.unit_sources import as_unit_table
from jaxephys.schemas.unit_table import UnitTable

__all__ = ["DataError", "FeatureTable", "Recording", "TableError", "UnitTable", "as_recording", "as_unit_table"]
