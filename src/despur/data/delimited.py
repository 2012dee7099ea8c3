"""Reading CSV and TSV files as text, so that no reader guesses what "001", "NA" or "1e5" means."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from despur.errors import DataError


def _header(file: Path, delimiter: str) -> list[str]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines, delimiter=delimiter), [])


def read_delimited(file: Path) -> pa.Table:
    """Every cell as a string, blank ones as ""; ``.tsv`` is separated by tabs, anything else by commas.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or has rows of unequal length.
    """
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        names = _header(file, delimiter)
        if not names:
            raise DataError("it is empty", where=file, now="its first line should name the columns")
        return pyarrow.csv.read_csv(
            file,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=file, now="check the path") from error
    except UnicodeDecodeError as error:
        raise DataError("it is not UTF-8 text", where=file, now="save it as UTF-8") from error
    except (pa.ArrowInvalid, csv.Error) as error:
        raise DataError(f"it does not read as a table ({error})", where=file, now="mend that row") from error
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror})", where=file, now="check the path and who owns it"
        ) from error


def check_columns(file: Path, found: Sequence[str], needed: Sequence[str], *, expected: str, hint: str = "") -> None:
    """Refuse a table that lacks a column.

    Args:
        expected: what the columns should be, for the message.
        hint: a question about what may have happened, for the message.

    Raises:
        DataError: naming the first column that is missing, or one that stands there twice.
    """
    missing = [name for name in needed if name not in found]
    if missing:
        raise DataError(
            f"it has no column {missing[0]!r} (found: {', '.join(found)})",
            where=file,
            now=f"{hint} expected {expected}".lstrip(),
        )
    twice = [name for index, name in enumerate(found) if name in found[:index]]
    if twice:
        raise DataError(f"it has two columns {twice[0]!r}", where=file, now="rename one")
