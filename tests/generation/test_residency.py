"""Residency: what is loaded when, by which thread, and what that holds in memory."""

import math
import threading
import time
from typing import Any

import numpy as np
import pytest

from coreml_sd.errors import UserError
from coreml_sd.generation.memory_log import MemoryLog
from coreml_sd.generation.residency import Residency
from coreml_sd.report.memory import MemoryReport
from coreml_sd.report.memory_plot import plot_memory

MEGABYTES = {"text_encoder": 60, "unet": 120, "vae_decoder": 90}
SLACK = 12_000_000  # what else this process takes meanwhile


class Block:
    """A network that is nothing but memory."""

    def __init__(self, component: str) -> None:
        self.values: np.ndarray | None = np.ones(MEGABYTES[component] * 125_000)
        self.thread = threading.get_ident()
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def run(self, inputs: Any) -> Any:
        return {}

    def close(self) -> None:
        self.values = None


def draw(policy: str, steps: int = 5, last_step: float = 0.02) -> tuple[dict, Residency]:
    """The order in which a picture uses its networks; the last step ends when the decoder is there,
    or after `last_step` seconds."""
    log = MemoryLog()
    residency = Residency(Block, policy, log)
    residency.begin(["text_encoder"], "unet", "vae_decoder")
    residency.network("text_encoder")
    residency.done_with("text_encoder")
    residency.network("unet")
    for step in range(1, steps):
        residency.before_step("vae_decoder", math.inf, last=False)
        residency.note("step", str(step))
    residency.before_step("vae_decoder", math.inf, last=True)
    until = time.monotonic() + last_step
    while time.monotonic() < until and log.events[-1].kind != "loaded":
        time.sleep(0.001)
    residency.note("step", str(steps))
    residency.done_with("unet")
    residency.network("vae_decoder")
    time.sleep(0.02)  # so that the peak is sampled
    residency.done_with("vae_decoder")
    log.close()
    return log.to_json(), residency


def happened(log: dict) -> list[tuple[str, str]]:
    return [(event["kind"], event["name"]) for event in log["events"]]


def test_pipelined_frees_the_text_encoder_before_the_unet_is_loaded() -> None:
    log, _ = draw("pipelined")
    order = happened(log)
    assert order.index(("freed", "text_encoder")) < order.index(("loading", "unet"))


def test_the_decoder_is_loaded_by_a_second_thread_before_the_last_step_ends() -> None:
    log, residency = draw("pipelined", steps=2, last_step=60.0)
    order = happened(log)
    assert order.index(("step", "1")) < order.index(("loading", "vae_decoder"))
    assert order.index(("loaded", "vae_decoder")) < order.index(("step", "2"))
    assert residency.network("unet").thread == threading.get_ident()
    residency.before_step("text_encoder", 0.0, True)
    assert residency.network("text_encoder").thread != threading.get_ident()


def test_a_load_begins_when_the_steps_that_are_left_take_little_longer() -> None:
    residency = Residency(Block, "pipelined", log := MemoryLog())
    residency.network("unet")
    (loading, loaded) = log.events
    taken = loaded.seconds - loading.seconds
    residency.before_step("vae_decoder", 10 * taken, last=False)
    assert len(log.events) == 2
    residency.before_step("vae_decoder", 1.5 * taken, last=False)
    residency.network("vae_decoder")
    assert [event.name for event in log.events[2:]] == ["vae_decoder"] * 2
    log.close()


def test_the_unet_stays_for_the_next_picture() -> None:
    log, residency = draw("pipelined")
    assert ("freed", "unet") not in happened(log)
    first = residency.network("unet")
    assert residency.network("unet") is first


def test_all_resident_loads_everything_first_and_frees_nothing() -> None:
    log, residency = draw("all-resident")
    assert [name for kind, name in happened(log) if kind == "loaded"] == list(MEGABYTES)
    assert happened(log).index(("loaded", "vae_decoder")) < happened(log).index(("step", "1"))
    assert not any(kind == "freed" for kind, _ in happened(log))
    residency.close()


def test_stage_by_stage_has_one_network_at_a_time() -> None:
    log, _ = draw("stage-by-stage")
    stages = [[(kind, name) for kind in ("loading", "loaded", "freed")] for name in MEGABYTES]
    order = [pair for pair in happened(log) if pair[0] not in ("step", "end")]
    assert order == [pair for stage in stages for pair in stage]
    peak = max(resident for _, resident in log["samples"])
    assert peak == pytest.approx(120e6, abs=SLACK)


def test_the_peak_is_the_unet_and_the_larger_of_the_others() -> None:
    report = MemoryReport({policy: draw(policy)[0] for policy in ("all-resident", "pipelined")})
    assert report.bound == pytest.approx(210e6, abs=SLACK)
    assert report.peak("pipelined") <= report.bound + SLACK
    assert report.peak("all-resident") > report.bound + SLACK  # the control: the sum is more
    assert report.to_json()["bound_bytes"] == report.bound
    assert plot_memory(report).startswith(b"\x89PNG")


def test_a_late_decoder_is_told() -> None:
    late = {"events": [{"kind": "step", "name": "1", "seconds": 1.0}]}
    late["events"].append({"kind": "loaded", "name": "vae_decoder", "seconds": 2.0})
    assert not MemoryReport({"pipelined": late}).decoder_in_time


def test_what_the_second_thread_could_not_load_is_told_when_it_is_needed() -> None:
    def refuse(component: str) -> Block:
        raise UserError(f"{component}: refused")

    residency = Residency(refuse, "pipelined")
    residency.before_step("vae_decoder", 0.0, True)
    with pytest.raises(UserError, match="vae_decoder: refused"):
        residency.network("vae_decoder")


def test_closing_waits_for_what_is_coming() -> None:
    residency = Residency(Block, "pipelined")
    residency.before_step("vae_decoder", 0.0, True)
    residency.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        residency.before_step("vae_decoder", 0.0, True)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UserError, match="choose from all-resident, pipelined, stage-by-stage"):
        Residency(Block, "none")
