"""What is predicted: disk to a few percent; time and memory go with the work."""

from pathlib import Path
from typing import Any

import pytest

from coreml_sd.bundle import Bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.conversion.prediction import FOLLOWS, predict, rates
from coreml_sd.processes.probe import probe
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import TARGETS


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


def test_the_disk_of_a_component_is_that_of_its_files(demo: Bundle) -> None:
    prediction = predict(plan_of("demo", palettize=6), False)
    for name, entry in demo.components.items():
        weights = sum(file["weight_bytes"] for file in entry["files"])
        assert weights < prediction.of(name).disk < 1.4 * weights  # the programs come on top
    assert prediction.disk > sum(prediction.of(name).disk for name in demo.components)


def test_fewer_bits_and_channels_take_less_disk(sd1_folder: Path) -> None:
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"palettize": 8},
        {"palettize": 4},
        {"palettize": 4, "prune": 0.2},
    )
    disks = [predict(plan_of(sd1_folder, **knobs), False).disk for knobs in kinds]
    assert disks == sorted(disks, reverse=True) and len(set(disks)) == 4


def test_executing_the_files_takes_longer_and_more_memory() -> None:
    plan = plan_of("demo", palettize=6, size="512x512")
    proven, unproven = (predict(plan, verify) for verify in (True, False))
    assert proven.memory > unproven.memory and proven.disk == unproven.disk
    for component in plan.components:
        name = component.name
        assert proven.of(name).seconds > unproven.of(name).seconds
        assert proven.of(name).memory >= unproven.of(name).memory


@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_of_work_has_a_rate(target: str) -> None:
    prediction = predict(plan_of("demo", targets=[target]), True)
    assert all(work.seconds > 0 and work.memory > 0 for work in prediction.shares[0])
    assert 5e8 < prediction.memory < 1e10 and 5 < prediction.seconds < 1000


def test_a_conversion_gets_slower_with_the_probe() -> None:
    plan = plan_of("demo")
    once, twice = (predict(plan, True, measured=factor * rates()["probe"]) for factor in (1, 2))
    assert twice.seconds == pytest.approx(2**FOLLOWS * once.seconds)
    assert (twice.memory, twice.disk) == (once.memory, once.disk)


def test_a_larger_picture_takes_longer_and_more_memory_to_execute() -> None:
    small, large = (predict(plan_of("demo", size=size), True) for size in ("64x64", "512x512"))
    assert large.seconds > small.seconds and large.memory > small.memory
    assert large.disk == small.disk


def test_two_processes_take_less_time_and_more_memory() -> None:
    one, two = (predict(plan_of("demo"), True, jobs=jobs) for jobs in (1, 2))
    assert (len(one.shares), len(two.shares)) == (1, 2)
    assert two.seconds < one.seconds and two.memory > one.memory


def test_the_probe_gives_seconds_of_one_round() -> None:
    assert 0 < probe(0.1) < 5
