"""What is predicted: disk to the byte of the plan; time and memory go with the work."""

from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import Bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.prediction.disk import weight_bytes
from coreml_sd.conversion.prediction.predict import predict
from coreml_sd.conversion.prediction.probe import probe
from coreml_sd.conversion.prediction.rates import rates
from coreml_sd.costs.network_size import network_size
from coreml_sd.targets.plan import Plan

STEADY = rates().probe


def plan_of(model: object, **knobs: Any) -> Plan:
    return plan_conversion(ConversionConfig(model=str(model), **knobs))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from coreml_sd.conversion.convert import convert

    config = ConversionConfig(palettize=6)
    return convert(config, tmp_path_factory.mktemp("demo") / "b", verify=False)


def test_the_disk_of_the_demo_is_known(demo: Bundle) -> None:
    real = sum(file.stat().st_size for file in demo.path.rglob("*") if file.is_file())
    assert predict(plan_of("demo", palettize=6), False).disk == pytest.approx(real, rel=0.05)


def test_weights_are_counted_as_they_are_stored(demo: Bundle) -> None:
    plan = plan_of("demo", palettize=6)
    for name, entry in demo.components.items():
        size = network_size(plan.model.folder, plan.model.component(name))
        real = sum(file["weight_bytes"] for file in entry["files"])
        assert real * 0.98 < weight_bytes(plan, name, size) <= real


def test_fewer_bits_take_less_disk(sd1_folder: Path) -> None:
    disks = [predict(plan_of(sd1_folder, palettize=bits), False).disk for bits in (None, 8, 4)]
    assert disks == sorted(disks, reverse=True) and len(set(disks)) == 3


def test_executing_the_files_takes_longer_and_not_less_memory() -> None:
    plan = plan_of("demo", palettize=6)
    proven, unproven = (predict(plan, verify, measured=STEADY) for verify in (True, False))
    assert proven.seconds > unproven.seconds and proven.memory >= unproven.memory
    assert proven.disk == unproven.disk


@pytest.mark.parametrize("target", ["coreml", "tflite"])
def test_every_kind_of_work_has_a_rate(target: str) -> None:
    prediction = predict(plan_of("demo", targets=[target]), True, measured=STEADY)
    assert all(work.seconds > 0 for share in prediction.shares for work in share)
    assert 5e8 < prediction.memory < 1e10 and 5 < prediction.seconds < 1000


def test_a_conversion_gets_slower_with_the_root_of_the_probe() -> None:
    plan = plan_of("demo")
    once = predict(plan, True, measured=STEADY)
    twice = predict(plan, True, measured={name: 4 * taken for name, taken in STEADY.items()})
    assert twice.seconds == pytest.approx(2 * once.seconds)
    assert twice.memory == once.memory


def test_a_larger_picture_takes_longer_to_execute() -> None:
    small, large = (
        predict(plan_of("demo", size=size), True, measured=STEADY) for size in ("64x64", "512x512")
    )
    assert large.seconds > small.seconds and large.disk == small.disk


def test_the_probe_measures_what_the_rates_go_by() -> None:
    found = probe(0.1)
    assert found.keys() == STEADY.keys() and all(0 < taken < 5 for taken in found.values())
