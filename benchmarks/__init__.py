"""Benchmarks: training and extraction speed of this package and of the alternatives, on the same cores.

``python -m benchmarks`` lists them; ``benchmarks/README.md`` holds the measurements.
"""
