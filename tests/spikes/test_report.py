"""Texts and arrangements of the reports."""

import numpy as np

from jaxephys.spikes.report.transfer import paired_difference


def test_paired_differences_have_a_p_value():
    a = np.array([0.5, 0.6, 0.7, 0.9])
    assert paired_difference(a, a - [0.1, 0.12, 0.09, 0.11]) == "+0.105, p = 0.00051"
    assert paired_difference(a[:2], a[:2] - 0.1) == "+0.100"
    assert paired_difference(a, a) == "+0.000"
