"""Files from elsewhere: only regular ones, of limited size, and JSON that reads one way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import (
    open_regular,
    parse_json,
    read_bytes,
    read_json,
    read_table,
    read_text,
    require_regular,
)

TEXTS = [
    ('{"a": 1, "a": 1}', "'a' stands twice"),
    ('[{"b": {"c": 1, "c": 2}}]', "'c' stands twice"),
    ("[Infinity]", "Infinity"),
    ("[-Infinity]", "Infinity"),
    ("[NaN]", "NaN"),
    ("[1e999]", "beyond all numbers"),
    ("[9223372036854775808]", "beyond 64 bits"),
    ("[" + "9" * 5000 + "]", "beyond 64 bits"),
    ("[" * 100 + "]" * 100, "nested"),
    ("[" * 100_000 + "]" * 100_000, "nested"),
    ("[" * 100_000, "nested"),
    ("{", "Expecting"),
]


@pytest.mark.parametrize(("text", "message"), TEXTS)
def test_json_that_readers_may_take_differently_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_nesting_ends_no_process_whatever_the_interpreters_limit_is() -> None:
    """Libraries raise it; the parser then goes on until its stack is full."""
    code = (
        "import sys; sys.setrecursionlimit(10**7)\n"
        "from coreml_sd.files.foreign import parse_json\n"
        "for text in ('[' * 10**6, '{\"a\":' * 10**6):\n"
        "    try: parse_json(text)\n"
        "    except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("nested deeper") == 2


def test_brackets_in_texts_are_no_nesting() -> None:
    value = {"a": "[" * 100, 'b"': ["{" * 100, "\\"], "c": [[]] * 100}
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize("text", ['{"a": [1, -2.5e3, null, true, "x"]}', "9223372036854775807"])
def test_other_json_is_what_the_library_reads(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_a_fault_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"config\.json: not UTF-8"):
        read_text(file)
    file.write_text("{")
    with pytest.raises(UserError, match=r"config\.json: not a JSON file \(Expecting"):
        read_json(file)
    file.write_text("[]")
    with pytest.raises(UserError, match=r"config\.json: not a table"):
        read_table(file)
    with pytest.raises(UserError, match="missing"):
        read_bytes(tmp_path / "none")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for read in (open_regular, require_regular, read_bytes):
        with pytest.raises(UserError, match=r"x\.json: "):
            read(path)


def test_more_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, most=5) == b"12345"
    with pytest.raises(UserError, match="larger"):
        read_bytes(path, most=4)
