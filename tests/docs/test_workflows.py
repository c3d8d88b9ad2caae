"""What the workflows run exists: scripts, subcommands and their flags."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]

from coreml_sd.cli.main import cli

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SWIFT_OPTIONS = ROOT / "swift/Sources/RunCommand/Options.swift"


def workflow(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def commands(content: dict[Any, Any]) -> list[list[str]]:
    """Every command line of every step, as words."""
    steps = [step for job in content["jobs"].values() for step in job["steps"]]
    lines = [line for step in steps for line in step.get("run", "").splitlines() if line.strip()]
    return [shlex.split(line, comments=True) for line in lines]


def after(command: list[str], name: str) -> list[str] | None:
    """The words behind the name of a program, where a command line runs it."""
    programs = [Path(word).name if word.startswith(".venv/") else word for word in command]
    return command[programs.index(name) + 1 :] if name in programs else None


def flags(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("-")}


def unknown(words: list[str]) -> set[str]:
    """Subcommands and flags that `coreml-sd` does not have."""
    context = click.Context(cli)
    command = cli.get_command(context, words[0])
    if command is None:
        return {words[0]}
    known = {name for parameter in command.params for name in parameter.opts}
    return flags(words) - known


def unknown_to_swift(words: list[str]) -> set[str]:
    known = set(re.findall(r'"(--?[a-z-]+)"', SWIFT_OPTIONS.read_text(encoding="utf-8")))
    return flags(words) - known


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_subcommand_and_flag_exists(path: Path) -> None:
    calls = [words for line in commands(workflow(path)) if (words := after(line, "coreml-sd"))]
    assert [found for words in calls if (found := unknown(words))] == []


def test_the_mac_converts_draws_and_compares() -> None:
    lines = commands(workflow(ROOT / ".github/workflows/macos.yml"))
    used = [words[0] for line in lines if (words := after(line, "coreml-sd"))]
    assert used == ["convert", "generate", "parity"]
    parity = next(
        words for line in lines if (words := after(line, "coreml-sd")) and words[0] == "parity"
    )
    assert parity[parity.index("--runtime") + 1] == "coreml"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_flag_of_the_swift_command_exists(path: Path) -> None:
    if not SWIFT_OPTIONS.exists():
        pytest.skip("coreml-sd-run has no options yet")
    calls = [words for line in commands(workflow(path)) if (words := after(line, "coreml-sd-run"))]
    assert [found for words in calls if (found := unknown_to_swift(words))] == []
    assert not calls or unknown_to_swift(["a zebra", "--no-such-flag"]) == {"--no-such-flag"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_script_and_product_exists(path: Path) -> None:
    lines = commands(workflow(path))
    scripts = {word for line in lines for word in line if word.startswith("scripts/")}
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    schemes = {line[line.index("-scheme") + 1] for line in lines if "-scheme" in line}
    package = (ROOT / "Package.swift").read_text(encoding="utf-8")
    assert schemes <= set(re.findall(r'\.library\(name: "(\w+)"', package))


def absent(line: list[str]) -> set[str]:
    """Folders and files of tests that a command line names and that are not there."""
    return {word for word in line if word.startswith("tests/") and not (ROOT / word).exists()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(path: Path) -> None:
    assert [found for line in commands(workflow(path)) if (found := absent(line))] == []
    assert absent(shlex.split("pytest -q tests/docs tests/dosc")) == {"tests/dosc"}


def test_linux_checks_tests_and_tries_both_ends_of_the_versions() -> None:
    jobs = workflow(ROOT / ".github/workflows/linux.yml")["jobs"]
    lines = {name: commands({"jobs": {name: job}}) for name, job in jobs.items()}
    assert lines["check"] == [["scripts/check"]] and lines["test"] == [["scripts/test"]]
    assert jobs["versions"]["strategy"]["matrix"]["resolution"] == ["lowest-direct", "highest"]
    (installed,) = [line for line in lines["versions"] if "--resolution" in line]
    assert "constraints.txt" not in installed
    used = [words[0] for line in lines["versions"] if (words := line[:1])]
    assert {".venv/bin/pytest", ".venv/bin/coreml-sd"} <= set(used)


def test_linux_runs_the_oldest_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    jobs = workflow(ROOT / ".github/workflows/linux.yml")["jobs"].values()
    versions = {
        step["with"]["python-version"]
        for job in jobs
        for step in job["steps"]
        if "setup-python" in step.get("uses", "")
    }
    assert versions == {project["requires-python"].removeprefix(">=")}


def test_pictures_and_reports_that_are_kept_are_written() -> None:
    content = workflow(ROOT / ".github/workflows/macos.yml")
    words = {word for line in commands(content) for word in line}
    kept = [
        name
        for job in content["jobs"].values()
        for step in job["steps"]
        if "upload-artifact" in step.get("uses", "")
        for name in step["with"]["path"].split()
    ]
    assert kept and set(kept) <= words


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("coreml-sd convert --palletize 6", {"--palletize"}),
        ("coreml-sd compare demo.bundle", {"compare"}),
        ("coreml-sd parity --runtime=coreml --jsn x", {"--jsn"}),
        ("coreml-sd convert -o demo.bundle", set()),
    ],
)
def test_a_misspelt_word_is_found(line: str, found: set[str]) -> None:
    assert unknown(shlex.split(line)[1:]) == found
