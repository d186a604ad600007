"""``docs/papers.md`` is true: its names import, its commands exist with their options, and its counts are right.

``python -m tests.test_papers`` writes the counts into the page.
"""

import ast
import importlib
import inspect
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments.__main__ import list_experiments
from experiments.command_line import parse

PAGE = Path(__file__).parents[1] / "docs" / "papers.md"
STATUSES = ("faithful", "deviates", "not done")
HEADER = "| Item as described | Code | Preset and command | Status |"
COUNTS = re.compile(r"\d+ items: \d+ faithful, \d+ deviate, \d+ not done\.")
MIN_REASON = 15  # characters
NONE = "-"


class Item(NamedTuple):
    """A row of the page."""

    text: str
    code: str
    command: str
    status: str

    @property
    def kind(self) -> str:
        """The status without its reason."""
        return self.status.partition(":")[0]


def sections(text: str) -> list[str]:
    """Return the introduction, and the text of each section."""
    return re.split(r"(?m)^(?=## )", text)


def items(text: str) -> list[Item]:
    """Return the rows of all tables of a text."""
    lines = [line for line in text.splitlines() if line.startswith("|") and line != HEADER and set(line) != set("|-")]
    return [Item(*(cell.strip() for cell in line.strip("|").split(" | "))) for line in lines]


def count(rows: Iterable[Item]) -> str:
    """Return the sentence that counts the statuses of rows."""
    kinds = Counter(row.kind for row in rows)
    faithful, deviating, missing = (kinds[status] for status in STATUSES)
    return f"{kinds.total()} items: {faithful} faithful, {deviating} deviate, {missing} not done."


def with_counts(text: str) -> str:
    """Return the page with the counts of its rows: all in the introduction, and those of each section."""
    introduction, *parts = sections(text)
    parts = [COUNTS.sub(count(items(part)), part, count=1) for part in parts]
    return "".join([COUNTS.sub(count(items(text)), introduction, count=1), *parts])


def spans(cell: str) -> list[str]:
    """Return what is in backticks."""
    return re.findall(r"`([^`]*)`", cell)


def resolve(name: str) -> Any:
    """Import the module that a name begins with, and return its attribute."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = ".".join(parts[:end])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # a library is missing, not this module
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(f"there is no module {parts[0]}")


def check_call(text: str) -> None:
    """Check that a call in Python names a function and its arguments."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call), "neither a command nor a call"
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    inspect.signature(resolve(ast.unparse(call.func))).bind(*call.args, **keywords)


def check_experiment(name: str, arguments: list[str]) -> None:
    """Check that an experiment, its preset and its options exist, and that the values are possible."""
    assert name in list_experiments(), f"there is no experiment {name}"
    presets = importlib.import_module(f"experiments.{name}").PRESETS
    if "--resume" in arguments:
        with pytest.raises(ValueError, match="is not a run folder"):
            parse(name, "", presets, arguments)
    else:
        parse(name, "", presets, arguments)


@pytest.fixture
def check_command(capsys, monkeypatch) -> Callable[[str], None]:
    """Return a function that checks a command line."""
    monkeypatch.setenv("COLUMNS", "200")

    @cache
    def help_text(module: str, *words: str) -> str:
        main = importlib.import_module(module).main
        monkeypatch.setattr(sys, "argv", [module])
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--help"])
        assert not stopped.value.code, f"there is no command {' '.join(words)}"
        return capsys.readouterr().out

    def check(command: str) -> None:
        program, *words = shlex.split(command)[2:]
        if program.startswith("experiments."):
            return check_experiment(program.removeprefix("experiments."), words)
        module, depth = {
            "data_prep": ("data_prep.__main__", 2),
            "jaxephys": ("jaxephys.cli", 1),
            "benchmarks": ("benchmarks.__main__", 2),
        }[program]
        if program == "data_prep":  # its help is printed for an unknown command, too
            assert words[1] in importlib.import_module(f"data_prep.{words[0]}.cli").COMMANDS
        names = list(takewhile(lambda word: not word.startswith("--"), words[:depth]))
        known = set(re.findall(r"--[\w-]+", help_text(module, *names)))
        unknown = {word for word in words if word.startswith("--")} - known
        assert not unknown, f"unknown options {', '.join(sorted(unknown))}"
        return None

    return check


def failures(check: Callable[[str], Any], texts: Iterable[str]) -> dict[str, str]:
    """Return the error of each text that fails a check."""
    failed = {}
    for text in dict.fromkeys(texts):
        try:
            check(text)
        except (Exception, SystemExit) as error:  # tyro exits where a value is impossible
            failed[text] = f"{type(error).__name__}: {error}"
    return failed


ROWS = items(PAGE.read_text())


def test_every_row_has_a_status_and_its_reason():
    assert len(ROWS) > 130
    for row in ROWS:
        kind, _, reason = row.status.partition(": ")
        assert kind in STATUSES, row
        assert (kind == "faithful" and not reason) or len(reason) >= MIN_REASON, row


def test_only_what_is_not_done_has_no_code():
    for row in ROWS:
        assert spans(row.code) if row.code != NONE else row.kind == "not done", row
        assert spans(row.command) if row.command != NONE else row.kind == "not done", row


def test_rows_are_different():
    assert [text for text, times in Counter((row.text, row.command) for row in ROWS).items() if times > 1] == []


def test_counts():
    text = PAGE.read_text()
    assert all(COUNTS.search(section) for section in sections(text))
    assert text == with_counts(text), "run python -m tests.test_papers"


def test_names_are_importable():
    assert failures(resolve, (name for row in ROWS for name in spans(row.code))) == {}


def test_commands_exist(check_command):
    commands = (text for row in ROWS for text in spans(row.command) if text.startswith("python -m "))
    assert failures(check_command, commands) == {}


def test_calls_exist():
    calls = (text for row in ROWS for text in spans(row.command) if not text.startswith("python -m "))
    assert failures(check_call, calls) == {}


@pytest.mark.parametrize(
    "command",
    [
        "python -m experiments.patchseq_elephant",
        "python -m experiments.patchseq_mouse publisht",
        "python -m experiments.patchseq_mouse --trees 5",
        "python -m experiments.hippie_probe --trunk sparse",
        "python -m data_prep patchseq extract A B --presets paper",
        "python -m data_prep patchseq extrakt A B",
        "python -m jaxephys embed A B --tech 0",
        "python -m benchmarks run no_benchmark",
        "python -m benchmarks accelerator --case patchseq",
    ],
)
def test_unknown_command_is_found(check_command, command):
    assert failures(check_command, [command])


@pytest.mark.parametrize("name", ["jaxephys.patchseq.nothing", "jaxephys.hippie.task.Nothing", "nothing"])
def test_unknown_name_is_found(name):
    assert failures(resolve, [name])


@pytest.mark.parametrize("call", ["jaxephys.Hippie(depth=3)", "jaxephys.Hipie()", "jaxephys.Hippie"])
def test_unknown_call_is_found(call):
    assert failures(check_call, [call])


if __name__ == "__main__":
    PAGE.write_text(with_counts(PAGE.read_text()))
