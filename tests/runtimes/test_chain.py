"""Chunks as one network, and what any network refuses to take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from coreml_sd.errors import UserError
from coreml_sd.runtimes.base import Array, TensorInfo, check_inputs
from coreml_sd.runtimes.chain import Chain


def info(name: str) -> TensorInfo:
    return TensorInfo(name, (2,), "float32")


class Sum:
    """Adds its inputs."""

    def __init__(self, inputs: str, output: str) -> None:
        self.inputs = {name: info(name) for name in inputs}
        self.outputs = {output: info(output)}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert inputs.keys() == self.inputs.keys()
        return {name: np.sum(list(inputs.values()), axis=0) for name in self.outputs}

    def close(self) -> None:
        pass


def test_each_chunk_reads_what_an_earlier_one_made() -> None:
    chain = Chain("unet", [Sum("ab", "x"), Sum("xb", "y"), Sum("xyc", "z")])
    assert list(chain.inputs) == ["a", "b", "c"] and list(chain.outputs) == ["z"]
    found = chain.run({"a": np.full(2, 1), "b": np.full(2, 10), "c": np.full(2, 100)})
    assert found.keys() == {"z"}
    np.testing.assert_array_equal(found["z"], [11 + 21 + 100] * 2)


def test_no_chunks_are_no_network() -> None:
    with pytest.raises(UserError, match="unet: no files"):
        Chain("unet", [])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": np.zeros(2), "x": np.zeros(2)}, "no input x"),
        ({}, "input a is missing"),
        ({"a": np.zeros(3)}, r"input a has shape \(3,\), needs \(2,\)"),
        ({"a": np.zeros((2, 1))}, "input a has shape"),
    ],
)
def test_wrong_inputs_are_named(given: dict[str, Array], message: str) -> None:
    with pytest.raises(UserError, match=f"net: {message}"):
        check_inputs("net", {"a": info("a")}, given)
