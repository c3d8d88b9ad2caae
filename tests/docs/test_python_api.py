"""docs/python-api.md: its example runs, and it names every part of the public interface."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreml_sd
from coreml_sd.generation.generate import GeneratedImage, GenerationRequest, Generator
from coreml_sd.runtimes.open_runtime import open_runtime

PAGE = Path(__file__).parents[2] / "docs/python-api.md"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def unnamed(page: str) -> set[str]:
    """Names and keywords of the public interface that the page does not have."""
    signatures = {
        name: inspect.signature(getattr(coreml_sd, name))
        for name in ("convert", "generate", "open_bundle")
    }
    wanted = {f"`coreml_sd.{name}" for name in coreml_sd.__all__}
    for name, signature in signatures.items():
        said = [
            p.name if p.default is p.empty else f"{p.name}=" for p in signature.parameters.values()
        ]
        wanted |= {f"{name}(", *said}
    return {name for name in wanted if name not in page}


def test_every_name_and_keyword_is_there() -> None:
    assert unnamed(PAGE.read_text(encoding="utf-8")) == set()


def test_a_keyword_that_is_not_there_is_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert unnamed(page.replace("on_step=", "")) == {"on_step="}


@pytest.mark.usefixtures("quick_capture")
def test_the_example_runs(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = blocks(PAGE.read_text(encoding="utf-8"))
    assert len(code) == 2 and code[0].count('"demo"') == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in code:
        exec(block.replace('"demo"', repr(str(sd1_folder))), names)
    assert Image.open("zebra.png").size == (16, 16)


def test_generate_draws_what_the_generator_draws(sd1_bundle: Path) -> None:
    bundle = coreml_sd.open_bundle(sd1_bundle, check=False)
    steps: list[int] = []
    settings: dict[str, Any] = {"negative_prompt": "dog", "guidance": 3.0, "seed": 7, "steps": 2}
    drawn = coreml_sd.generate(
        "a cat",
        bundle,
        runtime="torch",
        scheduler="euler",
        on_step=lambda step, of, seconds: steps.append(step),
        **settings,
    )
    request = GenerationRequest("a cat", scheduler="euler", **settings)
    expected = Generator(bundle, open_runtime(bundle, "torch"))(request)
    assert np.array_equal(drawn.pixels, expected.pixels) and steps == [1, 2]
    other = coreml_sd.generate("a cat", bundle, runtime="torch", scheduler="euler", steps=2)
    assert not np.array_equal(drawn.pixels, other.pixels)


def test_what_is_not_said_is_the_models_advice(
    sd1_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GenerationRequest] = []

    def draw(self: Any, request: GenerationRequest, on_step: Any) -> GeneratedImage:
        asked.append(request)
        return GeneratedImage(np.zeros((16, 16, 3), np.uint8), "", 0.0)

    monkeypatch.setattr(Generator, "__call__", draw)
    coreml_sd.generate("a cat", sd1_bundle)
    advice = coreml_sd.open_bundle(sd1_bundle, check=False).pipeline["advice"]
    expected = GenerationRequest(
        "a cat", "", advice["steps"], advice["guidance"], 0, advice["scheduler"]
    )
    assert asked == [expected]
