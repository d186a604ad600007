"""Sorted units: CSV folders, NumPy archives, NWB and HDF5 files or spike times -> one table of raw features per unit.

Commands are in :mod:`data_prep.units.cli`; start reading at :mod:`jaxephys.schemas.unit_features`.
"""
