"""Evaluation: metrics, calibration, intervals and tests, splits, classical baselines, comparison of models on the same rows.

Start with `comparison.ModelComparison`, which collects the probabilities of all models of an experiment and computes their scores.
"""
