"""PyTorch baselines: the published models as their users would train them. They need PyTorch: pip install "jaxephys[bench]"."""
