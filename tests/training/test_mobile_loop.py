"""The training loop of MobileDiffusion: killed, shared by processes, averaged; what is random."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTokenizer

from coreml_sd.errors import UserError
from coreml_sd.models.mobile_diffusion.presets import PRESETS
from training.mobile_diffusion.chance import Chance, Share
from training.mobile_diffusion.config import StageConfig, read_config
from training.mobile_diffusion.loop import Loop, Losses, Turn
from training.mobile_diffusion.networks import new_denoiser, new_vae
from training.mobile_diffusion.run import Run

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "training/mobile_diffusion/configs"
STEPS = 6
WEIGHTS = "vae/averaged/diffusion_pytorch_model.safetensors"


class TestChance:
    def test_it_is_that_of_seed_step_and_turn(self) -> None:
        first = Chance(1, 2, 3, 4).normal(5)
        assert torch.equal(first, Chance(1, 2, 3, 4).normal(5))
        for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
            assert not torch.equal(first, Chance(*other, 4).normal(5))

    def test_processes_share_what_one_would_draw(self) -> None:
        def drawn(share: Share) -> list[np.ndarray]:
            chance = Chance(1, 2, 3, 4, share=share)
            numbers = [chance.normal(2), chance.integers(0, 99), chance.uniform()]
            return [*map(np.asarray, numbers), chance.chosen(99), chance.seeds()]

        parts = zip(drawn(Share(0, 2)), drawn(Share(1, 2)), strict=True)
        for whole, halves in zip(drawn(Share()), parts, strict=True):
            assert np.array_equal(whole, np.concatenate(halves))

    def test_a_batch_that_cannot_be_shared_is_refused(self) -> None:
        with pytest.raises(ValueError, match="batch of 5 cannot be shared by 2"):
            Chance(0, 0, 0, 5, share=Share(0, 2))


class Lines:
    """Two networks that learn in turn."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        torch.manual_seed(0)
        told: dict[str, Any] = {
            "steps": 8,
            "batch": 4,
            "learning_rate": 0.1,
            "warmup": 1,
            **settings,
        }
        networks = {"one": nn.Linear(3, 1), "other": nn.Linear(3, 1)}
        config = StageConfig(**told)
        self.loop = Loop(folder, config, Accelerator(cpu=True), networks, averaged=["one"])
        self.seen: list[tuple[str, int]] = []

    def turns(self) -> list[Turn]:
        return [
            Turn("one", lambda chance: self.losses("one", "other", chance)),
            Turn(
                "other", lambda chance: self.losses("other", "one", chance), every=2, first_step=3
            ),
        ]

    def losses(self, name: str, other: str, chance: Chance) -> Losses:
        self.seen.append((name, self.loop.step))
        mixed = self.loop.networks[name](chance.normal(3)) + self.loop.still(other)(
            chance.normal(3)
        )
        return {name: (mixed - 1).square().mean()}


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_each_network_learns_in_its_turn_alone(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    before = weights(lines.loop.still("other")).clone()

    def check(chance: Chance) -> Losses:
        losses = lines.losses("one", "other", chance)
        sum(losses.values()).backward(retain_graph=True)
        assert all(p.grad is None for p in lines.loop.still("other").parameters())
        return losses

    lines.loop.run([Turn("one", check)])
    assert torch.equal(before, weights(lines.loop.still("other")))


def test_a_turn_comes_as_often_as_it_says(tmp_path: Path) -> None:
    lines = Lines(tmp_path)
    lines.loop.run(lines.turns())
    assert [step for name, step in lines.seen if name == "one"] == list(range(8))
    assert [step for name, step in lines.seen if name == "other"] == [4, 6]


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    lines = Lines(tmp_path, ema=0.5)
    start = weights(lines.loop.average("one")).clone()
    lines.loop.run(lines.turns())
    average, now = weights(lines.loop.average("one")), weights(lines.loop.still("one"))
    assert 0 < (average - now).norm() < (start - now).norm()


def test_a_finished_stage_goes_on_where_more_steps_are_asked_for(tmp_path: Path) -> None:
    Lines(tmp_path).loop.run(Lines(tmp_path).turns())
    lines = Lines(tmp_path, steps=10)
    assert lines.loop.step == 8
    lines.loop.run(lines.turns())
    assert [step for name, step in lines.seen if name == "one"] == [8, 9]
    assert [path.name for path in tmp_path.iterdir()] == ["step-10"]


@pytest.mark.parametrize("name", ["md", "md-lite"])
def test_the_configs_at_full_size_make_the_presets_networks(name: str) -> None:
    config = read_config(CONFIGS / f"{name}.toml")
    preset = PRESETS[name]
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "coreml_sd/models/demo/tokenizer")
    with torch.device("meta"):
        denoiser = new_denoiser(config.networks, tokenizer)
        vae = new_vae(config.networks, light=True)
    made = {"unet": denoiser.unet, "vae": vae, "text_encoder": denoiser.text_encoder}
    # The vocabulary is the captions'; attention is by softmax until the stage `relu`.
    apart = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "weighing"}
    for part, network in made.items():
        wanted = preset[f"{part}/config.json"]
        found = network.config if part != "text_encoder" else network.config.to_dict()
        for key in wanted.keys() & found.keys() - apart - {"_class_name", "architectures"}:
            value = list(found[key]) if isinstance(found[key], tuple) else found[key]
            assert value == wanted[key], (part, key)


def test_the_config_of_the_built_in_model_is_read() -> None:
    config = read_config(CONFIGS / "demo-mobile.toml")
    assert config.data.size == 128 and config.networks.unet["block_out_channels"]


def test_a_key_that_there_is_none_of_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[data]\nsise = 3\n")
    with pytest.raises(UserError, match="sise"):
        read_config(tmp_path / "a.toml")


TINY = """
[data]
kind = "folder"
path = "{set}"
size = 32
[networks]
[networks.vae]
block_out_channels = [8, 8, 8, 8]
layers_per_block = 1
norm_num_groups = 4
sample_size = 32
[vae]
steps = {steps}
batch = 4
learning_rate = 1e-3
adversarial_from = 2
checkpoint_seconds = 0
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of a VAE that is trained in seconds."""
    folder = tmp_path_factory.mktemp("set")
    lines = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": "a"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    path = folder / "tiny.toml"
    path.write_text(TINY.format(set=folder, steps=STEPS))
    return path


def command(config: Path, folder: Path, *, processes: int = 1) -> list[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start += ["-m", "training.mobile_diffusion", "vae", "--config", str(config)]
    return [*start, "--folder", str(folder), "--cpu", "--threads", "1"]


def run(config: Path, folder: Path) -> tuple[dict[str, float], Path]:
    """The losses of the stage, trained here, and the file of its averaged weights."""
    torch.set_num_threads(1)
    losses = Run(folder, read_config(config), cpu=True).vae()
    return losses, folder / WEIGHTS


@pytest.fixture(scope="module")
def undisturbed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    return run(tiny, tmp_path_factory.mktemp("undisturbed"))


# What the command is begun with, to be killed by the system itself at one moment.
KILLED = """
import os, pathlib, signal, sys
from training.mobile_diffusion import __main__ as command, loop

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

{moment}
sys.argv = ["mobile_diffusion", *sys.argv[1:]]
command.main()
"""
MOMENTS = {
    "between a checkpoint's last byte and its name": """
rename = pathlib.Path.rename
pathlib.Path.rename = lambda self, to: kill() if to.name == "step-3" else rename(self, to)
""",
    "in a step": """
average = loop.Loop._average
loop.Loop._average = lambda self, name: kill() if self.step == 4 else average(self, name)
""",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_with_the_same_weights(
    tiny: Path, undisturbed: tuple[dict, Path], tmp_path: Path, moment: str
) -> None:
    arguments = command(tiny, tmp_path)
    begin = arguments.index("-m")
    script = KILLED.format(moment=MOMENTS[moment])
    killed = subprocess.run(
        [*arguments[:begin], "-c", script, *arguments[begin + 2 :]],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not (tmp_path / "vae/averaged").exists() and list(tmp_path.glob("vae/step-*"))
    _, weights = run(tiny, tmp_path)
    wanted, found = load_file(undisturbed[1]), load_file(weights)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert not list(tmp_path.glob("vae/partial-*"))


def test_two_processes_learn_what_one_does(
    tiny: Path, undisturbed: tuple[dict, Path], tmp_path: Path
) -> None:
    done = subprocess.run(
        command(tiny, tmp_path, processes=2),
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    *_, begun, _, told = done.stdout.strip().splitlines()
    assert begun == "vae: 2 processes, cpu:0, precision no"
    losses = {name: float(value) for name, value in re.findall(r"(\w+) ([-\d.e]+)", told)}
    assert losses == pytest.approx(undisturbed[0], abs=1e-5)
    wanted, found = load_file(undisturbed[1]), load_file(tmp_path / WEIGHTS)
    assert max((wanted[name] - found[name]).abs().max() for name in wanted) < 1e-4
