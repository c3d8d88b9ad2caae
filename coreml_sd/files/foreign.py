"""Files that came from elsewhere, read with limits: regular files only, never more than allowed."""

from __future__ import annotations

import json
import os
import re
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from coreml_sd.errors import UserError
from coreml_sd.files.limits import LIMITS

_DIGITS = 400  # of a whole number: more than the largest float has
_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; a pipe or a device is refused before it is waited for.

    Raises:
        UserError: it is no regular file. OSError: it is missing or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: not a regular file; put the file itself there")
    return os.fdopen(descriptor, "rb")


def require_regular(path: Path) -> Path:
    """The same path, for a library that opens it itself.

    Raises:
        UserError: it is missing, or no regular file.
    """
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(kind):
        raise UserError(f"{path}: not a regular file; put the file itself there")
    return path


def read_bytes(path: Path, most: int = LIMITS.text_bytes) -> bytes:
    """A whole file of at most `most` bytes.

    Raises:
        UserError: it is no regular file, cannot be read, or is larger.
    """
    try:
        with open_regular(path) as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > most:
        raise UserError(f"{path}: larger than {most >> 20} MB, the most that such a file may have")
    return content


def read_text(path: Path) -> str:
    """A text file in UTF-8.

    Raises:
        UserError: as `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def read_json(path: Path, *, any_number: bool = False) -> Any:
    """The value of a JSON file.

    Raises:
        UserError: as `read_text` and `parse_json`; the file is named.
    """
    text = read_text(path)
    try:
        return parse_json(text, any_number=any_number)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_table(path: Path, *, any_number: bool = False) -> dict[str, Any]:
    """The table that a JSON file holds.

    Raises:
        UserError: as `read_json`, or it holds something else.
    """
    value = read_json(path, any_number=any_number)
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a table of keys and values")
    return value


def parse_json(text: str, *, any_number: bool = False) -> Any:
    """A JSON value as every reader understands it alike.

    Args:
        any_number: takes infinities and whole numbers beyond 64 bits, which the libraries write
            into configs of schedulers and tokenizers.

    Raises:
        ValueError: not JSON; a key twice in one table; a number that is not finite or beyond 64
            bits; nested deeper than the limit.
    """
    require_shallow(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_table,
            parse_constant=float if any_number else _not_finite,
            parse_float=float if any_number else _float,
            parse_int=_any_int if any_number else _int,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON file ({error})") from None
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one table")
    return table


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond all numbers")
    return value


def _int(text: str) -> int:
    if len(text) < 21 and -(1 << 63) <= int(text) < 1 << 63:
        return int(text)
    raise ValueError(f"{text[:40]} is beyond 64 bits")


def _any_int(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"{text[:40]} has {len(text)} digits")
    return int(text)


def require_shallow(text: str) -> None:
    """Count a JSON text's brackets before it is parsed.

    Where a library has raised the interpreter's limit, the parser follows them until its stack is
    full, and the process ends.

    Raises:
        ValueError: nested deeper than the limit.
    """
    if text.count("[") + text.count("{") <= LIMITS.nesting:
        return
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > LIMITS.nesting:
            raise ValueError(f"nested deeper than {LIMITS.nesting}")
