"""Reading CSV files as text or as numbers, with errors that name the file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from jaxephys.schemas.storage import DataError

EMPTY = ("", "null", "nan", "na", "n/a", "none")


def read_csv_rows(path: str | Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV file as text.

    Parameters
    ----------
    path : str or Path
        File in UTF-8 with a header.

    Returns
    -------
    columns : list of str
        Names of the columns without surrounding blanks.
    rows : list of dict of str to str
        Entries by column, cleaned with :func:`clean_text`. Empty lines are skipped.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, repeats a column, or has a line with another number of entries.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if any(entry.strip() for entry in line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give a CSV file") from None
    if not lines:
        raise DataError(f"{path} is empty: give a CSV file with a header")
    columns = [name.strip() for name in lines[0][1]]
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise DataError(f"{path} has {columns.count(repeated[0])} columns {repeated[0]!r}: keep one")
    for number, line in lines[1:]:
        if len(line) != len(columns):
            raise DataError(f"line {number} of {path} has {len(line)} entries for {len(columns)} columns: correct it")
    return columns, [dict(zip(columns, map(clean_text, line), strict=True)) for _, line in lines[1:]]


def clean_text(text: str) -> str:
    """Remove surrounding blanks, and replace markers of missing entries by "".

    Parameters
    ----------
    text : str
        An entry of a CSV file.

    Returns
    -------
    str
        The text; "" for "NULL", "nan", "N/A" and the like.
    """
    text = text.strip()
    return "" if text.lower() in EMPTY else text


def read_numbers(path: str | Path) -> dict[str, np.ndarray]:
    """Read the columns of a CSV file that hold numbers.

    Parameters
    ----------
    path : str or Path
        File in UTF-8 with a header.

    Returns
    -------
    dict of str to ndarray of float64 of shape (n_rows,)
        Columns by name, NaN where an entry is missing. Columns with an entry that is no number are left out.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    names, rows = read_csv_rows(path)
    columns = {}
    for name in names:
        entries = [row[name] or "nan" for row in rows]
        if all(map(is_number, entries)):
            columns[name] = np.array(entries, float)
    return columns


def is_number(text: str) -> bool:
    """Return whether a text is a number.

    Parameters
    ----------
    text : str
        An entry of a CSV file.

    Returns
    -------
    bool
        True for ``1``, ``-2.5e3``, ``nan`` and the like.
    """
    try:
        float(text)
    except ValueError:
        return False
    return True
