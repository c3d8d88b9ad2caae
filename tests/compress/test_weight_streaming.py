"""A network run with weights that are fetched, or replaced, for the op that reads one."""

import gc
from typing import Any

import pytest
import torch
from torch import nn

from coreml_sd.compress.weight_streaming import NetworkWeights, in_fp16
from coreml_sd.errors import CoremlSDError

SIDE, LAYERS = 128, 8
LAYER_BYTES = 4 * SIDE * SIDE


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(SIDE, SIDE) for _ in range(LAYERS)]
    return nn.Sequential(*layers, nn.LayerNorm(SIDE)).eval().requires_grad_(False)


def empty() -> nn.Sequential:
    return network().to("meta")


def as_convolutions(source: nn.Sequential) -> nn.Sequential:
    """A network of another kind that views the parameters of `source`, under their names."""
    made = nn.Sequential()
    for layer in source[:LAYERS]:
        conv = nn.Conv2d(SIDE, SIDE, 1, device="meta")
        conv.weight = nn.Parameter(layer.weight.detach()[:, :, None, None], requires_grad=False)
        conv.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
        made.append(conv)
    return made


def run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = module(x)
    return result


class Held:
    """Values as fp32 where a network of its own has them; counts what is asked for."""

    def __init__(self) -> None:
        self.parameters = dict(network().named_parameters())
        self.asked: list[str] = []
        self.most = 0

    def tensor(self, name: str) -> torch.Tensor:
        self.asked.append(name)
        self.most = max(self.most, alive())
        return self.parameters[name].detach()


def alive() -> int:
    """Bytes of all tensors that Python knows, each storage once."""
    tensors = [each for each in gc.get_objects() if type(each) in (torch.Tensor, nn.Parameter)]
    storages = [each.untyped_storage() for each in tensors if each.device.type == "cpu"]
    return sum({each._cdata: each.nbytes() for each in storages}.values())


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, SIDE, generator=torch.Generator().manual_seed(1))


def test_a_network_without_weights_computes_what_the_whole_one_does(x: torch.Tensor) -> None:
    lean = empty()
    with NetworkWeights(lean, Held()).given_to(lean):
        result = run(lean, x)
    assert torch.equal(result, run(network(), x))
    assert all(parameter.is_meta for parameter in lean.parameters())


def test_negative_control_another_weight_is_another_result(x: torch.Tensor) -> None:
    lean, held = empty(), Held()
    held.parameters["3.weight"] = nn.Parameter(held.parameters["3.weight"].flip(0))
    with NetworkWeights(lean, held).given_to(lean):
        assert not torch.equal(run(lean, x), run(network(), x))


def test_one_weight_is_there_at_a_time(x: torch.Tensor) -> None:
    lean, held = empty(), Held()
    gc.collect()
    before = alive()
    with NetworkWeights(lean, held).given_to(lean):
        run(lean, x)
    assert len(held.asked) == 2 * LAYERS + 2
    assert held.most - before < 2 * LAYER_BYTES


def test_changed_weights_are_not_held_beside_the_network(x: torch.Tensor) -> None:
    source = network()
    most = 0

    def values(name: str, parameter: torch.Tensor) -> torch.Tensor:
        nonlocal most
        most = max(most, alive())
        return parameter.half()

    gc.collect()
    before = alive()
    with NetworkWeights(source).given_to(source, source, values):
        run(source, x)
    assert most - before < 3 * LAYER_BYTES


def test_what_views_the_parameters_is_given_them_too(x: torch.Tensor) -> None:
    lean = empty()
    views = as_convolutions(lean)
    with NetworkWeights(lean, Held()).given_to(views):
        result = run(views, x[:, :, None, None])
    assert torch.equal(result, run(as_convolutions(network()), x[:, :, None, None]))


@pytest.mark.parametrize("lean", [False, True])
def test_a_change_is_seen_by_all_that_view_the_parameter(x: torch.Tensor, lean: bool) -> None:
    source = empty() if lean else network()
    expected = network()
    for layer in expected[:LAYERS]:
        layer.half().float()
    assert "8.weight" not in dict(as_convolutions(source).named_parameters())
    with NetworkWeights(source, Held() if lean else None).given_to(source, as_convolutions(source)):
        result = run(source, x)
    assert torch.equal(result, run(expected, x))
    assert not torch.equal(result, run(network(), x))


def test_parts_of_a_parameter_change_by_themselves(x: torch.Tensor) -> None:
    """As a table that is cut along its columns, each part with a scale of its own."""
    source = network()
    parts = nn.Module()
    weight = source[0].weight.detach()
    parts.left = nn.Parameter(weight[:, :40], requires_grad=False)
    parts.right = nn.Parameter(weight[:, 40:], requires_grad=False)
    seen = {}

    def values(name: str, parameter: torch.Tensor) -> torch.Tensor:
        seen[name] = parameter.clone()
        return parameter * (2 if name == "left" else 3)

    expected = network()
    expected[0].weight[:, :40] *= 2
    expected[0].weight[:, 40:] *= 3
    with NetworkWeights(source).given_to(source, parts, values):
        assert torch.equal(run(source, x), run(expected, x))
    assert torch.equal(seen["left"], parts.left) and torch.equal(seen["right"], parts.right)


def test_the_network_is_as_it_was_afterwards_and_after_an_error() -> None:
    source = network()
    before = dict(source.named_parameters())
    with pytest.raises(RuntimeError), NetworkWeights(source).given_to(source, source, in_fp16):
        weight: Any = source[0].weight
        assert torch.equal(weight + 0, before["0.weight"].half().float())
        raise RuntimeError
    after = dict(source.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert all(
        torch.equal(p, q) for p, q in zip(after.values(), network().parameters(), strict=True)
    )


def test_shapes_and_types_are_told_without_values() -> None:
    lean, held = empty(), Held()
    with NetworkWeights(lean, held).given_to(lean):
        weight = lean[0].weight
        assert (weight.shape, weight.dtype) == ((SIDE, SIDE), torch.float32)
        assert (weight.device.type, weight.size(0), weight.ndim) == ("cpu", SIDE, 2)
    assert not held.asked


def test_a_parameter_that_is_nowhere_is_an_error(x: torch.Tensor) -> None:
    lean, other = empty(), empty()
    with (
        pytest.raises(CoremlSDError, match="none of its source's"),
        NetworkWeights(lean, Held()).given_to(other),
    ):
        run(other, x)
    with (
        pytest.raises(CoremlSDError, match=r"0\.weight: .*without values"),
        NetworkWeights(lean).given_to(lean),
    ):
        run(lean, x)


def test_parts_that_share_values_are_made_of_the_original(x: torch.Tensor) -> None:
    """The later one has what both view."""
    source, expected, parts = network(), network(), nn.Module()
    weight = source[0].weight.detach()
    parts.left = nn.Parameter(weight[:, :80], requires_grad=False)
    parts.right = nn.Parameter(weight[:, 40:], requires_grad=False)
    expected[0].weight[:, :40] *= 2
    expected[0].weight[:, 40:] *= 3

    def values(name: str, parameter: torch.Tensor) -> torch.Tensor:
        return parameter * (2 if name == "left" else 3)

    with NetworkWeights(source).given_to(source, parts, values):
        assert torch.equal(run(source, x), run(expected, x))
