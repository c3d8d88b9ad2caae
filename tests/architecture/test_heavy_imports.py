"""Nothing heavy is loaded before a command needs it."""

import os
import subprocess
import sys

HEAVY = ("torch", "coremltools", "diffusers", "transformers", "numba", "numpy")


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import coreml_sd") == set()


def test_the_command_and_its_help_load_nothing_heavy() -> None:
    code = (
        "from click.testing import CliRunner; from coreml_sd.cli.main import cli;"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0;"
        "assert CliRunner().invoke(cli, ['convert', '--help']).exit_code == 0;"
        "assert CliRunner().invoke(cli, ['generate', '--help']).exit_code == 0;"
        "assert CliRunner().invoke(cli, ['lint', '--help']).exit_code == 0"
    )
    assert loaded_after(code) == set()


def test_a_conversion_is_planned_without_torch() -> None:
    """The processes that help are started when it is planned, and torch takes seconds; the
    tokenizer's own library takes one, without torch."""
    code = (
        "from coreml_sd.config import ConversionConfig; import coreml_sd.conversion.convert;"
        "from coreml_sd.conversion.plan import plan_conversion;"
        "plan_conversion(ConversionConfig(targets=['coreml', 'tflite'], palettize=6))"
    )
    assert not loaded_after(code) & {"torch", "coremltools", "diffusers"}


def test_the_check_notices_a_heavy_import() -> None:
    assert "numpy" in loaded_after("import numpy")


def processor_seconds(*arguments: str) -> float:
    """What an interpreter takes at best, whatever else the machine does."""

    def used() -> float:
        times = os.times()
        return times.children_user + times.children_system

    taken = []
    for _ in range(5):
        before = used()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        taken.append(used() - before)
    return min(taken)


def test_help_is_instant() -> None:
    """It takes less than numpy alone, of which torch takes many times as much."""
    assert processor_seconds("-m", "coreml_sd.cli.main", "--help") < processor_seconds(
        "-c", "import numpy"
    )
