"""Palettes solved ahead in a process without torch are those that are solved later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from coreml_sd.compress.palette import palettize
from coreml_sd.compress.palettization import Palettization, palettize_module
from coreml_sd.compress.solve_ahead import solving_ahead
from coreml_sd.compress.supported import PaletteSpec
from coreml_sd.errors import KilledError
from coreml_sd.models.weights.tensor_file import TensorFile
from coreml_sd.models.weights.values import FileWeights

SPECS = (PaletteSpec(4), PaletteSpec(6), PaletteSpec(4, "per-grouped-channel", 16))


def network() -> nn.Module:
    """A linear layer that becomes a convolution, a convolution, and a layer too small to gain."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(64, 96, 1), nn.Conv2d(16, 64, 3), nn.Linear(4, 4))


@pytest.fixture
def weights(tmp_path: Path) -> FileWeights:
    """The network's weights in a file, the first as a linear layer has it, and one of no layer."""
    state = {name: tensor.half().numpy() for name, tensor in network().state_dict().items()}
    state["0.weight"] = state["0.weight"].reshape(96, 64)
    state["unused.weight"] = np.ones((96, 64), np.float16)
    save_file(state, tmp_path / "model.safetensors")
    file = TensorFile(tmp_path / "model.safetensors")
    return FileWeights({name: (file, name) for name in state})


def solved_ahead(
    weights: FileWeights, spec: PaletteSpec
) -> tuple[Palettization, list[tuple[int, int]]]:
    """What the network gets, and the progress of the process."""
    seen: list[tuple[int, int]] = []
    with solving_ahead([weights.place("0.weight")[0]], spec, 2) as solving:
        known = solving.finish(lambda done, of: seen.append((done, of)))
    return palettize_module(network(), spec, weights=weights, known=known), seen


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_they_are_the_same(weights: FileWeights, spec: PaletteSpec) -> None:
    expected = palettize_module(network(), spec, weights=weights)
    found, seen = solved_ahead(weights, spec)
    assert seen == [(1, 3), (2, 3), (3, 3)]  # one of them for nothing
    assert found.records == expected.records
    assert found.by_parameter.keys() == expected.by_parameter.keys()
    for name, palette in expected.by_parameter.items():
        other = found.by_parameter[name]
        assert np.array_equal(other.lut, palette.lut)
        assert (other.shape, other.group_size) == (palette.shape, palette.group_size)


def test_what_was_solved_is_taken(weights: FileWeights) -> None:
    """A palette of another weight would be noticed: it is not solved a second time."""
    spec = PaletteSpec(4)
    with solving_ahead([weights.place("0.weight")[0]], spec, 1) as solving:
        known = solving.finish(lambda done, of: None)
    place = weights.place("0.weight")
    known[place] = known[weights.place("unused.weight")]
    found = palettize_module(network(), spec, weights=weights, known=known)
    expected = palettize_module(network(), spec, weights=weights)
    assert found.records != expected.records or not np.array_equal(
        found.by_parameter["0.weight"].lut, expected.by_parameter["0.weight"].lut
    )


def test_a_tensor_that_no_layer_uses_may_be_damaged(tmp_path: Path, weights: FileWeights) -> None:
    state = {name: weights.value(name) for name in ("0.weight", "1.weight", "2.weight")}
    state["unused.weight"] = np.full((64, 64), np.nan, np.float16)
    save_file(state, tmp_path / "other.safetensors")
    file = TensorFile(tmp_path / "other.safetensors")
    held = FileWeights({name: (file, name) for name in state})
    found, _ = solved_ahead(held, PaletteSpec(4))
    assert found.records == palettize_module(network(), PaletteSpec(4), weights=held).records


def test_a_process_that_is_ended_is_told(weights: FileWeights) -> None:
    with solving_ahead([weights.place("0.weight")[0]], PaletteSpec(4), 1) as solving:
        solving.child.kill()
        with pytest.raises(KilledError, match="--jobs 1"):
            solving.finish(lambda done, of: None)


def test_the_process_loads_no_torch() -> None:
    code = "import json, sys, coreml_sd.compress.solve_ahead, coreml_sd.compress.solve;"
    code += "print(json.dumps([m for m in ('torch', 'coreml_sd') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["coreml_sd"]


def test_a_palette_of_other_rows_is_not_taken(weights: FileWeights) -> None:
    """Groups are rows: a tensor that lies there in another shape has other ones."""
    spec, name = PaletteSpec(4, "per-grouped-channel", 16), "0.weight"
    turned = palettize(weights.value(name).reshape(64, 96), spec)
    known = {weights.place(name): turned}
    found = palettize_module(network(), spec, weights=weights, known=known).by_parameter[name]
    expected = palettize_module(network(), spec, weights=weights).by_parameter[name]
    assert np.array_equal(found.lut, expected.lut) and found.shape == expected.shape
