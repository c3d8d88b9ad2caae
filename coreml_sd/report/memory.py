"""Resident memory of one picture under both memory policies, measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreml_sd.bundle import Bundle
from coreml_sd.errors import CoremlSDError
from coreml_sd.generation.conditions import told_denoiser
from coreml_sd.generation.generate import GenerationRequest

_COMPARED = ("all-resident", "pipelined")
_TIME_LIMIT = 1800.0


@dataclass(frozen=True)
class MemoryReport:
    """What `MemoryLog` wrote under each policy, each in a process of its own; `denoiser` drew."""

    logs: Mapping[str, dict[str, Any]]
    denoiser: str = "unet"

    def peak(self, policy: str) -> int:
        """Largest resident memory above that before the first load, bytes."""
        return max(int(resident) for _, resident in self.logs[policy]["samples"])

    @property
    def bound(self) -> int:
        """UNet + the largest of text encoders and decoder + activations, bytes.

        Sizes are what each load added with everything loaded; activations are what running then
        added. Source: "Squeezing Large-Scale Diffusion Models for Mobile", arXiv 2307.01193
        (T1.8).
        """
        added: dict[str, int] = {}
        loaded = 0
        for event in self.logs["all-resident"]["events"]:
            if event["kind"] == "loading":
                before = event["resident"]
            elif event["kind"] == "loaded":
                added[event["name"]] = event["resident"] - before
                loaded = event["resident"]
        running = self.peak("all-resident") - loaded
        return added.pop(self.denoiser) + max(added.values()) + running

    @property
    def decoder_in_time(self) -> bool:
        """Whether the decoder was there before the last step ended."""
        events = self.logs["pipelined"]["events"]
        ready = next(
            e["seconds"] for e in events if (e["kind"], e["name"]) == ("loaded", "vae_decoder")
        )
        return bool(ready < [e["seconds"] for e in events if e["kind"] == "step"][-1])

    def to_json(self) -> dict[str, Any]:
        """The figures, without the samples."""
        return {
            "peak_bytes": {policy: self.peak(policy) for policy in self.logs},
            "bound_bytes": self.bound,
            "decoder_loaded_before_the_last_step_ends": self.decoder_in_time,
        }


def measure_memory(bundle: Bundle, request: GenerationRequest) -> MemoryReport:
    """Draw one picture with the litert runtime, with everything loaded and pipelined.

    Raises:
        CoremlSDError: a run fails.
    """
    logs = {policy: _run(bundle.path, request, policy) for policy in _COMPARED}
    return MemoryReport(logs, told_denoiser(bundle.pipeline, request.steps).component)


def _run(bundle: Path, request: GenerationRequest, policy: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="coreml-sd-") as folder:
        log = Path(folder) / "memory.json"
        command = [sys.executable, "-m", "coreml_sd.cli.main", "generate", request.prompt]
        command += ["--bundle", str(bundle), "--runtime", "litert", "--seed", str(request.seed)]
        command += ["--steps", str(request.steps), "--guidance", str(request.guidance)]
        command += ["--memory-policy", policy, "--memory-log", str(log)]
        command += ["--output", str(Path(folder) / "picture.png")]
        # Large blocks go back when they are freed, so that the curve shows what is in use.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIME_LIMIT
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise CoremlSDError(f"{bundle}: drawing with {policy} memory failed: {lines[-1]}")
        result: dict[str, Any] = json.loads(log.read_text(encoding="utf-8"))
        return result
