"""The command: one stage of a training, from where it was stopped."""

from __future__ import annotations

from pathlib import Path

import click

_HELP = """Train MobileDiffusion, a stage at a time.

\b
Examples:
  python -m training.mobile_diffusion vae --config my.toml
  python -m training.mobile_diffusion all --config my.toml    # every stage, one after the other
  python -m training.mobile_diffusion mixture    # the objectives on points, in figures
  accelerate launch -m training.mobile_diffusion base --config my.toml --folder runs/mine

A stage that was stopped or killed goes on from its last checkpoint.
"""
NAMES = ("vae", "decoder", "base", "relu", "guidance", "steps", "one_step")
ALL, MIXTURE = "all", "mixture"


@click.command(help=_HELP)
@click.argument("stage", type=click.Choice((*NAMES, ALL, MIXTURE)))
@click.option("--config", "path", type=click.Path(exists=True, path_type=Path))
@click.option("--folder", type=click.Path(path_type=Path), help="Default: runs/CONFIG's name.")
@click.option("--cpu", is_flag=True, help="Train on the CPU though there is a GPU.")
@click.option("--threads", type=int, default=0, help="Of the CPU; default: all cores.")
def main(stage: str, path: Path | None, folder: Path | None, cpu: bool, threads: int) -> None:
    import torch

    if stage == MIXTURE:
        from training.mobile_diffusion import mixture_figures

        torch.set_num_threads(threads or 1)
        mixture_figures.lines(click.echo)
        return
    if path is None:
        raise click.UsageError("a stage needs --config")
    from coreml_sd.errors import UserError

    if threads:
        torch.set_num_threads(threads)
    try:
        train(NAMES if stage == ALL else (stage,), path, folder or Path("runs") / path.stem, cpu)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None


def train(stages: tuple[str, ...], path: Path, folder: Path, cpu: bool) -> None:
    """Run stages, one after the other.

    Raises:
        UserError: the config or the pictures cannot be used, or a stage before is missing.
    """
    from training.mobile_diffusion.config import read_config
    from training.mobile_diffusion.run import STAGES, Run

    run = Run(folder, read_config(path), cpu=cpu)
    for stage in stages:
        machine = run.accelerator
        count = "1 process" if machine.num_processes == 1 else f"{machine.num_processes} processes"
        machine.print(f"{stage}: {count}, {machine.device}, precision {machine.mixed_precision}")
        losses = STAGES[stage](run)
        machine.print(", ".join(f"{name} {value:.7g}" for name, value in losses.items()))


if __name__ == "__main__":
    main()
