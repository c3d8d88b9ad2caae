"""Rates fitted to conversions whose times are known predict those times again."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.prediction import predict
from coreml_sd.conversion.prediction.probe import slowness
from coreml_sd.conversion.prediction.rates import Rates, rates
from scripts.bench.fit_rates import fit_rates

_STAGES = {
    "load": "load",
    "preview": "preview",
    "coreml": "export X.mlpackage",
    "coreml-verify": "execute and compare",
}
_PROBE = {"interpreter": 0.05, "compute": 0.1}


def made_up(verify: bool) -> dict[str, Any]:
    """A case of the demo that takes as long as today's rates say, and holds as much."""
    config = {"model": "demo", "palettize": 6}
    prediction = predict(
        plan_conversion(ConversionConfig(**config)), verify, measured=rates().probe
    )
    now, events, samples = 1000.0, [], []
    for each in (*prediction.shares[0], *prediction.final):
        if each.work.component:
            title = f"{each.work.component}: {_STAGES[each.work.kind]}"
            events += [[now, "begin", title], [now + each.seconds, "end", title]]
        elif each.work.kind == "finish":
            events += [[now, "begin", "checksums"], [now, "end", "checksums"]]
        samples += [[now + part * each.seconds, each.memory] for part in (0.1, 0.5, 0.9)]
        now += each.seconds
    names = ("TextEncoder", "Unet", "VAEDecoder", "VAEEncoder")
    files = {f"{name}.mlpackage/weight.bin": 5_000_000 for name in names}
    return {
        "config": config,
        "verify": verify,
        "started": 1000.0,
        "seconds": now - 1000.0,
        "memory": prediction.memory,
        "events": events,
        "samples": samples,
        "probe": _PROBE,
        "files": files | {"manifest.json": 90_000},
    }


def slowed(case: dict[str, Any], times: float) -> dict[str, Any]:
    """The same case on a machine that takes so many times as long for everything; the probe tells
    speeds too far apart."""
    assert slowness({"a": 4.0}, {"a": 1.0}) == {"a": 2.0}

    def later(moment: float) -> float:
        return float(case["started"] + times * (moment - case["started"]))

    return {
        **case,
        "seconds": times * case["seconds"],
        "events": [[later(moment), *rest] for moment, *rest in case["events"]],
        "samples": [[later(moment), *rest] for moment, *rest in case["samples"]],
        "probe": {name: times**2 * seconds for name, seconds in case["probe"].items()},
    }


@pytest.mark.parametrize("verify", [False, True])
def test_known_times_are_found_again(verify: bool) -> None:
    case = made_up(verify)
    found = Rates(**json.loads(json.dumps(fit_rates([case]))))
    assert found.probe == _PROBE
    plan = plan_conversion(ConversionConfig(**case["config"]))
    again = predict(plan, verify, measured=_PROBE, known=found)
    assert again.seconds == pytest.approx(case["seconds"], rel=0.03)
    assert again.memory == pytest.approx(case["memory"], rel=0.1)


def test_a_slower_machine_is_not_taken_for_more_work() -> None:
    usual, slow = made_up(True), slowed(made_up(True), 2.0)
    found = Rates(**json.loads(json.dumps(fit_rates([usual, usual, slow]))))
    assert found.probe == _PROBE
    plan = plan_conversion(ConversionConfig(**usual["config"]))
    again = predict(plan, True, measured=_PROBE, known=found)
    assert again.seconds == pytest.approx(usual["seconds"], rel=0.03)


def test_what_is_fitted_is_all_that_is_kept() -> None:
    assert set(fit_rates([made_up(True)])) == set(asdict(rates()))
