"""Patch-seq recordings (NWB files or arrays) -> feature families with masks, labels and reason codes -> one feature table.

Start with ``extract.extract_cell`` for arrays, ``collect`` for folders of recordings, ``feature_csv`` for existing tables of scalar
features, and ``cli`` for the commands.
"""
