"""Unlabelled transfer: it follows a shift that breaks a classifier, without any label of the target species."""

import numpy as np

from jaxephys.patchseq.unlabelled_transfer import REGULARIZATION, transfer_without_labels

OFFSETS = 2.2 * np.array([[1, 0, 0, 0.5], [-1, 0, 0, 0.5], [0, 1, 0, -0.5], [0, 0, 1, -0.5]])


def draw(shares, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Four Gaussian classes; ``shift`` moves the two first ones together, which scaling each species cannot undo."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(4, size=600, p=shares)
    moved = OFFSETS + shift * np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0.6, 1, 0, 0], [0.6, 1, 0, 0]])
    return moved[codes] + rng.normal(size=(600, 4)), codes


def test_it_follows_a_shift_that_breaks_the_classifier():
    source, codes = draw([0.15, 0.2, 0.4, 0.25], 0)
    for seed in (1, 2, 3):
        target, truth = draw([0.1, 0.55, 0.2, 0.15], seed, shift=2.5)
        result = transfer_without_labels(source, codes, target)
        initial = (result.initial_probability.argmax(axis=1) == truth).mean()
        ours = (result.probability.argmax(axis=1) == truth).mean()
        assert result.converged and ours > initial + 0.1 and ours > 0.75, (initial, ours)


def test_without_a_shift_nothing_is_lost():
    source, codes = draw([0.25] * 4, 0)
    target, truth = draw([0.25] * 4, 1)
    result = transfer_without_labels(source, codes, target)
    assert (result.probability.argmax(axis=1) == truth).mean() > (
        result.initial_probability.argmax(axis=1) == truth
    ).mean() - 0.02
    np.testing.assert_allclose(result.probability.sum(axis=1), 1)


def test_strong_regularization_keeps_the_source_offsets():
    source, codes = draw([0.25] * 4, 0)
    target, _ = draw([0.25] * 4, 1, shift=2.0)
    strong, weak = (
        transfer_without_labels(source, codes, target, regularization=strength).means
        for strength in (1000.0, REGULARIZATION)
    )
    offsets = [class_offsets(source, codes), *(means - means.mean(axis=0) for means in (strong, weak))]
    assert np.abs(offsets[1] - offsets[0]).max() < 0.01 < np.abs(offsets[2] - offsets[0]).max()


def class_offsets(source: np.ndarray, codes: np.ndarray) -> np.ndarray:
    from jaxephys.patchseq.preprocessing import apply_scale, fit_signed_log

    x = np.asarray(apply_scale(source, fit_signed_log(source)), float)
    means = np.stack([x[codes == code].mean(axis=0) for code in range(4)])
    return means - means.mean(axis=0)


def test_missing_values_and_units_of_each_species_are_handled():
    source, codes = draw([0.25] * 4, 0)
    target, truth = draw([0.25] * 4, 1)
    target = target * [1000, 1, 1, 0.01] + [5, 0, -70, 0]
    target[::7, 2] = np.nan
    result = transfer_without_labels(source, codes, target)
    assert np.isfinite(result.probability).all() and (result.probability.argmax(axis=1) == truth).mean() > 0.8
