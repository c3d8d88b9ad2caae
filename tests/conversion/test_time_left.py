"""The time left is the prediction's at first, and then goes with what was done."""

import pytest

from coreml_sd.conversion.prediction.predict import Prediction, TimedWork
from coreml_sd.conversion.prediction.time_left import TimeLeft
from coreml_sd.conversion.prediction.work import Work
from coreml_sd.progress import Stage


def work(component: str, kind: str, seconds: float) -> TimedWork:
    return TimedWork(Work(component, kind, {}), seconds, 0.0)


ONE = (
    work("", "start", 5.0),
    work("unet", "load", 10.0),
    work("unet", "coreml", 60.0),
    work("unet", "coreml-verify", 25.0),
)
OTHER = (
    work("", "start", 5.0),
    work("vae_decoder", "load", 10.0),
    work("vae_decoder", "coreml", 9.0),
)
FINAL = (work("", "finish", 3.0),)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_starts_with_the_prediction_and_counts_down() -> None:
    clock = Clock()
    left = TimeLeft(Prediction((ONE, OTHER), FINAL, 0), clock)
    assert left.seconds() == 103.0
    clock.now += 4
    assert left.seconds() == 99.0


def test_work_that_is_late_makes_the_rest_longer() -> None:
    clock = Clock()
    left = TimeLeft(Prediction((ONE,), FINAL, 0), clock)
    clock.now += 5
    left.begun(Stage("load", "unet"))
    clock.now += 30  # three times as long as predicted
    left.begun(Stage("palettes", "unet", "coreml", "6-bit"))
    assert 1.3 * (60 + 25 + 3) < left.seconds() < 3 * (60 + 25 + 3)
    left.begun(Stage("export", "unet", "coreml"))  # the same piece of work: nothing moves
    clock.now += 30
    left.begun(Stage("verify", "unet", "coreml"))
    assert 25 < left.seconds() < 2 * 28


def test_it_never_goes_below_the_work_that_has_not_begun() -> None:
    clock = Clock()
    left = TimeLeft(Prediction((ONE,), FINAL, 0), clock)
    clock.now += 5
    left.begun(Stage("load", "unet"))
    clock.now += 1000
    assert left.seconds() == 60 + 25 + 3
    left.begun(Stage("checksums"))
    assert 0 < left.seconds() < 1000
    clock.now += 1000
    assert left.seconds() == 0.0


def test_components_of_an_earlier_run_are_not_waited_for() -> None:
    clock = Clock()
    both = (*ONE, work("vae_encoder", "load", 1.0), work("vae_encoder", "coreml", 4.0))
    left = TimeLeft(Prediction((both,), FINAL, 0), clock)
    left.begun(Stage("load", "vae_encoder"))
    assert left.seconds() == pytest.approx(1 + 4 + 3, rel=0.4)


def test_the_longest_process_decides() -> None:
    clock = Clock()
    left = TimeLeft(Prediction((OTHER, ONE), FINAL, 0), clock)
    left.begun(Stage("load", "vae_decoder"))
    assert left.seconds() == pytest.approx(103, rel=0.4)


def test_each_target_has_its_own_proof() -> None:
    clock = Clock()
    both = (
        work("unet", "load", 1.0),
        work("unet", "coreml", 10.0),
        work("unet", "coreml-verify", 20.0),
        work("unet", "tflite", 30.0),
        work("unet", "tflite-verify", 40.0),
    )
    left, seen = TimeLeft(Prediction((both,), FINAL, 0), clock), []
    stages = (("load", ""), ("export", "coreml"), ("verify", "coreml"), ("export", "tflite"))
    for kind, target in stages:
        left.begun(Stage(kind, "unet", target))
        seen.append(round(left.seconds()))
    left.begun(Stage("quantize", "unet", "tflite"))
    left.begun(Stage("verify", "unet", "tflite"))
    assert round(left.seconds()) < 50 and seen == sorted(seen, reverse=True)
