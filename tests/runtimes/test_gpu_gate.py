"""The GPU gate: whole on the delegate with the CPU's numbers, or a plain reason why not."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from coreml_sd.bundle import Bundle
from coreml_sd.runtimes.litert import gpu_gate, gpu_worker, vulkan
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.runtimes.litert.gpu_gate import NO_ADAPTER, GpuVerdict, check_on_gpu, tflite_files
from coreml_sd.runtimes.litert.gpu_worker import (
    relative_error,
    sample_inputs,
    wait_until_computed,
)
from coreml_sd.runtimes.litert.mixed_rank import mixed_rank_ops

pytest.importorskip("ai_edge_litert", reason="the extra `android` is not installed")
GARBAGE = [b"", b"not a model at all", b"\x1c\0\0\0TFL3" + b"\xff" * 64]
LACKING = vulkan.why_no_gpu()
needs_gpu = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))


class TokenMixer(nn.Module):
    """Ids through a table and a convolution, as a text encoder has them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.mix = nn.Conv2d(16, 16, 1)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.mix(self.table(input_ids)[:, None].permute(0, 3, 1, 2))


class MaskedScores(nn.Module):
    """Scores of four heads, lowered to rank 3, plus a constant mask of rank 4, which the delegate
    misreads; `flat` does it in rank 3."""

    mask: torch.Tensor

    def __init__(self, *, flat: bool = False) -> None:
        super().__init__()
        self.flat = flat
        self.register_buffer("mask", torch.full((1, 1, 7, 7), -10.0).triu(1))

    def forward(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        if self.flat:
            return query.flatten(0, 1) @ key.flatten(0, 1) + self.mask[0]
        return query @ key + self.mask


def export(module: nn.Module, path: Path, **inputs: torch.Tensor) -> Path:
    import litert_torch

    torch.manual_seed(0)
    litert_torch.signature("main", module.eval(), sample_kwargs=inputs).convert().export(str(path))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tflite")


@pytest.fixture(scope="module")
def conv(folder: Path) -> Path:
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1))
    return export(net, folder / "conv.tflite", input=torch.randn(1, 4, 8, 8))


@pytest.fixture(scope="module")
def normed(folder: Path) -> Path:
    """GroupNorm as it is exported straight: its affine part becomes BROADCAST_TO."""
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8))
    return export(net, folder / "normed.tflite", input=torch.randn(1, 4, 8, 8))


def export_scores(module: nn.Module, path: Path) -> Path:
    return export(module, path, query=torch.randn(1, 4, 7, 8), key=torch.randn(1, 4, 8, 7))


@pytest.fixture(scope="module")
def masked(folder: Path) -> Path:
    return export_scores(MaskedScores(), folder / "masked.tflite")


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a driver were here, for workers that need none."""
    monkeypatch.setattr(gpu_gate, "why_no_gpu", lambda: None)


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


@needs_gpu
def test_a_network_of_convolutions_passes(conv: Path) -> None:
    verdict = check_on_gpu(conv)
    assert verdict.ok, verdict.reason
    assert verdict.fully_accelerated and verdict.adapter
    assert verdict.relative_error is not None and verdict.relative_error < 1e-5
    assert verdict.relative_error_fp16 is not None and 1e-5 < verdict.relative_error_fp16 < 1e-1
    assert json.dumps(verdict.to_json(), allow_nan=False)


@needs_gpu
def test_ids_are_looked_up_on_the_gpu(folder: Path) -> None:
    ids = torch.zeros(1, 12, dtype=torch.int32)
    verdict = check_on_gpu(export(TokenMixer(), folder / "tokens.tflite", input_ids=ids))
    assert verdict.ok, verdict.reason


@needs_gpu
def test_given_inputs_are_used(conv: Path, tmp_path: Path) -> None:
    (name,) = TFLiteFile(conv).signatures[0].inputs
    given: dict[str, Any] = {name: np.ones((1, 4, 8, 8), np.float32)}
    np.savez(tmp_path / "x.npz", **given)
    assert check_on_gpu(conv, inputs=tmp_path / "x.npz").ok
    np.savez(tmp_path / "x.npz", other=np.ones(3, np.float32))
    assert not check_on_gpu(conv, inputs=tmp_path / "x.npz").ok


@needs_gpu
@pytest.mark.parametrize("compile_only", [False, True])
def test_a_refused_op_is_named(normed: Path, compile_only: bool) -> None:
    verdict = check_on_gpu(normed, compile_only=compile_only)
    assert not verdict.ok and not verdict.fully_accelerated
    assert "BROADCAST_TO" in verdict.reason
    assert any(line.startswith("BROADCAST_TO") for line in verdict.rejected)


@needs_gpu
def test_compile_only_runs_nothing(conv: Path) -> None:
    verdict = check_on_gpu(conv, compile_only=True)
    assert verdict.ok and verdict.compile_seconds is not None
    assert verdict.relative_error is None and verdict.run_seconds is None


@needs_gpu
@pytest.mark.parametrize("compile_only", [False, True])
def test_a_graph_that_is_taken_but_wrong_fails(masked: Path, compile_only: bool) -> None:
    verdict = check_on_gpu(masked, compile_only=compile_only)
    assert verdict.fully_accelerated and not verdict.ok
    assert "misreads ADD" in verdict.reason
    assert compile_only or "differs from the CPU" in verdict.reason


@needs_gpu
def test_the_same_sum_in_equal_ranks_passes(folder: Path) -> None:
    verdict = check_on_gpu(export_scores(MaskedScores(flat=True), folder / "flat.tflite"))
    assert verdict.ok and not verdict.misread


def test_constants_of_a_higher_rank_are_found(masked: Path, conv: Path) -> None:
    assert [op.kind for op in mixed_rank_ops(TFLiteFile(masked))] == ["ADD"]
    assert not mixed_rank_ops(TFLiteFile(conv))


@needs_gpu
def test_the_run_in_16_bits_can_be_left_out(conv: Path) -> None:
    verdict = check_on_gpu(conv, fp16=False)
    assert verdict.ok and verdict.relative_error_fp16 is None


@needs_gpu
def test_a_bundle_is_checked_file_by_file(conv: Path, normed: Path) -> None:
    entries = [{"path": path.name, "target": "tflite"} for path in (conv, normed)]
    entries.append({"path": "Unet.mlpackage", "target": "coreml"})
    bundle = Bundle(conv.parent, {"components": {"unet": {"files": entries}}})
    assert [check_on_gpu(file).ok for file in tflite_files(bundle)] == [True, False]


@needs_gpu
def test_no_adapter_is_said(conv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", "/nowhere/driver.json")
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nowhere/driver.json")
    assert check_on_gpu(conv).reason == NO_ADAPTER


@pytest.mark.parametrize("content", GARBAGE, ids=["empty", "text", "damaged"])
def test_garbage_is_a_verdict(ready: None, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage.tflite"
    path.write_bytes(content)
    verdict = check_on_gpu(path)
    assert not verdict.ok and "convert again" in verdict.reason and "\n" not in verdict.reason


def test_a_crash_is_a_verdict_and_keeps_what_was_found(ready: None) -> None:
    script = (
        "import os, signal; print('{\"fully_accelerated\": true}', flush=True);"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    verdict = check_on_gpu(Path("x.tflite"), worker=python(script))
    assert verdict.fully_accelerated and not verdict.ok
    assert verdict.reason == "the GPU delegate crashed (SIGSEGV)"


def test_a_killed_check_is_a_lack_of_memory(ready: None) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert "out of memory" in check_on_gpu(Path("x.tflite"), worker=python(script)).reason


def test_an_allocation_that_fails_is_a_lack_of_memory(ready: None) -> None:
    script = "import os, sys; sys.stderr.write('what(): std::bad_alloc'); os.abort()"
    assert "not enough memory" in check_on_gpu(Path("x.tflite"), worker=python(script)).reason


def test_a_hanging_check_is_stopped(ready: None) -> None:
    worker = ("/bin/sh", "-c", "exec sleep 600")
    verdict = check_on_gpu(Path("x.tflite"), worker=worker, time_limit=1.0)
    assert verdict.reason == "not done after 1 s, stopped"


def test_stopped_in_16_bits_keeps_the_verdict(ready: None) -> None:
    printed = '{"fully_accelerated": true, "relative_error": 1e-6}'
    worker = ("/bin/sh", "-c", f"echo '{printed}'; exec sleep 600")
    verdict = check_on_gpu(Path("x.tflite"), worker=worker, time_limit=1.0)
    assert verdict.ok and verdict.relative_error_fp16 is None


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("", "without a result"),
        ('{"fully_accel', "only part"),
        ('{"fully_accelerated": false, "relative_error": 0.0}', "only part"),
        ('{"fully_accelerated": true, "relative_error": 2e-4}', "differs from the CPU by 2.0e-04"),
        ('{"fully_accelerated": true, "relative_error": Infinity}', "not finite"),
        ('{"fully_accelerated": true, "error": "out of memory"}', "out of memory"),
    ],
)
def test_findings_that_do_not_pass(ready: None, printed: str, reason: str) -> None:
    printed = printed or '{"fully_accelerated": true}'
    verdict = check_on_gpu(Path("x.tflite"), worker=python(f"print({printed!r})"))
    assert reason in verdict.reason and not verdict.ok


def test_the_gate_is_1e_4(ready: None) -> None:
    printed = '{"fully_accelerated": true, "relative_error": 1e-4}'
    assert check_on_gpu(Path("x.tflite"), worker=python(f"print({printed!r})")).ok


def test_a_worker_that_cannot_start_is_a_verdict(ready: None) -> None:
    verdict = check_on_gpu(Path("x.tflite"), worker=("/nowhere/python",))
    assert "could not be started" in verdict.reason


class SlowModel:
    """A buffer of it can be locked once `waits` others have waited for `seconds` in vain."""

    def __init__(self, clock: list[float], waits: int, seconds: float) -> None:
        self.clock, self.waits, self.seconds = clock, waits, seconds
        self.buffers: list[object] = []

    def get_output_tensor_details(self, key: str) -> dict[str, dict[str, str]]:
        return {"out": {"dtype": "float32"}}

    def create_output_buffer_by_name(self, key: str, name: str) -> "SlowModel":
        self.buffers.append(name)
        return self

    def read(self, count: int, dtype: np.dtype) -> None:
        if len(self.buffers) <= self.waits:
            self.clock[0] += self.seconds
            raise RuntimeError("Failed to lock custom tensor buffer.")


@pytest.mark.parametrize(("seconds", "given_up"), [(120.0, False), (0.1, True)])
def test_a_gpu_that_takes_minutes_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, seconds: float, given_up: bool
) -> None:
    """A lock that fails at once has another reason."""
    model = SlowModel([0.0], waits=3, seconds=seconds)
    monkeypatch.setattr(gpu_worker.time, "monotonic", lambda: model.clock[0])
    if given_up:
        with pytest.raises(RuntimeError, match="lock"):
            wait_until_computed(model, "main")
    else:
        wait_until_computed(model, "main")
    assert len(model.buffers) == (1 if given_up else 4)


def test_relative_error_is_that_of_the_worst_output() -> None:
    reference = {"a": np.array([1.0, -4.0]), "b": np.array([100.0])}
    assert relative_error(reference, reference) == 0.0
    assert relative_error(reference, reference | {"a": np.array([1.2, -4.0])}) == pytest.approx(
        0.05
    )
    assert relative_error(reference, reference | {"b": np.array([np.nan])}) == np.inf


def test_inputs_are_seeded_by_name_and_shape(conv: Path) -> None:
    first, again = (sample_inputs(TFLiteFile(conv)) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert all(array.dtype == np.float32 and array.std() > 0.5 for array in first.values())


def test_an_infinite_error_is_null_in_json() -> None:
    facts = GpuVerdict(Path("x"), relative_error_fp16=float("inf")).to_json()
    assert facts["relative_error_fp16"] is None and facts["fp16_overflows"]
    finite = dataclasses.replace(GpuVerdict(Path("x")), relative_error_fp16=0.01).to_json()
    assert not finite["fp16_overflows"]


def test_a_chosen_driver_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COREML_SD_CACHE", str(tmp_path))
    driver = tmp_path / "lavapipe/usr/share/vulkan/icd.d/lvp_icd.json"
    driver.parent.mkdir(parents=True)
    driver.write_text("{}", "utf-8")
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform.startswith("linux"):
        assert vulkan.gpu_environment()["VK_DRIVER_FILES"] == str(driver)
    monkeypatch.setenv("VK_DRIVER_FILES", "/mine.json")
    assert vulkan.gpu_environment()["VK_DRIVER_FILES"] == "/mine.json"
    assert str(tmp_path) not in vulkan.gpu_environment().get("LD_LIBRARY_PATH", "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere Vulkan is not needed")
def test_without_a_driver_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COREML_SD_CACHE", str(tmp_path))
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.delenv(name, raising=False)
    assert "scripts/lavapipe" in str(vulkan.why_no_gpu(system=[tmp_path]))
    (tmp_path / "driver.json").write_text("{}", "utf-8")
    assert vulkan.why_no_gpu(system=[tmp_path]) is None


def test_lavapipe_says_why_it_cannot(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts/lavapipe"
    for name in ("bash", "uname", "dirname", "env"):
        (tmp_path / name).symlink_to(Path("/usr/bin") / name)
    done = subprocess.run(
        [script],
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "COREML_SD_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 3
    assert done.stderr.startswith("lavapipe left out: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "cache").exists()


@needs_gpu
def test_the_command_prints_a_table_and_fails_with_the_gate(conv: Path, normed: Path) -> None:
    assert "passed" in run_command(conv, status=0)
    assert "BROADCAST_TO" in run_command(normed, "--compile-only", status=1)
    (facts,) = json.loads(run_command(conv, "--json", status=0))
    assert facts["ok"] and facts["relative_error"] < 1e-5


def test_the_command_refuses_what_is_not_there(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from coreml_sd.cli.gpu import command
    from coreml_sd.errors import CoremlSDError

    done = CliRunner().invoke(command, [str(tmp_path / "none.tflite")])
    assert isinstance(done.exception, CoremlSDError) and done.exception.exit_status == 2


def run_command(*arguments: object, status: int) -> str:
    from click.testing import CliRunner

    from coreml_sd.cli.gpu import command

    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert done.exit_code == status, done.output
    return done.stdout
