"""Scores, tables and figures of the experiments on Patch-seq cells, one module per experiment or group of experiments."""
