"""Nothing heavy is loaded before a command needs it."""

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


def modules_after(code: str) -> int:
    """How many modules an interpreter has loaded, whatever else the machine does."""
    script = f"import sys\n{code}\nprint(len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return int(done.stdout.splitlines()[-1])


def test_help_is_instant() -> None:
    """It loads fewer modules than numpy alone, of which torch loads many times as many."""
    help_ = (
        "from click.testing import CliRunner; from coreml_sd.cli.main import cli;"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0"
    )
    tester = "import click.testing"  # brings modules that the command does not need
    extra = modules_after(tester) - modules_after("import click")
    assert modules_after(help_) - extra < modules_after("import numpy")
