"""Reading, writing and averaging of the score table."""

import numpy as np
import pytest

from jaxephys.evaluation.scores import SCORE_COLUMNS
from jaxephys.reporting.score_table import read_scores, summarize, write_scores
from jaxephys.reporting.tables import model_table
from tests.reporting.example_scores import make_score, make_scores


def test_round_trip_of_scores_is_exact(tmp_path):
    rng = np.random.default_rng(1)
    scores = [*make_scores(), make_score(seed=9, value=np.nan, n=np.int64(7))]
    first = write_scores(tmp_path / "a" / "scores.csv", scores)
    shuffled = [scores[i] for i in rng.permutation(len(scores))]
    second = write_scores(tmp_path / "b.csv", shuffled)
    third = write_scores(tmp_path / "c.csv", read_scores(first))
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.csv", "c.csv"]


def test_values_of_any_number_type_are_written_exactly(tmp_path):
    values = [1 / 3, np.float64(0.1) + 0.2, np.float32(0.1), 1]
    rows = [make_score(seed=seed, value=value) for seed, value in enumerate(values)]
    read = read_scores(write_scores(tmp_path / "scores.csv", rows))
    assert [score.value for score in read] == [float(value) for value in values]
    assert {type(score.value) for score in read} == {float}


def test_rows_are_sorted_by_number(tmp_path):
    rows = [make_score(v, seed, fold) for v in "ba" for seed in (10, 2) for fold in (1, 0)]
    read = read_scores(write_scores(tmp_path / "scores.csv", rows))
    order = [(score.variant, score.seed, score.fold) for score in read]
    assert order == [(v, seed, fold) for v in "ab" for seed in (2, 10) for fold in (0, 1)]


def test_missing_columns_raise(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("variant,seed,value\nbilstm,0,0.5\n")
    with pytest.raises(ValueError, match="lacks the columns experiment, train_on, test_on, fold"):
        read_scores(path)


def test_invalid_value_is_named_with_its_line(tmp_path):
    path = write_scores(tmp_path / "scores.csv", [make_score(value=0.5)])
    path.write_text(path.read_text().replace("0.5", "good"))
    with pytest.raises(ValueError, match="line 2: value is 'good', which is not of type float"):
        read_scores(path)


def test_columns_of_scores_csv():
    names = "experiment variant train_on test_on seed fold split metric value n"
    assert tuple(names.split()) == SCORE_COLUMNS


def test_sd_is_over_seeds_after_the_mean_over_folds():
    values = np.array([[0.70, 0.90], [0.72, 0.94], [0.71, 0.86]])  # seed, fold
    scores = [make_score(seed=s, fold=f, value=v) for (s, f), v in np.ndenumerate(values)]
    summary = summarize(scores)["bilstm", "accuracy"]
    per_seed = np.array([0.80, 0.83, 0.785])
    np.testing.assert_allclose(summary.mean, per_seed.sum() / 3)
    deviations = per_seed - per_seed.sum() / 3
    np.testing.assert_allclose(summary.sd, np.sqrt((deviations**2).sum() / 2))
    assert summary.sd < 0.5 * values.std(ddof=1), "folds do not widen it"
    assert (summary.n_seeds, summary.n_folds, summary.n_missing) == (3, 2, 0)


def test_one_seed_has_no_sd():
    scores = [make_score(fold=fold, value=0.1 * fold) for fold in range(5)]
    summary = summarize(scores)["bilstm", "accuracy"]
    assert summary.mean == pytest.approx(0.2) and np.isnan(summary.sd)
    shown = model_table(scores, ["accuracy"])
    assert shown.columns["Accuracy"][0].text == "0.200"
    assert shown.notes[0] == "Mean of one seed; the value of a seed is the mean of its 5 folds."


def test_diverged_run_is_left_out_and_reported():
    values = [0.5, 0.7, np.nan]
    scores = [make_score(seed=seed, value=value) for seed, value in enumerate(values)]
    assert summarize(scores)["bilstm", "accuracy"][:] == pytest.approx((0.6, np.std([0.5, 0.7], ddof=1), 2, 1, 1))
    note = "bilstm: 1 run without a finite accuracy is left out of the mean."
    assert note in model_table(scores, ["accuracy"]).notes


def test_two_data_sets_are_not_averaged():
    scores = [make_score(), make_score()._replace(test_on="scala")]
    with pytest.raises(ValueError, match="two values for seed 0, fold 0"):
        summarize(scores)
    assert len(summarize(scores, by=("variant", "metric", "test_on"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "tset"}, r"no split tset; there are \['test', 'train'\]"),
        ({"by": ("model",)}, "no column model"),
    ],
)
def test_unknown_names_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        summarize(make_scores(), **arguments)
