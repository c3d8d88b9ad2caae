"""What is left out of an export changes no byte of the file."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.targets.tflite import export
from coreml_sd.upstream import torch_distinct_calls as distinct_calls
from coreml_sd.upstream import torch_export_shortcuts as lean_export
from tests.helpers.tiny_tflite import exported


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    yield


@pytest.fixture(scope="module")
def plain(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "lean_export", nothing)
        return content(sd1_folder, tmp_path_factory.mktemp("plain"))


def content(folder: Path, work: Path) -> bytes:
    return exported(folder, "text_encoder", work / "x.tflite").read_bytes()


def test_the_file_is_the_same_byte_for_byte(sd1_folder: Path, tmp_path: Path, plain: bytes) -> None:
    assert content(sd1_folder, tmp_path) == plain


def test_negative_control_without_provenance_names_are_lost(
    sd1_folder: Path, tmp_path: Path, plain: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distinct_calls, "_provenance", lambda node: {})
    assert content(sd1_folder, tmp_path) != plain


def replaced() -> tuple[object, ...]:
    return GraphModule.recompile, ExportedProgram.run_decompositions


def test_everything_is_put_back() -> None:
    before = replaced()
    with pytest.raises(ZeroDivisionError), lean_export.lean_export():
        assert all(now is not own for now, own in zip(replaced(), before, strict=True))
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert replaced() == before and gc.isenabled()


def test_a_graph_is_compiled_when_it_is_called() -> None:
    with lean_export.lean_export():
        module = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU()))
        for node in module.graph.find_nodes(op="call_module"):
            with module.graph.inserting_after(node):
                doubled = module.graph.call_function(torch.mul, (node, 2))
            node.replace_all_uses_with(doubled)
            doubled.args = (node, 2)
        module.recompile()
        assert module(torch.tensor(3.0)) == 6
    assert module(torch.tensor(4.0)) == 8
