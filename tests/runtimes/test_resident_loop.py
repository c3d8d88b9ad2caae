"""The loop in the runtime's buffers draws what the host's loop draws, and reads nothing before the
end."""

import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")

from coreml_sd.bundle import Bundle, open_bundle
from coreml_sd.errors import CoremlSDError
from coreml_sd.generation.generate import GenerationRequest, Generator
from coreml_sd.runtimes.litert.gpu_gate import check_on_gpu, tflite_files
from coreml_sd.runtimes.litert.loop import ResidentLoop, open_resident_loop
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from coreml_sd.runtimes.litert.vulkan import gpu_environment, why_no_gpu
from coreml_sd.runtimes.open_runtime import open_runtime
from coreml_sd.schedulers.linear_scheduler import linear_steps
from coreml_sd.schedulers.schedulers import make_scheduler
from coreml_sd.targets.saved_files import lint_files
from tests.helpers.tiny_tflite import TinyFiles

LACKING = why_no_gpu()
needs_gpu = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
BATCHES = (1, 2)


@pytest.fixture(scope="session")
def bundles(sd1_folder: Path, sd2_folder: Path, tiny_files: TinyFiles) -> Callable[[int], Bundle]:
    """SD 1.x-like with a UNet of batch 2, SD 2.x-like with one of batch 1."""

    @functools.cache
    def make(batch: int) -> Bundle:
        model = sd1_folder if batch == 2 else sd2_folder
        knobs = {"targets": ["tflite"], "components": ["unet"], "batch": batch}
        return open_bundle(tiny_files.bundle(f"batch{batch}", model, verify=False, **knobs))

    return make


@dataclasses.dataclass
class Drawn:
    """A picture of the host's loop, with what its networks were given."""

    pixels: np.ndarray
    latent: np.ndarray
    context: np.ndarray


class Watched:
    """A network that keeps what it is given."""

    def __init__(self, network: Any, given: list[dict[str, np.ndarray]]) -> None:
        self._network, self._given = network, given

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._given.append(dict(inputs))
        return self._network.run(inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def by_host(bundle: Bundle, request: GenerationRequest) -> Drawn:
    """The UNet's file in `Generator`'s own loop; the source's text encoder and decoder."""
    given: dict[str, list] = {"text_encoder": [], "unet": [], "vae_decoder": []}
    source, file = open_runtime(bundle, "torch"), open_runtime(bundle, "litert")

    def open_network(name: str) -> Any:
        return Watched((file if name == "unet" else source).open(name), given[name])

    pixels = Generator(bundle, dataclasses.replace(file, open=open_network))(request).pixels
    facts = bundle.pipeline
    latent = (given["vae_decoder"][0]["z"] - facts["shift_factor"]) * facts["scaling_factor"]
    rows = np.concatenate([call["encoder_hidden_states"] for call in given["unet"][:2]])
    context = rows[:2] if request.guidance > 1 else rows[[0, 0]]
    return Drawn(pixels, latent, context)


def in_buffers(
    loop: ResidentLoop, bundle: Bundle, request: GenerationRequest, context: np.ndarray
) -> np.ndarray:
    assert request.scheduler is not None
    scheduler = make_scheduler(request.scheduler, bundle.pipeline["scheduler"])
    table = linear_steps(scheduler, request.steps)
    assert table is not None
    scheduler.set_timesteps(request.steps)
    shape = (1, bundle.pipeline["latent_channels"], *bundle.pipeline["latent_size"])
    generator = torch.Generator().manual_seed(request.seed)

    def noise() -> np.ndarray:
        return torch.randn(shape, generator=generator).numpy()

    start = noise() * float(scheduler.init_noise_sigma)
    return loop.run(table, start, context, request.guidance, noise=noise)


def pixels_of(bundle: Bundle, latent: np.ndarray) -> np.ndarray:
    z = latent / bundle.pipeline["scaling_factor"] + bundle.pipeline["shift_factor"]
    image = open_runtime(bundle, "torch").open("vae_decoder").run({"z": z})["image"][0]
    return np.rint((np.clip(image, -1, 1) + 1) * 127.5).transpose(1, 2, 0)


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def request(scheduler: str = "dpm++", steps: int = 4, guidance: float = 4.0) -> GenerationRequest:
    return GenerationRequest("a cat", "dog", steps, guidance, 5, scheduler)


@pytest.fixture(params=BATCHES, ids=lambda batch: f"batch{batch}")
def bundle(request: pytest.FixtureRequest, bundles: Callable[[int], Bundle]) -> Bundle:
    return bundles(request.param)


@pytest.fixture
def unet(bundle: Bundle) -> Iterator[LiteRTNetwork]:
    network = LiteRTNetwork(bundle.path / "Unet.tflite")
    yield network
    network.close()


@pytest.fixture
def loop(bundle: Bundle, unet: LiteRTNetwork) -> Iterator[ResidentLoop]:
    opened = open_resident_loop(bundle, unet)
    assert opened is not None and opened.shared
    yield opened
    opened.close()


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [("dpm++", 1), ("dpm++", 5), ("pndm", 7), ("unipc", 6), ("euler-a", 4), ("lcm", 3)],
)
def test_it_draws_what_the_host_draws(
    bundle: Bundle, loop: ResidentLoop, scheduler: str, steps: int, guidance: float
) -> None:
    asked = request(scheduler, steps, guidance)
    host = by_host(bundle, asked)
    latent = in_buffers(loop, bundle, asked, host.context)
    assert relative(latent, host.latent) < 1e-4
    assert np.abs(pixels_of(bundle, latent) - host.pixels).max() <= 1


@pytest.mark.parametrize(("scheduler", "drawn"), [("dpm++", set()), ("euler-a", {"noise"})])
def test_the_host_reads_nothing_before_the_end(
    bundle: Bundle,
    unet: LiteRTNetwork,
    loop: ResidentLoop,
    monkeypatch: pytest.MonkeyPatch,
    scheduler: str,
    drawn: set[str],
) -> None:
    moved: list[tuple[str, str]] = []
    for way in ("read", "write"):
        original = getattr(LiteRTNetwork, way)

        def watched(
            self: Any, name: str, *given: Any, way: Any = way, original: Any = original
        ) -> Any:
            moved.append((way, name))
            return original(self, name, *given)

        monkeypatch.setattr(LiteRTNetwork, way, watched)
    made = make_scheduler(scheduler, bundle.pipeline["scheduler"])
    table = linear_steps(made, 4)
    assert table is not None
    latent = np.ones((1, *unet.inputs["sample"].shape[1:]), np.float32)
    context = np.ones((2, *unet.inputs["encoder_hidden_states"].shape[1:]), np.float32)
    loop.begin(table, latent, context, 3.0, lambda: latent)
    assert {way for way, _ in moved} == {"write"}
    for index, step in enumerate(table):
        moved.clear()
        loop.step(index)
        assert {way for way, _ in moved} == {"write"}
        written = [name for _, name in moved]
        assert sorted(written) == sorted({"timestep", "weights", *(drawn if step.noise else ())})
    moved.clear()
    loop.latent()
    assert moved == [("read", "next_latent")]


def test_every_run_is_the_same_and_the_unet_stays_usable(
    bundle: Bundle, unet: LiteRTNetwork
) -> None:
    given = {name: np.ones(info.shape, np.float32) for name, info in unet.inputs.items()}
    before = unet.run(given)["noise_pred"]
    context = np.ones((2, *unet.inputs["encoder_hidden_states"].shape[1:]), np.float32)
    context[1] *= -1
    opened = open_resident_loop(bundle, unet)
    assert opened is not None
    first = in_buffers(opened, bundle, request("pndm"), context)
    spoilt = in_buffers(opened, bundle, request(), np.full_like(context, np.nan))
    unguided = in_buffers(opened, bundle, request(guidance=0.0), context)
    np.testing.assert_array_equal(unet.run(given)["noise_pred"], before)
    again = in_buffers(opened, bundle, request("pndm"), context)
    opened.close()
    np.testing.assert_array_equal(unet.run(given)["noise_pred"], before)
    np.testing.assert_array_equal(first, again)
    assert np.isnan(spoilt).all() and np.isfinite(unguided).all()


def test_buffers_that_cannot_be_shared_are_copied(
    bundle: Bundle, unet: LiteRTNetwork, loop: ResidentLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = by_host(bundle, request())
    theirs = unet.buffer("sample")
    bind = LiteRTNetwork.bind

    def refuse(self: LiteRTNetwork, name: str, buffer: Any) -> None:
        if self is not unet and buffer is theirs:
            raise CoremlSDError("another kind of buffer")
        bind(self, name, buffer)

    monkeypatch.setattr(LiteRTNetwork, "bind", refuse)
    copying = open_resident_loop(bundle, unet)
    assert copying is not None and not copying.shared
    assert relative(in_buffers(copying, bundle, request(), host.context), host.latent) < 1e-4
    copying.close()


def test_a_wrong_result_through_shared_buffers_is_noticed(
    bundle: Bundle, unet: LiteRTNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LiteRTNetwork.read
    monkeypatch.setattr(LiteRTNetwork, "read", lambda self, name: read(self, name) + 0.01)
    opened = open_resident_loop(bundle, unet)
    assert opened is not None and not opened.shared
    opened.close()


def test_noise_that_is_not_given_is_an_error(
    bundle: Bundle, loop: ResidentLoop, unet: LiteRTNetwork
) -> None:
    table = linear_steps(make_scheduler("euler-a", bundle.pipeline["scheduler"]), 2)
    assert table is not None
    latent = np.ones((1, *unet.inputs["sample"].shape[1:]), np.float32)
    context = np.ones((2, *unet.inputs["encoder_hidden_states"].shape[1:]), np.float32)
    with pytest.raises(CoremlSDError, match="draws noise"):
        loop.run(table, latent, context, 1.0)


def test_without_a_step_or_on_another_runtime_the_host_loops(
    bundle: Bundle, unet: LiteRTNetwork
) -> None:
    old = {key: value for key, value in bundle.manifest.items() if key != "scheduler_step"}
    assert open_resident_loop(Bundle(bundle.path, old), unet) is None
    watched: Any = Watched(unet, [])
    assert open_resident_loop(bundle, watched) is None


def test_the_bundle_describes_the_step(bundle: Bundle) -> None:
    entry = open_bundle(bundle.path).manifest["scheduler_step"]
    assert entry["path"] == "SchedulerStep.tflite" and entry["target"] == "tflite"
    assert entry["path"] in bundle.manifest["files"]
    assert (bundle.path / entry["path"]).stat().st_size < 20_000
    network = LiteRTNetwork(bundle.path / entry["path"])
    assert set(entry["inputs"]) == network.inputs.keys()
    assert set(entry["outputs"]) == network.outputs.keys()
    assert network.inputs["weights"].shape == (1, len(entry["weights"]), 1, 1)
    network.close()


def test_lint_and_the_gpu_check_see_the_step(bundle: Bundle) -> None:
    assert tflite_files(bundle)[-1].name == bundle.all_files()[-1]["path"] == "SchedulerStep.tflite"
    found = lint_files(bundle)
    assert not [finding for finding in found if finding.file == "SchedulerStep.tflite"]


@needs_gpu
def test_the_gpu_takes_the_step(bundle: Bundle) -> None:
    verdict = check_on_gpu(bundle.path / "SchedulerStep.tflite", fp16=False)
    assert verdict.ok, verdict.reason


ON_GPU = """
import json, sys
from pathlib import Path
import numpy as np
from coreml_sd.bundle import open_bundle
from coreml_sd.schedulers.linear_scheduler import linear_steps
from coreml_sd.runtimes.litert.loop import ResidentLoop
from coreml_sd.runtimes.litert.network import LiteRTNetwork
from coreml_sd.schedulers.schedulers import make_scheduler

bundle = open_bundle(Path(sys.argv[1]))
table = linear_steps(make_scheduler("dpm++", bundle.pipeline["scheduler"]), 3)
results = []
for accelerator in ("cpu", "gpu"):
    unet, step = (
        LiteRTNetwork(bundle.path / name, accelerator=accelerator, exact=True)
        for name in ("Unet.tflite", "SchedulerStep.tflite")
    )
    loop = ResidentLoop(unet, step)
    draw = np.random.default_rng(0).standard_normal
    latent = draw((1, *unet.inputs["sample"].shape[1:])).astype(np.float32)
    context = draw((2, *unet.inputs["encoder_hidden_states"].shape[1:])).astype(np.float32)
    results.append(loop.run(table, latent, context, 3.0))
    loop.close()
    unet.close()
error = np.abs(results[1] - results[0]).max() / np.abs(results[0]).max()
print(json.dumps({"shared": loop.shared, "error": float(error)}), flush=True)
"""


@needs_gpu
def test_it_runs_on_the_gpu(bundles: Callable[[int], Bundle]) -> None:
    """In a process of its own, which the driver may take down at its end."""
    done = subprocess.run(
        [sys.executable, "-c", ON_GPU, str(bundles(2).path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=gpu_environment(),
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-2000:]
    facts = json.loads(lines[-1])
    assert facts["shared"] and facts["error"] < 1e-4
