"""The list of mutations fits the code; killed, survived and broken ones are told apart."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from scripts.mutations.__main__ import chosen, table, try_all
from scripts.mutations.entries import Mutation, read_lists
from scripts.mutations.verdict import BROKEN, KILLED, SURVIVED

ROOT = Path(__file__).parents[2]
MUTATIONS = read_lists()
ROOMS = (
    "bundle",
    "compress",
    "conversion",
    "generation",
    "parity",
    "runtimes",
    "targets",
    "upstream",
)


def test_every_room_has_its_list() -> None:
    assert tuple(dict.fromkeys(each.room for each in MUTATIONS)) == ROOMS
    assert len(MUTATIONS) >= 60
    names = Counter((each.room, each.name) for each in MUTATIONS)
    assert names.most_common(1)[0][1] == 1


def test_every_entry_changes_one_line_that_is_there() -> None:
    assert [
        f"{each.room}/{each.name}: {told}" for each in MUTATIONS if (told := each.fault(ROOT))
    ] == []
    assert all(each.file.startswith("coreml_sd/") for each in MUTATIONS)


def is_there(killer: str) -> bool:
    """Whether a file of tests has the function, the class or the method that an id names."""
    file, *inner = killer.split("::")
    body = ast.parse((ROOT / file).read_text("utf-8")).body
    for part in inner:
        name = part.partition("[")[0]
        found = [each for each in body if getattr(each, "name", "") == name]
        if len(found) != 1:
            return False
        body = getattr(found[0], "body", [])
    return bool(inner)


def test_every_killer_is_a_test() -> None:
    killers = {killer for each in MUTATIONS for killer in each.killers}
    assert [killer for killer in sorted(killers) if not is_there(killer)] == []
    assert is_there("tests/scripts/test_mutations.py::test_every_killer_is_a_test")
    assert not is_there("tests/scripts/test_mutations.py::test_that_nobody_wrote")


def test_some_are_chosen_by_name_or_room() -> None:
    assert chosen(MUTATIONS, None) == MUTATIONS
    assert [each.name for each in chosen(MUTATIONS, ["--seed ignored"])] == ["--seed ignored"]
    assert {each.room for each in chosen(MUTATIONS, ["parity/*", "bundle/*"])} == {
        "parity",
        "bundle",
    }
    assert chosen(MUTATIONS, ["nothing of this name"]) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout of one module and its tests."""
    files = {
        "small.py": "def larger(a, b):\n    return a if a > b else b\n\n\ndef f():\n    return 1\n",
        "tests/test_small.py": textwrap.dedent(
            """
            import subprocess, sys
            import pytest
            import small

            def test_larger():
                assert small.larger(1, 2) == 2

            def test_in_a_process():
                command = [sys.executable, "-c", "import small; print(small.larger(1, 2))"]
                assert subprocess.run(command, capture_output=True, text=True).stdout == "2\\n"

            @pytest.fixture
            def three():
                return small.larger(1, 3)

            def test_three(three):
                assert three == 3

            def test_nothing():
                pass
            """
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def mutation(name: str, find: str, replace: str, test: str) -> Mutation:
    return Mutation("small", name, "small.py", find, replace, (f"tests/test_small.py::{test}",))


def test_killed_survived_and_broken_are_told_apart(project: Path) -> None:
    intact = (project / "small.py").read_text()
    entries = {
        mutation("killed", "a > b", "a < b", "test_larger"): KILLED,
        mutation("killed in a process", "a > b", "a < b", "test_in_a_process"): KILLED,
        mutation("not faced", "a > b", "a < b", "test_nothing"): SURVIVED,
        mutation("not tested", "return 1", "return 2", "test_larger"): SURVIVED,
        mutation("no Python", "return a if", "return a iff", "test_larger"): BROKEN,
        mutation("an unknown name", "a > b", "a > c", "test_larger"): BROKEN,
        mutation("a fixture fails", "a > b", "a / 0", "test_three"): BROKEN,
        mutation("no such text", "a >= b", "a < b", "test_larger"): BROKEN,
        mutation("twice", "return", "yield", "test_larger"): BROKEN,
    }
    found = try_all(project, list(entries), libraries=())
    assert {each.name: verdict.kind for each, verdict in found.items()} == {
        each.name: kind for each, kind in entries.items()
    }
    told = table(found)
    assert "2 of   9 killed" in told and "survived: small/not faced" in told
    assert (project / "small.py").read_text() == intact


def test_tests_that_fail_anyway_prove_nothing(project: Path) -> None:
    (project / "tests/test_small.py").write_text("def test_larger():\n    assert False\n")
    with pytest.raises(SystemExit, match="fail without any mutation"):
        try_all(project, [mutation("killed", "a > b", "a < b", "test_larger")], libraries=())


def test_the_command_lists_and_refuses() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scripts.mutations", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    listed = run("--list", "--only", "--seed ignored")
    assert listed.returncode == 0
    assert listed.stdout.startswith("generation/--seed ignored  coreml_sd/cli/generate.py: ")
    refused = run("--only", "nothing of this name")
    assert refused.returncode == 2 and "no mutation is named nothing of this name" in refused.stderr
