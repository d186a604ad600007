"""Reports begin with a summary, link to existing figures, and are written twice from one structure."""

import html
import re

import pytest

from jaxephys.reporting.bars import draw_bars
from jaxephys.reporting.headline import Headline, Question, summarize_experiment
from jaxephys.reporting.report import Report, write_report
from jaxephys.reporting.tables import model_table
from tests.reporting.example_scores import make_scores

HEADLINES = [Headline("accuracy", "arcface", [name], label=f"against {name}") for name in ("logistic", "bilstm")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder, scores = tmp_path_factory.mktemp("reports") / "a run", make_scores()
    question = Question("Is attention <needed>?", "Table 4 has 0.91.", "Nobody (2026).")
    report = Report(
        "Interneurons & more",
        summarize_experiment(scores, question, HEADLINES),
        "What was done.",
        {"Scores": model_table(scores, ["accuracy", "ece"])},
        {"Accuracy by variant": draw_bars(folder, scores, "accuracy", name="by variant")},
        ["One defect is kept."],
        alert="SMOKE: nothing follows.",
        settings={"seeds": "4"},
        facts={"Command": "python -m experiments.demo smoke"},
        load=['model = jaxephys.load("runs/demo")'],
        citation=["jaxephys", question.paper],
    )
    page = write_report(folder, report)
    return page.with_suffix(".md").read_text(), page.read_text(), folder


def test_links_of_the_report_exist(written):
    text, _, folder = written
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links == ["figures/by%20variant.png", "figures/by%20variant.csv"]
    assert all((folder / link.replace("%20", " ")).is_file() for link in links)


def test_both_forms_have_the_same_parts_in_order(written):
    text, page, _ = written
    parts = [
        "Is attention <needed>?",
        "SMOKE: nothing",
        "Of 2 comparisons: arcface is better",
        "against bilstm",
        "Table 4 has",
    ]
    parts += ["What was done.", "Accuracy by variant", "Scores", "One defect", "python -m experiments.demo"]
    parts += ['jaxephys.load("runs/demo")', "Nobody (2026)."]
    for content in (text, html.unescape(page.split("</style>")[1])):
        positions = [content.index(part) for part in parts]
        assert positions == sorted(positions), parts
    assert text.startswith(
        "# Interneurons & more\n\n**Question.** Is attention <needed>?\n\n> **SMOKE: nothing follows.**"
    )


def test_the_page_holds_everything_and_requests_nothing(written):
    _, page, _ = written
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sum(source.startswith("data:image/png;base64,") for source in sources) == 1
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "http" not in page and "<script" not in page and "url(" not in page
    assert "Is attention &lt;needed&gt;?" in page and 'name="viewport"' in page and "@media print" in page
    assert set(re.findall(r'href="#(s\d+)"', page)) <= set(re.findall(r'id="(s\d+)"', page))


def test_report_with_a_missing_figure_raises(tmp_path):
    report = Report("t", summarize_experiment([], Question("q"), []), figures={"lost": tmp_path / "lost.png"})
    with pytest.raises(ValueError, match=r"lost\.png of the report does not exist"):
        write_report(tmp_path, report)
    assert not list(tmp_path.iterdir())


def test_a_report_without_comparisons_has_no_empty_sections(tmp_path):
    page = write_report(tmp_path, Report("t", summarize_experiment(make_scores(), Question(""), [])))
    assert (
        page.with_suffix(".md").read_text() == "# t\n\n**Result.** The report covers 3 models, 4 seeds and 3 folds.\n"
    )
    assert "<h2" not in page.read_text() and "tiles" not in page.read_text().split("</style>")[1]
