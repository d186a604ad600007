"""Reports link to existing figures and begin with a summary."""

import re

import pytest

from jaxephys.reporting.markdown import Headline, overview_sentence, summary_sentences, write_report
from jaxephys.reporting.plots import draw_bars
from jaxephys.reporting.score_table import summarize
from jaxephys.reporting.tables import model_table
from tests.reporting.example_scores import make_scores


def test_links_of_the_report_exist(tmp_path):
    scores = make_scores()
    png = draw_bars(tmp_path / "a run", scores, "accuracy", name="by variant")
    report = write_report(
        tmp_path / "a run",
        "Interneurons",
        "The model is good.",
        "What was done.",
        {"Scores": model_table(scores, ["accuracy", "ece"])},
        {"Accuracy by variant": png},
        ["One defect is kept."],
    )
    text = report.read_text()
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links == ["figures/by%20variant.png", "figures/by%20variant.csv"]
    assert all((report.parent / link.replace("%20", " ")).is_file() for link in links)
    assert text.startswith("# Interneurons\n\nThe model is good.\n\nWhat was done.\n\n## Scores\n\n| Model |")
    assert text.endswith("## Notes\n\n- One defect is kept.\n")


def test_report_with_a_missing_figure_raises(tmp_path):
    with pytest.raises(ValueError, match=r"lost\.png of the report does not exist"):
        write_report(tmp_path, "t", "s", "i", {}, {"lost": tmp_path / "lost.png"})
    assert not (tmp_path / "report.md").exists()


def test_summary_compares_the_model_with_the_best_baseline():
    scores = make_scores()
    headline = Headline("accuracy", "arcface", ("logistic", "bilstm"), published="0.91")
    text = summary_sentences(scores, headline)
    ours, best = (summarize(scores)[model, "accuracy"] for model in ("arcface", "bilstm"))
    assert f"The model arcface has a test accuracy of {ours.mean:.3f} ± {ours.sd:.3f} (4 seeds x 3 folds)." in text
    assert f"The published value is 0.91. The best baseline, bilstm, has {best.mean:.3f}" in text
    assert f"Difference: {ours.mean - best.mean:+.3f} [" in text and "arcface is better" in text
    lower = summary_sentences(scores, Headline("ece", "logistic", ("bilstm", "arcface"), n_train=400))
    assert "The best baseline, arcface," in lower and "arcface is better" in lower
    with pytest.raises(ValueError, match="no model forest"):
        summary_sentences(scores, Headline("accuracy", "arcface", ("forest",)))


def test_summary_of_one_of_several_test_sets():
    other = [score._replace(test_on="scala", value=0.1) for score in make_scores()]
    headline = Headline("accuracy", "arcface", (), test_on="scala")
    assert summary_sentences([*make_scores(), *other], headline).startswith(
        "The model arcface has a test accuracy of 0.100 ± 0.000 on the test set scala"
    )


def test_overview_counts_models_seeds_and_folds():
    assert overview_sentence(make_scores()) == "The report covers 3 models, 4 seeds and 3 folds."
    assert overview_sentence([]) == ""
