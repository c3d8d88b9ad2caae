"""Equal input gives equal bytes, however many processes and threads were at work."""

import subprocess
import sys
from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.parallel import PROCESS_BYTES, ComponentProcess, choose_jobs, share_out
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.run import ConversionRun
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.progress import Silent


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def config(sd1_folder: Path) -> ConversionConfig:
    return ConversionConfig(model=str(sd1_folder), palettize=4, chunks="2")


@pytest.mark.parametrize(
    ("min_os", "components", "jobs"),
    [
        ("iOS17", "text_encoder,unet,vae_decoder,vae_encoder", "2"),
        ("iOS18", "text_encoder", "1"),
    ],
    ids=["iOS17", "iOS18"],
)
def test_two_conversions_are_the_same_bytes(
    short_folder: Path, tmp_path: Path, min_os: str, components: str, jobs: str
) -> None:
    """Once in this process, once in others with another order of hashes."""
    config = ConversionConfig(
        model=str(short_folder),
        components=components.split(","),
        palettize=4,
        chunks="2",
        min_os=min_os,
    )
    here = convert(config, tmp_path / "here", verify=False, jobs=1)
    assert set(here.seconds) == set(here.components)
    command = [
        sys.executable, "-m", "coreml_sd.cli.main", "convert", str(short_folder),
        "--palettize", "4", "--chunks", "2", "--min-os", min_os, "--no-verify", "--jobs", jobs,
        "--components", components, "-o", str(tmp_path / "there"),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    first, second = contents(tmp_path / "here"), contents(tmp_path / "there")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_another_weight_gives_other_bytes(sd1_folder: Path, sd2_folder: Path) -> None:
    digests = {plan_conversion(ConversionConfig(model=str(folder))).model.folder.digest()
               for folder in (sd1_folder, sd2_folder)}  # fmt: skip
    assert len(digests) == 2


def test_shares_are_even_and_cover_everything(config: ConversionConfig) -> None:
    plan = plan_conversion(config)
    assert share_out(plan, 1) == [["unet", "vae_decoder", "vae_encoder", "text_encoder"]]
    first, second = share_out(plan, 2)
    assert first == ["unet"] and set(second) == {"vae_decoder", "vae_encoder", "text_encoder"}


def test_processes_are_as_many_as_fit(config: ConversionConfig) -> None:
    plan = plan_conversion(config)
    assert choose_jobs(plan, None, None) == 1  # a small model
    assert choose_jobs(plan, 2, 3 * PROCESS_BYTES) == 2
    assert choose_jobs(plan, 9, 3 * PROCESS_BYTES) == 3
    assert choose_jobs(plan, 4, PROCESS_BYTES) == 1
    with pytest.raises(UserError, match="give it more"):
        choose_jobs(plan, None, 10**9)


def test_a_mistake_found_by_a_worker_is_told_as_one(
    sd1_folder: Path, tmp_path: Path, config: ConversionConfig
) -> None:
    """The first share is worked on here, the second one fails in its process."""
    broken = tmp_path / "model"
    subprocess.run(["cp", "-r", str(sd1_folder), str(broken)], check=True)
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    damaged = ConversionConfig(model=str(broken), palettize=4)
    with pytest.raises(UserError, match="truncated or damaged"):
        convert(damaged, tmp_path / "out", verify=False, jobs=2)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_process_that_dies_is_noticed(tmp_path: Path, config: ConversionConfig) -> None:
    run = ConversionRun(plan_conversion(config), tmp_path, False, Silent())
    process = ComponentProcess(run, ["unet"])
    process.kill()
    with pytest.raises(CoremlSDError, match=r"unet: the process ended.*--jobs 1"):
        process.finish()
    process.stop()
