"""The `coreml-sd` command: finds subcommands without loading what they need."""

from __future__ import annotations

import difflib
import importlib
import os
import sys

import click

from coreml_sd import __version__
from coreml_sd.cli.signals import stopping_at_once
from coreml_sd.errors import CoremlSDError, is_out_of_memory, one_line

# name -> the line shown by --help; each lives in the module of its name.
_COMMANDS = {
    "convert": "Convert a model to Core ML and TFLite files and prove every one.",
    "generate": "Draw a picture from a bundle.",
    "parity": "Compare a bundle with its source model; JSON and HTML reports.",
    "gpu": "Run a bundle's TFLite files on the real GPU delegate.",
    "inspect": "Show what a bundle or a model is made of.",
    "lint": "Find what would hurt on a device, from the saved files alone.",
    "doctor": "Show versions, and what can be run on this machine.",
}


class _Lazy(click.Group):
    """Subcommands are imported when they are run, so that --help stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"coreml_sd.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says which command was meant where there is none of that name."""
        name = args[0]
        near = difflib.get_close_matches(name, _COMMANDS, 1)
        if near and name not in _COMMANDS:
            ctx.fail(f"no command {name!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="coreml-sd")
def cli() -> None:
    """Convert diffusion models to phone formats on any computer, and prove what each file does.

    \b
    Examples:
      coreml-sd convert --palettize 6                 the built-in demo model -> demo.bundle
      coreml-sd generate "a zebra on a blue background"
      coreml-sd parity demo.bundle --html parity.html
    """


def main() -> None:
    """Entry point: errors become one line and an exit status, never a traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve busy machines
    try:
        with stopping_at_once():
            cli.main(standalone_mode=False)
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        click.echo("stopped; nothing was left behind", err=True)
        sys.exit(130)
    except Exception as error:
        sys.exit(_status(error))


def _status(error: Exception) -> int:
    """The exit status of a command that failed; says why in one line."""
    if is_out_of_memory(error):
        remedy = "close other programs, raise ulimit -v, or convert with --jobs 1"
        return _told(f"not enough memory; {remedy}", 2)
    if os.environ.get("COREML_SD_TRACEBACK"):
        raise error
    if isinstance(error, CoremlSDError):
        return _told(str(error), error.exit_status)
    kind = type(error).__name__
    return _told(f"{kind}: {error} (COREML_SD_TRACEBACK=1 shows where; please report it)", 1)


def _told(message: str, status: int) -> int:
    click.echo(f"Error: {one_line(message)}", err=True)
    return status


if __name__ == "__main__":
    main()
