"""Equal calls are retraced once, and the program is the one that torch makes of all of them."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import ExportedProgram

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.upstream import plain
from coreml_sd.upstream import torch_distinct_calls as distinct_calls
from coreml_sd.upstream.torch_distinct_calls import by_distinct_calls
from tests.helpers.calculation import calculation
from tests.helpers.shared_folder import SharedFolder
from tests.helpers.short_unet import SHORT, with_unet
from tests.helpers.tiny_tflite import TinyFiles, exported

WHOLE = ExportedProgram.run_decompositions
Counted = Callable[[nn.Module, torch.Tensor], tuple[ExportedProgram, list[int]]]


@contextlib.contextmanager
def every_call() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plain.VARIABLE, "distinct-calls")
        yield


@pytest.fixture(scope="module")
def short_xl_folder(shared_folder: SharedFolder, xl_folder: Path) -> Path:
    """Its UNet has one level with a transformer of two layers."""
    short = {**SHORT, "transformer_layers_per_block": 2}
    return shared_folder.once("short-xl", lambda path: with_unet(xl_folder, path, **short))


@pytest.mark.parametrize(
    ("family", "component"),
    [
        ("short_xl", "unet"),
        ("md", "vae_decoder"),
        pytest.param("sd1", "unet", marks=pytest.mark.slow),
        pytest.param("xl", "unet", marks=pytest.mark.slow),
        pytest.param("md", "unet", marks=pytest.mark.slow),
    ],
)
def test_the_file_calculates_the_same(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tiny_files: TinyFiles,
    family: str,
    component: str,
) -> None:
    folder = request.getfixturevalue(f"{family}_folder")
    ours = tiny_files(folder, component).unquantized
    with every_call():
        plain = exported(folder, component, tmp_path / "plain.tflite")
    assert calculation(ours) == calculation(plain)


def test_negative_control_another_weight_is_another_calculation(
    sd1_folder: Path, tmp_path: Path, tiny_files: TinyFiles
) -> None:
    source = tiny_files(sd1_folder, "vae_encoder").unquantized
    before = calculation(source)
    content = bytearray(source.read_bytes())
    path = tmp_path / "x.tflite"
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert calculation(path) != before


def test_negative_control_constants_tell_calls_apart(
    sd1_folder: Path, tmp_path: Path, tiny_files: TinyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_files(sd1_folder, "vae_encoder").unquantized
    described = distinct_calls._described

    def forgetful(argument: Any, values: Any) -> Any:
        return type(argument) if isinstance(argument, int) else described(argument, values)

    monkeypatch.setattr(distinct_calls, "_described", forgetful)
    try:
        assert calculation(exported(sd1_folder, "vae_encoder", tmp_path / "x")) != calculation(
            plain
        )
    except Exception as error:
        assert not isinstance(error, AssertionError)  # shapes that do not fit


@pytest.fixture
def counted() -> Counted:
    """Decomposes a module by distinct calls; also how many calls torch was given each time."""

    def run(module: nn.Module, x: torch.Tensor) -> tuple[ExportedProgram, list[int]]:
        program = torch.export.export(module.eval(), (x,))
        counts = []

        def decompose(each: ExportedProgram, table: Any) -> ExportedProgram:
            counts.append(sum(node.op == "call_function" for node in each.graph.nodes))
            return WHOLE(each, table)

        ours = by_distinct_calls(decompose)(program, None)
        whole = WHOLE(program)
        assert ops(ours) == ops(whole)
        value = torch.randn(x.shape)
        torch.testing.assert_close(
            ours.module()(value), whole.module()(value), rtol=0, atol=0, equal_nan=True
        )
        return ours, counts

    return run


def ops(program: ExportedProgram) -> Counter[str]:
    return Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")


class Made(nn.Module):
    def __init__(self, make: Callable[[torch.Tensor], torch.Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.make, self.layers = make, nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(self.make(x))


def test_equal_layers_are_retraced_once(counted: Counted) -> None:
    layers = [nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.SiLU()) for _ in range(20)]
    program, counts = counted(Made(lambda x: x, *layers), torch.randn(2, 8))
    assert counts == [3] and len(ops(program)) > 3
    names = {node.meta["nn_module_stack"].popitem()[1][0] for node in program.graph.nodes
             if node.op == "call_function"}  # fmt: skip
    assert len(names) == 60  # each call keeps the layer that it stands in


@pytest.mark.parametrize(
    "make",
    [
        lambda x: torch.copysign(x, torch.full_like(x, 0.0)) / torch.full_like(x, -0.0),
        lambda x: (x.transpose(0, 1).reshape(-1) * 2 + x.reshape(-1) * 2).view(x.shape),
        lambda x: torch.cat([x.chunk(2, 1)[1], x.chunk(2, 1)[0] * x.chunk(2, 1)[0]], 1),
        lambda x: x.clamp(0, 1) + x.clamp(0.0, 1.0) + x.sum(1, True) + x.sum(0, False),
        lambda x: x + torch.arange(8) + torch.arange(8),
        lambda x: x.to(torch.float32).contiguous().reshape(8, 8) * x.t().contiguous(),
    ],
    ids=[
        "signed zeros",
        "strides",
        "several results",
        "kinds of constants",
        "no inputs",
        "calls that do nothing",
    ],
)
def test_what_differs_a_little_is_told_apart(counted: Counted, make: Any) -> None:
    counted(Made(make), torch.randn(8, 8))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: (x * 2).add_(1),
        lambda x: x.as_strided((4, 4), (1, 8)),
        lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
    ],
    ids=["in place", "storage", "states"],
)
def test_what_depends_on_more_is_left_to_torch(counted: Counted, make: Any) -> None:
    program = torch.export.export(Made(make), (torch.randn(8, 8),))
    given: list[ExportedProgram] = []

    def noted(each: ExportedProgram, table: Any) -> ExportedProgram:
        given.append(each)
        return WHOLE(each, table)

    by_distinct_calls(noted)(program, None)
    counted(Made(make), torch.randn(8, 8))
    assert program in given
