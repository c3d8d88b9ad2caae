"""The work-around does what it should, and its fault still exists.

A test that says "the work-around can go" fails with a newer version of litert-torch that no longer
has the fault: delete the work-around and this file.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.mobile.cut_table import CutEmbedding
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.models.component import TensorSpec
from coreml_sd.runtimes.litert.file import TFLiteFile
from coreml_sd.targets.tflite.export import export_tflite
from coreml_sd.upstream.litert_torch_faults import contiguous_weights

PARTS = 16
ROOT = Path(__file__).resolve().parents[2]
_PLAIN = f"""
import sys
import litert_torch, torch
from tests.upstream.test_litert_torch_faults import cut_table
network = cut_table(torch.nn.Embedding(50, {4 * PARTS})).eval()
ids = (torch.zeros(7, dtype=torch.int32),)
model = litert_torch.signature("main", network, ids).convert(lightweight_conversion=True)
model.export(sys.argv[1])
"""
IDS = TensorSpec("input_ids", (7,), "float32", "")


@pytest.fixture
def source() -> nn.Embedding:
    return nn.Embedding(50, 4 * PARTS)


@pytest.fixture
def network(source: nn.Embedding) -> StepSequence:
    return cut_table(source)


def cut_table(source: nn.Embedding) -> StepSequence:
    """A table in parts of equal size, all views of one weight."""
    cut = CutEmbedding(source, (4,) * PARTS)
    return StepSequence(
        [Step("table", cut, ("input_ids",), ("states",))], ["input_ids"], ["states"]
    )


def tables(path: Path) -> list[np.ndarray]:
    file = TFLiteFile(path)
    lookups = [op for op in file.graphs[0].ops if op.kind == "EMBEDDING_LOOKUP"]
    return [file.data(table) for op in lookups if (table := op.inputs[1]) is not None]


def test_every_part_is_stored(source: nn.Embedding, network: StepSequence, tmp_path: Path) -> None:
    export_tflite(tmp_path / "x.tflite", "text_encoder", network, [IDS])
    stored = np.concatenate(tables(tmp_path / "x.tflite"), axis=1)
    np.testing.assert_array_equal(stored, source.weight.detach().numpy())


def test_the_fault_still_exists(tmp_path: Path) -> None:
    """In a process of its own: whether a freed copy's address is given out again is up to what
    the process did before."""
    path = tmp_path / "x.tflite"
    done = subprocess.run(
        [sys.executable, "-c", _PLAIN, str(path)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if len(tables(path)) == PARTS:
        pytest.fail("parts are told apart without it: the work-around can go")


def test_views_return_after_use_and_after_a_failure(
    source: nn.Embedding, network: StepSequence
) -> None:
    with pytest.raises(RuntimeError), contiguous_weights(network):
        assert all(parameter.is_contiguous() for parameter in network.parameters())
        raise RuntimeError
    storage = source.weight.untyped_storage().data_ptr()
    for parameter in network.parameters():
        assert parameter.untyped_storage().data_ptr() == storage
        assert not parameter.is_contiguous()
