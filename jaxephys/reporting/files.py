"""Text and CSV files that are replaced at once, so that a reader never sees a partly written file."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxephys.schemas.storage import replace_file


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file by way of a temporary file in the same folder.

    Parameters
    ----------
    path : path-like
        File to create or replace. Missing parent folders are created.
    text : str
        Content, with ``\\n`` line ends.

    Returns
    -------
    Path
        The path of the file.
    """
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a table as a comma-separated file.

    Parameters
    ----------
    path : path-like
        File to create or replace.
    columns : sequence of str
        Names of the columns, written as the first line.
    rows : iterable of sequences
        Values in the order of ``columns``. Floats are written by ``repr``, the shortest text that reads back as the same
        number.

    Returns
    -------
    Path
        The path of the file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([repr(float(x)) if isinstance(x, float | np.floating) else x for x in row])
    return write_text(path, text.getvalue())
