"""Patch-seq: recordings (NWB, or arrays of one's own) -> feature families with masks, labels and reasons -> one table."""
