"""The main result: comparisons with the best baseline, their intervals, and the verdict."""

import json

import numpy as np
import pytest

from jaxephys.evaluation.intervals import Interval
from jaxephys.reporting.headline import (
    BETTER,
    TOO_FEW,
    UNCLEAR,
    WORSE,
    Headline,
    Question,
    overview_sentence,
    summarize_experiment,
    summarize_headline,
    training_size,
    verdict_sentence,
)
from jaxephys.reporting.pairs import pair_interval
from jaxephys.reporting.score_table import summarize
from tests.reporting.example_scores import make_score, make_scores

QUESTION = Question("Which model is best?", "Table 1 has 0.91.", "Nobody (2026).")


def test_a_model_is_compared_with_the_best_baseline():
    scores = make_scores()
    row = summarize_headline(scores, Headline("accuracy", "arcface", ("logistic", "bilstm"), published="0.91"))
    ours, best = (summarize(scores)[model, "accuracy"] for model in ("arcface", "bilstm"))
    assert (row.model, row.baseline, row.published, row.result) == ("arcface", "bilstm", "0.91", BETTER)
    assert row.difference.startswith(f"{ours.mean - best.mean:+.3f} [") and row.n_paired == 12
    expected = f"The model arcface has a test accuracy of {ours.mean:.3f} ± {ours.sd:.3f} (4 seeds x 3 folds, n = 100)."
    assert row.sentences.startswith(
        f"{expected} The published value is 0.91. The best baseline, bilstm, has {best.mean:.3f}"
    )
    assert row.sentences.endswith("(95 % interval), arcface is better.")
    lower = summarize_headline(scores, Headline("ece", "logistic", ("bilstm", "arcface"), n_train=400))
    assert (lower.baseline, lower.result) == ("arcface", WORSE), "a lower calibration error is better"
    with pytest.raises(ValueError, match="no model forest"):
        summarize_headline(scores, Headline("accuracy", "arcface", ("forest",)))


def test_scores_of_one_of_several_test_sets_are_compared():
    other = [score._replace(test_on="scala", value=0.1) for score in make_scores()]
    row = summarize_headline([*make_scores(), *other], Headline("accuracy", "arcface", (), test_on="scala"))
    assert row.score == "0.100 ± 0.000" and row.label == "the test set scala" and row.result == ""


def test_a_single_run_has_the_interval_over_time_blocks_or_none():
    scores = [make_score(name, value=value) for name, value in (("network", 0.8), ("rate", 0.7))]
    headline = Headline("accuracy", "network", ["rate"])
    assert summarize_headline(scores, headline).result == TOO_FEW
    key = ("gouwens", "gouwens", "network - rate", "accuracy")
    for low, result in ((0.05, BETTER), (-0.05, UNCLEAR)):
        row = summarize_headline(scores, headline, {key: Interval(0.1, low, 0.2)})
        assert (row.result, row.difference) == (result, f"+0.100 [{low:+.3f}, +0.200]")


def test_means_over_pairs_have_an_interval_over_data_sets():
    pairs = [(a, b) for a in "xyz" for b in "xyz" if a != b]
    scores = [
        make_score(name, seed, value=value + 0.01 * seed)._replace(train_on=a, test_on=b)
        for a, b in pairs
        for name, value, seeds in (("network", 0.8, 2), ("rate", 0.7, 1))
        for seed in range(seeds)
    ]
    row = summarize_headline(scores, Headline("accuracy", "network", ["rate"], label="others", pairs=pairs))
    assert (row.runs, row.score, row.result) == ("6 pairs x 2 seeds", "0.805 ± 0.000", BETTER)
    few = summarize_headline(scores, Headline("accuracy", "network", ["rate"], pairs=pairs[:2]))
    assert few.result == TOO_FEW, "two test sets"
    assert pair_interval({("a", "b"): 1.0, ("a", "c"): 0.0}) is None


def test_the_verdict_counts_the_outcomes_of_several_comparisons():
    scores = make_scores()
    headlines = [Headline("accuracy", "arcface", [name], n_train=400) for name in ("logistic", "bilstm")]
    summary = summarize_experiment(scores, QUESTION, headlines)
    assert summary.verdict == "Of 2 comparisons: arcface is better than the best baseline in 2."
    worse = summarize_experiment(scores, QUESTION, [Headline("accuracy", "logistic", ["arcface"])])
    assert worse.verdict.startswith("arcface is better than logistic in accuracy: difference -0.0")
    assert verdict_sentence([]) == "" and summarize_experiment(scores, QUESTION, []).verdict == overview_sentence(
        scores
    )
    stored = json.loads(json.dumps(summary.to_json()))
    assert stored["question"] == QUESTION.text and stored["rows"][0]["n_train"] == 400


def test_few_runs_are_a_warning():
    headline = Headline("accuracy", "arcface", ["logistic"])
    few = summarize_experiment(make_scores(seeds=2, folds=1), QUESTION, [headline])
    assert few.warnings == ["An interval comes from 2 paired runs only: it is not reliable below 5."]
    assert not summarize_experiment(make_scores(), QUESTION, [headline]).warnings


def test_the_number_of_training_rows_is_that_of_the_other_folds():
    scores = [score for score in make_scores() if score.metric == "ece"]
    assert training_size(scores, "test", None) == 200 and training_size(scores, "test", 7) == 7
    assert training_size(make_scores(), "test", None) == 400, "the rows of the split train"
    assert training_size([score for score in scores if score.fold == 0], "test", None) is None


def test_overview_counts_models_seeds_and_folds():
    assert overview_sentence(make_scores()) == "The report covers 3 models, 4 seeds and 3 folds."
    assert overview_sentence([]) == ""


def test_the_interval_of_equal_values_is_their_value():
    found = pair_interval({(a, b): 0.25 for a in "abc" for b in "def"})
    assert found is not None and np.allclose(found, 0.25)
