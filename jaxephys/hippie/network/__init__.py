"""Flax modules of HIPPIE: ``cvae.py`` is the whole network, ``resnet1d.py`` and ``dense.py`` are its encoders and decoders."""
