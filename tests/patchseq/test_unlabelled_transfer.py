"""Classes carried over: a shift that breaks a classifier is followed, and no label of the new species is looked at."""

import numpy as np

from jaxephys.patchseq.unlabelled_transfer import TETHER, carry_over

OFFSETS = 2.2 * np.array([[1, 0, 0, 0.5], [-1, 0, 0, 0.5], [0, 1, 0, -0.5], [0, 0, 1, -0.5]])


def draw(shares, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Four Gaussian classes; ``shift`` moves the two first ones together, which own scaling cannot take back."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, size=600, p=shares)
    moved = OFFSETS + shift * np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0.6, 1, 0, 0], [0.6, 1, 0, 0]])
    return moved[codes] + rng.normal(size=(600, 4)), codes


def test_it_follows_a_shift_that_breaks_the_classifier():
    known, codes = draw([0.15, 0.2, 0.4, 0.25], 0)
    for seed in (1, 2, 3):
        new, truth = draw([0.1, 0.55, 0.2, 0.15], seed, shift=2.5)
        found = carry_over(known, codes, new)
        start = (found.start.argmax(axis=1) == truth).mean()
        ours = (found.probability.argmax(axis=1) == truth).mean()
        assert found.settled and ours > start + 0.1 and ours > 0.75, (start, ours)


def test_without_a_shift_nothing_is_lost():
    known, codes = draw([0.25] * 4, 0)
    new, truth = draw([0.25] * 4, 1)
    found = carry_over(known, codes, new)
    assert (found.probability.argmax(axis=1) == truth).mean() > (found.start.argmax(axis=1) == truth).mean() - 0.02
    np.testing.assert_allclose(found.probability.sum(axis=1), 1)


def test_a_strong_tether_keeps_the_known_offsets():
    known, codes = draw([0.25] * 4, 0)
    new, _ = draw([0.25] * 4, 1, shift=2.0)
    tight, loose = (carry_over(known, codes, new, tether=tether).means for tether in (1000.0, TETHER))
    own = [known_offsets(known, codes), *(means - means.mean(axis=0) for means in (tight, loose))]
    assert np.abs(own[1] - own[0]).max() < 0.01 < np.abs(own[2] - own[0]).max()


def known_offsets(known: np.ndarray, codes: np.ndarray) -> np.ndarray:
    from jaxephys.patchseq.preprocessing import fit_signed_log, scaled

    x = np.asarray(scaled(known, fit_signed_log(known)), float)
    means = np.stack([x[codes == code].mean(axis=0) for code in range(4)])
    return means - means.mean(axis=0)


def test_missing_values_are_no_obstacle_and_each_species_has_its_own_units():
    known, codes = draw([0.25] * 4, 0)
    new, truth = draw([0.25] * 4, 1)
    new = new * [1000, 1, 1, 0.01] + [5, 0, -70, 0]
    new[::7, 2] = np.nan
    found = carry_over(known, codes, new)
    assert np.isfinite(found.probability).all() and (found.probability.argmax(axis=1) == truth).mean() > 0.8
