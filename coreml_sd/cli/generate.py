"""`coreml-sd generate`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from coreml_sd.errors import UserError

_DEFAULT_MODEL = "demo"
_EPILOG = """
\b
Examples:
  coreml-sd generate "a zebra on a blue background"
  coreml-sd generate "a castle" --bundle sd15.bundle --steps 25 --seed 7 -o castle.png
  coreml-sd generate "a zebra" --model my-model --steps 1
  coreml-sd generate "a castle" --runtime torch --scheduler euler -n 4
  coreml-sd generate "a castle" --runtime litert --accelerator gpu
"""


@click.command("generate", epilog=_EPILOG)
@click.argument("prompt")
@click.option(
    "--bundle", "path", type=click.Path(path_type=Path), help="[default: that of --model, here]"
)
@click.option(
    "--model",
    help="Draw from MODEL.bundle, which `coreml-sd convert MODEL` writes. "
    f"[default: {_DEFAULT_MODEL}]",
)
@click.option(
    "--runtime", default="auto", show_default=True, metavar="[auto|torch|mil|coreml|litert]"
)
@click.option(
    "--compute-units", default="all", help="Of Core ML: all, cpu-only, cpu-and-gpu, cpu-and-ne."
)
@click.option("--accelerator", default="cpu", show_default=True, help="Of LiteRT: cpu, gpu.")
@click.option(
    "--memory-policy",
    metavar="[all-resident|pipelined|stage-by-stage]",
    help="What stays loaded. pipelined: the UNet; the text encoder is freed before it and the "
    "decoder comes during the last steps. [default: pipelined for litert, all-resident elsewhere]",
)
@click.option(
    "--memory-log",
    type=click.Path(path_type=Path),
    help="Write resident memory over time, loads and steps, as JSON.",
)
@click.option("--size", hidden=True, help="Fixed at conversion.")
@click.option(
    "--steps",
    type=int,
    help="Denoising steps; a model with UNets for few steps takes the one for so many. "
    "[default: the model's advice]",
)
@click.option("--guidance", type=float, help="1 switches it off. [default: the model's advice]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first picture.")
@click.option(
    "--scheduler",
    help="dpm++, dpm++-karras, ddim, pndm, euler, euler-a, unipc, lcm, tcd, flow-match-euler. "
    "[default: the model's own]",
)
@click.option("--negative", default="", help="What to keep out of the picture.")
@click.option(
    "-n", "--count", type=click.IntRange(min=1), default=1, help="Pictures, seeds counting up."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="PNG file. [default: from the prompt]"
)
def command(
    prompt: str,
    path: Path | None,
    model: str | None,
    runtime: str,
    compute_units: str,
    accelerator: str,
    memory_policy: str | None,
    memory_log: Path | None,
    size: str | None,
    steps: int | None,
    guidance: float | None,
    seed: int,
    scheduler: str | None,
    negative: str,
    count: int,
    output: Path | None,
) -> None:
    """Draw PROMPT from a bundle. The same seed gives the same picture."""
    if not prompt.strip():
        raise UserError("the prompt is empty; say what to draw")
    from coreml_sd.bundle import open_bundle, usual_path, write_atomically
    from coreml_sd.cli.console import ConsoleProgress, console
    from coreml_sd.upstream.noise import quieten

    if accelerator == "gpu":
        _with_vulkan()
    if path is not None and model is not None:
        raise UserError("--bundle and --model: give one of them")
    path = path or usual_path(model or _DEFAULT_MODEL)
    bundle = open_bundle(path)
    if size is not None:
        height, width = bundle.pipeline["size"]
        raise UserError(
            f"--size {size}: the size is fixed at conversion, and {path} draws {height}x{width}; "
            f"convert the model again with --size {size}"
        )
    quieten()
    from coreml_sd.generation.draw import choose_scheduler, request_for
    from coreml_sd.generation.generate import Generator
    from coreml_sd.generation.memory_log import MemoryLog
    from coreml_sd.generation.picture import png_metadata, write_png
    from coreml_sd.progress import Stage
    from coreml_sd.runtimes.open_runtime import open_runtime

    drawn_with = choose_scheduler(bundle, scheduler)
    opened = open_runtime(bundle, runtime, compute_units=compute_units, accelerator=accelerator)
    log = MemoryLog() if memory_log else None
    draw = Generator(bundle, opened, memory_policy=memory_policy, log=log)
    with ConsoleProgress() as progress:
        if drawn_with.note:
            progress.warn(drawn_with.note)
        for number in range(count):
            request = request_for(
                bundle,
                prompt,
                drawn_with,
                negative_prompt=negative,
                steps=steps,
                guidance=guidance,
                seed=seed + number,
            )
            with progress.stage(Stage("draw", detail=f"seed {request.seed}")) as advance:
                image = draw(request, lambda step, of, _: advance(step, of))
            if image.cut and number == 0:
                limit = bundle.pipeline["tokenizer"]["max_tokens"]
                progress.warn(f"the prompt is over {limit} tokens; cut off: {image.cut!r}")
            target = _target(output, prompt, number, count)
            write_png(target, image.pixels, png_metadata(bundle, request, opened.name))
            console.print(f"{image.seconds_per_step:.2f} s per step, {opened.label}")
            click.echo(str(target))
    if memory_log and log:
        log.close()
        write_atomically(memory_log, json.dumps(log.to_json()) + "\n")
        click.echo(str(memory_log))


def _target(output: Path | None, prompt: str, number: int, count: int) -> Path:
    words = "".join(c if c.isalnum() else "-" for c in prompt.lower()).strip("-")
    path = output or Path(f"{words[:60] or 'picture'}.png")
    return path.with_stem(f"{path.stem}-{number + 1}") if count > 1 else path


def _with_vulkan() -> None:
    """Start again where the driver that scripts/lavapipe unpacked is not in the environment yet:
    the loader reads its variables when the process begins."""
    from coreml_sd.runtimes.litert.vulkan import gpu_environment

    environment = gpu_environment()
    if environment != dict(os.environ):
        arguments = [sys.executable, "-m", "coreml_sd.cli.main", *sys.argv[1:]]
        os.execve(sys.executable, arguments, environment)
