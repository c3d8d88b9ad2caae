"""The time left is the prediction's at first, and then goes with what was done."""

from types import SimpleNamespace

import pytest

from coreml_sd.conversion import prediction
from coreml_sd.conversion.prediction import Prediction, TimeLeft, Work
from coreml_sd.progress import Stage

START, END = Work("", "start", 5.0), Work("", "checksums", 3.0)
UNET = (Work("unet", "coreml", 70.0), Work("unet", "coreml-verify", 25.0))
DECODER = (Work("vae_decoder", "coreml", 19.0),)
ALONE = Prediction(((START, *UNET, END),))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(prediction, "time", SimpleNamespace(perf_counter=clock))
    return clock


def test_it_starts_with_the_prediction_and_counts_down(clock: Clock) -> None:
    left = TimeLeft(ALONE)
    assert left.seconds() == 103.0
    clock.now += 4
    assert left.seconds() == 99.0


def test_it_shrinks_to_nothing_and_is_never_negative(clock: Clock) -> None:
    left, seen = TimeLeft(ALONE), []
    for stage, seconds in (
        (Stage("look"), 5),
        (Stage("load", "unet"), 10),
        (Stage("export", "unet", "coreml"), 60),
        (Stage("verify", "unet", "coreml"), 20),  # five less than predicted
        (Stage("checksums"), 30),  # ten times as long
    ):
        left.begun(stage)
        for _ in range(5):
            seen.append(left.seconds())
            clock.now += seconds / 5
    assert seen == sorted(seen, reverse=True) and min(seen) == left.seconds() == 0.0


def test_work_that_is_late_makes_the_rest_longer(clock: Clock) -> None:
    left = TimeLeft(ALONE)
    clock.now += 15  # three times as long as predicted
    left.begun(Stage("load", "unet"))
    assert 1.2 * 98 < left.seconds() < 3 * 98
    left.begun(Stage("export", "unet", "coreml"))  # the same piece of work: nothing moves
    clock.now += 100
    left.begun(Stage("verify", "unet", "coreml"))
    assert 1.2 * 28 < left.seconds() < 2 * 28


def test_it_never_goes_below_the_work_that_has_not_begun(clock: Clock) -> None:
    left = TimeLeft(ALONE)
    clock.now += 5
    left.begun(Stage("load", "unet"))
    clock.now += 1000
    assert left.seconds() == 25 + 3


def test_components_of_an_earlier_run_are_not_waited_for(clock: Clock) -> None:
    left = TimeLeft(Prediction(((START, *UNET, *DECODER, END),)))
    left.begun(Stage("load", "vae_decoder"))
    assert left.seconds() == pytest.approx(19 + 3, rel=0.3)
    left = TimeLeft(ALONE)
    left.begun(Stage("checksums"))
    assert left.seconds() == pytest.approx(3, rel=0.3)


@pytest.mark.parametrize("main", [UNET, DECODER])
def test_the_longest_process_decides(clock: Clock, main: tuple[Work, ...]) -> None:
    other = DECODER if main is UNET else UNET
    left = TimeLeft(Prediction(((START, *main, END), (START, *other))))
    clock.now += 5
    left.begun(Stage("load", "vae_decoder"))
    left.begun(Stage("load", "unet"))
    clock.now += 10
    left.begun(Stage("preview", "vae_decoder"))
    assert left.seconds() == 60 + 25 + (3 if main is UNET else 0)


def test_each_target_has_its_own_proof(clock: Clock) -> None:
    both = tuple(
        Work("unet", kind, 10.0) for kind in ("coreml", "coreml-verify", "tflite", "tflite-verify")
    )
    left, seen = TimeLeft(Prediction(((START, *both, END),))), []
    for kind, target in (
        ("load", ""),
        ("export", "coreml"),
        ("verify", "coreml"),
        ("export", "tflite"),
        ("quantize", "tflite"),
        ("verify", "tflite"),
    ):
        left.begun(Stage(kind, "unet", target))
        seen.append(left.shares[0][1][0].kind)
    assert seen == ["coreml", "coreml", "coreml-verify", "tflite", "tflite", "tflite-verify"]
