"""Rows: one CSV file of numbers or of text -> its rows, with or without a header, and a note on all that was dropped."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from data_prep.units.table import UnitsError

INDEX = re.compile(
    r"(unnamed: \d+.*|index|)", re.IGNORECASE
)  # what pandas calls a row index that it has written or read
EMPTY = re.compile(r"^(?=,)|(?<=,)(?=,|$)")


def read_numbers(path: Path) -> tuple[np.ndarray, list[str]]:
    """The values [row, column] of a CSV file, and notes.

    The first line is a header if it counts up by one or holds words. Columns whose name says that they are a row index go, since
    rows are often sorted by class and the index then tells the class.
    """
    lines = read_lines(path)
    fields = next(csv.reader(lines[:1]))
    index = [i for i, name in enumerate(fields) if INDEX.fullmatch(name.strip())]
    header = is_header([name for i, name in enumerate(fields) if i not in index], path)
    if not header:
        index = []  # an empty field in a row of data
    values = parse(lines[header:], path)
    notes = [] if header else [f"{path.name} has no header: its first line is a unit"]
    if index:
        dropped = ", ".join(repr(fields[i]) for i in index)
        notes.append(f"{path.name}: column {dropped} is a row index and was dropped")
        values = np.delete(values, index, axis=1)
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        notes.append(f"{path.name}: {int(broken.sum())} rows hold values that are not finite and count as missing")
        values[broken] = np.nan
    return values.astype(np.float32), notes


def read_lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UnitsError(f"there is no file {path}: the folder needs {path.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnitsError(f"{path} cannot be read as text ({error}): give a CSV file") from None
    if not lines:
        raise UnitsError(f"{path} is empty: write its rows, or leave the file out")
    return lines


def is_header(fields: list[str], path: Path) -> bool:
    """Names, or a count such as 0,1,2 or -100.00,-99.00: a header. Other numbers: data."""
    numbers = [number(field) for field in fields]
    known = [x for x in numbers if x is not None]
    counts_up = len(known) > 1 and bool(np.allclose(np.diff(known), 1.0))
    if len(known) == len(fields):
        return counts_up
    if len(known) > len(fields) / 2 and not counts_up:  # a row of data as a header: repeated values are named 0.0.1
        odd = next(field for field, x in zip(fields, numbers, strict=True) if x is None)
        raise UnitsError(
            f"the first line of {path} is a unit that was taken for a header ({odd!r} among numbers): write the file anew "
            f"from the data, with a header of its own"
        )
    return True


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def parse(lines: list[str], path: Path) -> np.ndarray:
    try:
        return np.loadtxt(lines, delimiter=",", ndmin=2, comments=None)
    except ValueError:
        try:  # empty fields are missing values
            return np.loadtxt([EMPTY.sub("nan", line) for line in lines], delimiter=",", ndmin=2, comments=None)
        except ValueError as error:
            raise UnitsError(f"{path} is no table of numbers ({error}): one row a unit, one number a column") from None


def read_texts(path: Path, rows: int) -> dict[str, list[str]]:
    """The columns of a CSV file of text. It has a header if it has one line more than there are units. No row index."""
    lines = list(csv.reader(read_lines(path)))
    if len(lines) not in (rows, rows + 1):
        raise UnitsError(
            f"{path} has {len(lines) - 1} rows (and a header) for {rows} units: one row a unit, in one order"
        )
    widths = {len(line) for line in lines}
    if len(widths) > 1:
        raise UnitsError(f"the rows of {path} have {min(widths)} to {max(widths)} fields: give each the same number")
    names = lines[0] if len(lines) == rows + 1 else [f"column {i}" for i in range(len(lines[0]))]
    columns = zip(*lines[len(lines) - rows :], strict=True)
    return {
        name.strip(): list(column) for name, column in zip(names, columns, strict=True) if not is_index(name, names)
    }


def is_index(name: str, names: list[str]) -> bool:
    return len(names) > 1 and bool(INDEX.fullmatch(name.strip()))
