"""Our Core ML files have the names, ranks and types that apps on apple/ml-stable-diffusion need.

What its Swift code (commit e12202c1) does with a model, stated as checks of a saved package:

- `StableDiffusionPipeline+Resources.swift` opens `TextEncoder`, `Unet` or `UnetChunk1` and
  `UnetChunk2`, `VAEDecoder`, `VAEEncoder`, `vocab.json` and `merges.txt` by these names.
- `TextEncoder.swift`, `Decoder.swift` and `Encoder.swift` feed the first input of a model, whatever
  its name, and `Decoder`, `Encoder` and `Unet` read the first output: there must be only one.
- `Unet.swift` feeds `sample` (B, C, h, w), `timestep` (B) and `encoder_hidden_states` (B, W, 1, T).
- `ManagedMLModel.swift` runs a second chunk on the outputs of the first and the original inputs.
- Everything fed is an array of Float32, and its own converter (`torch2coreml.py`) declares float16
  inputs. Outputs are read with MLShapedArray<Float32>(converting:), which ends the app for float16
  on Macs with Intel chips (its issue 253), so outputs are float32. Between chunks arrays are handed
  on as they are.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.models.open_model import open_model

STEMS = {
    "text_encoder": "TextEncoder",
    "unet": "Unet",
    "vae_decoder": "VAEDecoder",
    "vae_encoder": "VAEEncoder",
}
UNET_INPUTS = {"sample": 4, "timestep": 1, "encoder_hidden_states": 4}


def tensors(features: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and element type of each input or output that a saved file declares."""
    from coremltools.proto import FeatureTypes_pb2

    names = FeatureTypes_pb2.ArrayFeatureType.ArrayDataType
    return {
        f.name: (
            tuple(f.type.multiArrayType.shape),
            names.Name(f.type.multiArrayType.dataType),
        )
        for f in features
    }


def complaints(stem: str, description: Any, chunk: tuple[int, int] = (1, 1)) -> list[str]:
    """What its Swift code would trip over in one file, or in a chunk (number, of)."""
    inputs, outputs = tensors(description.input), tensors(description.output)
    found = [
        f"input {name} is {kind}"
        for name, (_, kind) in inputs.items()
        if kind not in ("FLOAT16", "FLOAT32")
    ]
    if chunk[0] == chunk[1]:
        found += [f"output {n} is {k}" for n, (_, k) in outputs.items() if k != "FLOAT32"]
    asked = {
        "TextEncoder": ({"input_ids": 2}, {"last_hidden_state": 3}),
        "Unet": (UNET_INPUTS, {"noise_pred": 4}),
        "VAEDecoder": ({"z": 4}, {"image": 4}),
        "VAEEncoder": ({"x": 4}, {"latent": 4}),
    }[stem]
    first, last = chunk[0] == 1, chunk[0] == chunk[1]
    sides = ((inputs, asked[0], first), (outputs, asked[1], last))
    for given, wanted, complete in sides:
        for name, rank in wanted.items() if complete else ():
            if name not in given and not (chunk[1] > 1 and name == "encoder_hidden_states"):
                found.append(f"no {name}")
            elif name in given and len(given[name][0]) != rank:
                found.append(f"{name} has rank {len(given[name][0])}")
    if first and stem != "Unet" and len(inputs) != 1:
        found.append(f"{len(inputs)} inputs, the first is fed")
    if last and stem != "TextEncoder" and len(outputs) != 1:
        found.append(f"{len(outputs)} outputs, the first is read")
    return found


def description_of(path: Path) -> Any:
    from coreml_sd.runtimes.mil import MilPackage

    return MilPackage(path).spec.description


def test_file_names_are_the_ones_it_opens(sd1_bundle: Path) -> None:
    model = open_model(ConversionConfig(model="demo"))
    assert {c.name: c.file_name for c in model.components} == STEMS
    assert sorted(p.name for p in sd1_bundle.iterdir()) == [
        "TextEncoder.mlpackage",
        "UnetChunk1.mlpackage",
        "UnetChunk2.mlpackage",
        "VAEDecoder.mlpackage",
        "VAEEncoder.mlpackage",
        "manifest.json",
        "merges.txt",
        "vocab.json",
    ]


@pytest.mark.parametrize("stem", ["TextEncoder", "VAEDecoder", "VAEEncoder"])
def test_it_can_feed_and_read_a_network(sd1_bundle: Path, stem: str) -> None:
    assert complaints(stem, description_of(sd1_bundle / f"{stem}.mlpackage")) == []


@pytest.mark.parametrize("number", [1, 2])
def test_it_can_feed_and_read_a_chunk(sd1_bundle: Path, number: int) -> None:
    description = description_of(sd1_bundle / f"UnetChunk{number}.mlpackage")
    assert complaints("Unet", description, (number, 2)) == []


def seam_complaints(first: Any, second: Any) -> list[str]:
    """Inputs of the second chunk that are neither outputs of the first nor original inputs, or
    that differ from what is handed on."""
    given, taken = tensors(first.output), tensors(second.input)
    original = {n: t for n, t in tensors(first.input).items() if n in UNET_INPUTS}
    return [
        name
        for name, declared in taken.items()
        if (given.get(name) or original.get(name, declared)) != declared
        or not (name in given or name in UNET_INPUTS)
    ]


def test_the_second_chunk_runs_on_the_first_ones_outputs(sd1_bundle: Path) -> None:
    first, second = (description_of(sd1_bundle / f"UnetChunk{n}.mlpackage") for n in (1, 2))
    assert seam_complaints(first, second) == []
    # It merges dictionaries: an output of the first chunk must not hide an original input.
    assert not tensors(first.output).keys() & UNET_INPUTS.keys()
    shorter = copy.deepcopy(first)
    dropped = shorter.output.pop().name
    assert seam_complaints(shorter, second) == [dropped]


def test_shapes_fit_together(sd1_bundle: Path) -> None:
    """The text encoder's output (1, T, W) becomes the UNet's (B, W, 1, T); latents agree."""
    text = description_of(sd1_bundle / "TextEncoder.mlpackage")
    first, last = (description_of(sd1_bundle / f"UnetChunk{n}.mlpackage") for n in (1, 2))
    (_, length, width), _ = tensors(text.output)["last_hidden_state"]
    sample, _ = tensors(first.input)["sample"]
    context = (tensors(first.input) | tensors(last.input))["encoder_hidden_states"][0]
    assert tensors(text.input)["input_ids"][0] == (1, length)
    assert context == (sample[0], width, 1, length)
    assert tensors(first.input)["timestep"][0] == (sample[0],)
    assert tensors(last.output)["noise_pred"][0] == sample
    decoder = description_of(sd1_bundle / "VAEDecoder.mlpackage")
    encoder = description_of(sd1_bundle / "VAEEncoder.mlpackage")
    image, _ = tensors(decoder.output)["image"]
    assert tensors(decoder.input)["z"][0] == (1, *sample[1:])
    assert image[:2] == (1, 3)
    assert tensors(encoder.input)["x"][0] == image
    assert tensors(encoder.output)["latent"][0] == (1, 2 * sample[1], *sample[2:])


def test_a_file_of_another_form_is_noticed(sd1_bundle: Path) -> None:
    from coremltools.proto import FeatureTypes_pb2

    original = description_of(sd1_bundle / "VAEDecoder.mlpackage")

    def changed(change: Any) -> list[str]:
        description = copy.deepcopy(original)
        change(description)
        return complaints("VAEDecoder", description)

    kinds = FeatureTypes_pb2.ArrayFeatureType
    assert changed(lambda d: None) == []
    assert changed(lambda d: setattr(d.output[0], "name", "picture")) == ["no image"]
    assert changed(lambda d: d.input[0].type.multiArrayType.shape.append(1)) == ["z has rank 5"]

    def add_output(d: Any) -> None:
        d.output.add().CopyFrom(d.output[0])
        d.output[1].name = "mask"

    def half(d: Any) -> None:
        d.output[0].type.multiArrayType.dataType = kinds.FLOAT16

    def whole(d: Any) -> None:
        d.input[0].type.multiArrayType.dataType = kinds.INT32

    assert changed(add_output) == ["2 outputs, the first is read"]
    assert changed(half) == ["output image is FLOAT16"]
    assert changed(whole) == ["input z is INT32"]
