"""The command: a stage of a training, from where it was stopped; and what comes of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# Each stage, and what its command's help says.
STAGES = {
    "vae": "Encoder and whole decoder.",
    "decoder": "The light decoder, with the encoder frozen.",
    "base": "Text encoder and UNet with softmax attention.",
    "relu": "The same UNet with ReLU attention.",
    "guidance": "A UNet that is told the guidance, in one pass.",
    "steps": "The same in few steps.",
    "one_step": "The UNet in one step, against a discriminator.",
}
_HELP = """Train MobileDiffusion, a stage at a time.

\b
Examples:
  python -m training.mobile_diffusion vae --config my.toml
  python -m training.mobile_diffusion all --config my.toml
  accelerate launch -m training.mobile_diffusion base --config my.toml --folder runs/mine
  python -m training.mobile_diffusion export --config my.toml -o my-model

A stage that was stopped or killed goes on from its last checkpoint.
"""


@click.group(help=_HELP)
def main() -> None:
    pass


def _of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """The options of what works in the folder of a run; the command gets the `Run`."""

    @click.option("--config", type=click.Path(exists=True, path_type=Path), required=True)
    @click.option("--folder", type=click.Path(path_type=Path), help="Default: runs/CONFIG's name.")
    @click.option("--cpu", is_flag=True, help="Use the CPU though there is a GPU.")
    @click.option("--threads", type=int, default=0, help="Of the CPU; default: all cores.")
    @functools.wraps(command)
    def begun(config: Path, folder: Path | None, cpu: bool, threads: int, **others: Any) -> None:
        import torch

        from coreml_sd.errors import UserError
        from training.mobile_diffusion.config import read_config
        from training.mobile_diffusion.run import Run

        if threads:
            torch.set_num_threads(threads)
        try:
            run = Run(folder or Path("runs") / config.stem, read_config(config), cpu=cpu)
            command(run, **others)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            raise SystemExit(error.exit_status) from None

    return begun


def _train(run: Any, stages: tuple[str, ...]) -> None:
    from training.mobile_diffusion.run import STAGES as TRAINED

    for stage in stages:
        machine = run.accelerator
        count = "1 process" if machine.num_processes == 1 else f"{machine.num_processes} processes"
        machine.print(f"{stage}: {count}, {machine.device}, precision {machine.mixed_precision}")
        losses = TRAINED[stage](run)
        machine.print(", ".join(f"{name} {value:.7g}" for name, value in losses.items()))


def _add(name: str, stages: tuple[str, ...], told: str) -> None:
    @main.command(name, help=told)
    @_of_a_run
    def command(run: Any) -> None:
        _train(run, stages)


for _stage, _told in STAGES.items():
    _add(_stage, (_stage,), _told)
_add("all", tuple(STAGES), "Every stage, one after the other; finished ones stay as they are.")


@main.command("export")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@_of_a_run
def export(run: Any, output: Path) -> None:
    """Write what was trained as a diffusers folder."""
    run.export(output)
    click.echo(str(output))


@main.command("mixture")
def mixture() -> None:
    """The objectives on points of a known density, in figures."""
    import torch

    from training.mobile_diffusion import mixture_figures

    torch.set_num_threads(1)
    mixture_figures.lines(click.echo)


if __name__ == "__main__":
    main()
