"""Retired words must not return: this project uses the plain terms of ``docs/glossary.md``.

``python -m tests.test_words [FOLDER ...]`` lists every use with its file and line.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("jaxephys", "data_prep", "experiments", "benchmarks", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "experiments/README.md", "docs/*.md")

# Parts of identifiers (between underscores, or between capitals of a class name), in lower case.
IDENTIFIERS = {
    "say",
    "says",
    "said",
    "told",
    "tell",
    "tells",
    "ask",
    "asks",
    "asked",
    "speak",
    "speaks",
    "mine",
    "own",
    "lent",
    "lend",
    "lender",
    "borrow",
    "borrowed",
    "tethered",
    "staircase",
    "stairs",
    "harvest",
    "manner",
    "earned",
    "opponent",
    "opponents",
    "yardstick",
    "ladder",
    "standings",
    "standing",
    "doubts",
    "arm",
    "arms",
    "planted",
    "place",
    "places",
    "outcome",
    "programs",
    "ledger",
    "watcher",
    "watchers",
    "axis0",
    "truths",
    "verbs",
    "lacking",
    "greet",
}
# Words in comments, docstrings, messages and documentation.
PROSE = re.compile(
    r"\b(say|says|said|told|tell|tells|ask|asks|asked|speaks?|stands|foretells?|betters|harvest|lender|lends|lent|borrow\w*|"
    r"tethered|staircase|opponents?|yardsticks?|ladders?|standings|doubts|arms?|planted|manner|judges?)\b",
    re.IGNORECASE,
)
# Legitimate uses.
ALLOWED_PHRASES = re.compile(
    r"stands for|^\"(arm|arms|ladder|asked|arm=\w*)\"$|NAME/arm|level/asked|key ``arm``"
)  # keys of saved files keep their names
SELF = ("tests/test_words.py",)


def words_of(name: str) -> set[str]:
    """Split ``SplitKey`` and ``split_key`` into ``split`` and ``key``."""
    return {word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", part)}


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name that a source defines: modules are files, and are checked apart."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of comments and strings."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def retired_in_text(lines: Iterator[tuple[int, str]] | list[tuple[int, str]]) -> Iterator[str]:
    for number, line in lines:
        for match in PROSE.finditer(ALLOWED_PHRASES.sub("", line)):
            yield f"{number}: {match.group()!r} in {line.strip()[:100]!r}"


def retired_in_code(source: str) -> Iterator[str]:
    for number, name in identifiers(ast.parse(source)):
        if retired := words_of(name) & IDENTIFIERS:
            yield f"{number}: {name} ({', '.join(sorted(retired))})"


def files(folders: tuple[str, ...] = FOLDERS) -> list[str]:
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in paths if str(path.relative_to(ROOT)) not in SELF)


@pytest.mark.parametrize("file", files())
def test_code_uses_no_retired_word(file):
    source = (ROOT / file).read_text()
    found = [*retired_in_code(source), *retired_in_text(prose(source))]
    found += [f"file name: {word}" for word in words_of(Path(file).stem) & IDENTIFIERS]
    assert found == []


def pages() -> list[str]:
    found = {str(path.relative_to(ROOT)) for pattern in PAGES for path in ROOT.glob(pattern)}
    return sorted(found - {"docs/renamed.md"})  # that page lists the old names


@pytest.mark.parametrize("page", pages())
def test_documentation_uses_no_retired_word(page):
    lines = list(enumerate((ROOT / page).read_text().splitlines(), start=1))
    assert list(retired_in_text(lines)) == []


@pytest.mark.parametrize(
    "source", ["def ask_head(): ...", "class Lender: ...", "said = 1", '"""What it says."""', "x = 1  # the opponents"]
)
def test_retired_word_is_found(source):
    assert [*retired_in_code(source), *retired_in_text(prose(source))]


def test_plain_code_is_accepted():
    source = 'def predict(split_key):\n    """Return the probabilities of a split."""\n    placement = 1\n'
    assert [*retired_in_code(source), *retired_in_text(prose(source))] == []


if __name__ == "__main__":
    for file in files(tuple(sys.argv[1:]) or FOLDERS):
        source = (ROOT / file).read_text()
        for line in [*retired_in_code(source), *retired_in_text(prose(source))]:
            print(f"{file}:{line}")
