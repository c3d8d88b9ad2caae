"""Layer weights in weight.bin, read back by the evaluator's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coreml_sd.compress.palette import palettize
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.errors import UserError
from coreml_sd.runtimes.mil.blob import BlobFile
from coreml_sd.targets.coreml.layer_payloads import LayerPayload, write_layers
from coreml_sd.targets.coreml.weight_file import WeightFile

RNG = np.random.default_rng(0)
VALUES = {
    "odd": RNG.standard_normal((7, 13)).astype(np.float16),
    "dense": RNG.standard_normal((4, 6, 3, 3)).astype(np.float16),
    "grouped": RNG.standard_normal((8, 5)).astype(np.float16),
}
PALETTES = {
    "odd": palettize(VALUES["odd"], PaletteSpec(6)),
    "grouped": palettize(VALUES["grouped"], PaletteSpec(3, "per-grouped-channel", 2)),
}


class Given:
    def __init__(self, values: dict[str, NDArray[Any]]) -> None:
        self._values = values

    def value(self, name: str) -> NDArray[Any]:
        return self._values[name]

    def origin(self, name: str) -> str:
        return f"{name} of the test"


def written(path: Path, values: dict[str, NDArray[Any]], **options: Any) -> dict[str, LayerPayload]:
    shapes = {name: value.shape for name, value in values.items()}
    arguments = {"dense": "float16", "sub_byte": True, **options}
    with WeightFile(path) as file:
        return write_layers(file, shapes, Given(values), PALETTES, **arguments)


def test_every_weight_is_in_the_file_as_it_was_decided(tmp_path: Path) -> None:
    payloads = written(tmp_path / "weight.bin", VALUES)
    blob = BlobFile(tmp_path / "weight.bin")
    for name, payload in payloads.items():
        held = blob.read(payload.offset, payload.element, payload.shape)
        palette = PALETTES.get(name)
        expected = palette.indices(VALUES[name]) if palette else VALUES[name]
        assert np.array_equal(held, expected), name
    assert [payloads[name].element for name in VALUES] == ["uint6", "float16", "uint3"]


def test_older_systems_get_bytes_of_indices(tmp_path: Path) -> None:
    payload = written(tmp_path / "weight.bin", {"odd": VALUES["odd"]}, sub_byte=False)["odd"]
    assert (payload.element, payload.shape) == ("uint8", (69,))  # 91 indices of 6 bits
    held = BlobFile(tmp_path / "weight.bin").read(payload.offset, "uint8", (69,))
    assert np.array_equal(held, PALETTES["odd"].packed(VALUES["odd"]))


def test_fp32_is_for_weights_without_a_palette(tmp_path: Path) -> None:
    payload = written(tmp_path / "weight.bin", VALUES, dense="float32")["dense"]
    held = BlobFile(tmp_path / "weight.bin").read(payload.offset, "float32", payload.shape)
    assert np.array_equal(held, VALUES["dense"].astype(np.float32))


def test_the_order_and_so_the_bytes_do_not_hang_on_the_threads(tmp_path: Path) -> None:
    for workers in (1, 3):
        written(tmp_path / f"{workers}.bin", VALUES, workers=workers)
    assert (tmp_path / "1.bin").read_bytes() == (tmp_path / "3.bin").read_bytes()


def test_a_damaged_weight_is_named(tmp_path: Path) -> None:
    damaged = {**VALUES, "dense": np.full((4, 6, 3, 3), np.nan, np.float16)}
    with pytest.raises(UserError, match="dense"):
        written(tmp_path / "weight.bin", damaged)


def test_every_record_and_payload_is_aligned(tmp_path: Path) -> None:
    """Core ML maps them at multiples of 64."""
    payloads = written(tmp_path / "weight.bin", VALUES)
    blob = BlobFile(tmp_path / "weight.bin")
    offsets = [payload.offset for payload in payloads.values()]
    assert len(offsets) == 3 and not any(offset % 64 for offset in offsets)
    assert not any(blob.record(offset).offset % 64 for offset in offsets)


def test_a_weight_is_read_as_what_it_is(tmp_path: Path) -> None:
    payload = written(tmp_path / "weight.bin", VALUES)["dense"]
    blob = BlobFile(tmp_path / "weight.bin")
    with pytest.raises(UserError, match="holds 216 float16, the program expects 216 int16"):
        blob.read(payload.offset, "int16", payload.shape)
