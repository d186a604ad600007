"""The map of recordings against points whose distances are known."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from jaxephys.spikes.layout import (
    METHODS,
    distances,
    find_substitutes,
    make_layout,
    predictability,
    similarities,
    source_quality,
)
from jaxephys.spikes.report.layout import method_table

RNG = np.random.default_rng(1)
POINTS = RNG.normal(size=(7, 3)) * 0.3
GRID = 1 / (1 + squareform(pdist(POINTS)))  # so that d is the distance between the points


def test_distances_by_hand():
    grid = np.array([[0.9, 0.7], [0.3, 0.8]])
    np.testing.assert_allclose(similarities(grid), [[0.9, 0.5], [0.5, 0.8]])
    np.testing.assert_allclose(distances(grid), [[0, 1], [1, 0]])


def test_known_points_are_recovered():
    found = make_layout(GRID, restarts=8)
    np.testing.assert_allclose(pdist(found.points), pdist(POINTS), atol=1e-3)
    assert found.stress[0] < 1e-6 and found.relative_stress < 1e-3
    assert found.disparity[0] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(found.stress) >= 0)


def test_stress_is_the_sum_over_pairs():
    flat = make_layout(GRID, dimensions=1, restarts=4)
    assert flat.stress[0] == pytest.approx(((pdist(flat.points) - pdist(POINTS)) ** 2).sum())
    assert flat.stress[0] > 0.01, "seven points of space do not fit a line"
    assert flat.disparity.max() > 1e-3, "on a line, random starts end in different local minima"


def test_the_same_seed_gives_the_same_map_and_another_seed_the_same_points():
    first, again, other = (make_layout(GRID, restarts=8, seed=seed) for seed in (0, 0, 5))
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_allclose(first.points, other.points, atol=5e-3)


def test_gradient_descent_reaches_the_same_map_from_the_same_starts():
    smacof, descent = (make_layout(GRID, restarts=8, method=method) for method in ("smacof", "gradient_descent"))
    np.testing.assert_allclose(pdist(descent.points), pdist(POINTS), atol=1e-3)
    np.testing.assert_allclose(descent.points, smacof.points, atol=5e-3)
    flat = {method: make_layout(GRID, 1, 4, method=method).stress for method in METHODS}
    assert flat["gradient_descent"][0] == pytest.approx(flat["smacof"][0], rel=1e-3)


def test_methods_are_compared_in_a_table():
    layouts = {method: make_layout(GRID, restarts=4, method=method) for method in METHODS}
    columns = method_table(layouts, "gradient_descent").columns
    assert [cell.text for cell in columns["method"]] == ["smacof", "gradient descent"]
    assert columns["disparity from the drawn map"][1].text == "0.0000"
    found = int((layouts["smacof"].disparity < 0.01).sum())
    assert columns["starts that found this map"][0].text == f"{found} of 4"


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'newton' is unknown: choose one of smacof, gradient_descent"):
        make_layout(GRID, method="newton")


def test_quality_and_predictability_leave_out_the_diagonal():
    grid = np.array([[1.0, 0.6, 0.8], [0.5, 1, 0.9], [0.3, 0.7, 1]])
    np.testing.assert_allclose(source_quality(grid), [0.7, 0.7, 0.5])
    np.testing.assert_allclose(predictability(grid), [0.4, 0.65, 0.85])


def test_substitutes_are_the_nearest_with_their_score_on_the_recording():
    grid = np.array([[1.0, 0.6, 0.8], [0.5, 1, 0.9], [0.3, 0.7, 1]])
    found = find_substitutes(grid, ["a", "b", "c"], 2)
    assert found["a"] == [("b", 0.55, 0.5), ("c", 0.55, 0.3)]
    assert found["c"][0] == ("b", pytest.approx(0.8), 0.9)
    assert len(find_substitutes(grid, ["a", "b", "c"], 9)["a"]) == 2


@pytest.mark.parametrize("score", [np.nan, 0.0, 1.2])
def test_an_invalid_score_is_named(score):
    grid = GRID.copy()
    grid[2, 4] = score
    with pytest.raises(ValueError, match=r"recording 2 on 4 is"):
        distances(grid)


def test_a_map_needs_a_square_grid_of_three_recordings():
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        similarities(np.ones((3, 2)))
    with pytest.raises(ValueError, match="not 2"):
        make_layout(GRID[:2, :2])
