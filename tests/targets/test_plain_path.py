"""Our path and the plain one (trace, ct.convert) make programs that are the same, op by op."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import CoremlSDError
from coreml_sd.mobile import MobileOptions, mobile_form
from coreml_sd.models.open_model import open_model
from coreml_sd.runtimes.mil import MilNetwork, MilPackage
from coreml_sd.targets.coreml import passes
from coreml_sd.targets.coreml.export import PackageMetadata, export_package
from scripts.bench.plain_path import convert_plainly

METADATA = PackageMetadata("author", "licence", "description", "1", {})
CASES = [
    ("sd1", "text_encoder", "split-einsum", "iOS16", "float16"),
    ("sd2", "text_encoder", "original", "iOS17", "float16"),
    ("sd2", "text_encoder", "sdpa", "iOS18", "float16"),
    ("sd1", "text_encoder", "split-einsum-v2", "iOS17", "float32"),
    ("sd1", "unet", "split-einsum", "iOS17", "float16"),
    ("short_sd2", "unet", "split-einsum-v2", "iOS16", "float16"),
    ("short_sd2", "unet", "original", "iOS17", "float16"),
    ("short", "unet", "sdpa", "iOS18", "float16"),
    ("short_sd2", "unet", "split-einsum", "iOS17", "float32"),
    ("sd1", "vae_decoder", "original", "iOS16", "float16"),
    ("sd1", "vae_decoder", "sdpa", "iOS18", "float16"),
    ("sd1", "vae_encoder", "split-einsum", "iOS17", "float16"),
    ("sd1", "vae_encoder", "sdpa", "iOS18", "float32"),
]


def shape_of(package: MilPackage) -> list[Any]:
    """The program without the names that its ops and tensors happen to have."""
    numbers: dict[str, int] = {}
    known: dict[str, Any] = {}
    result: list[Any] = []
    program = package.programs[0]
    for name in [f.name for f in package.spec.description.input]:
        numbers[name] = len(numbers)
    for op in program.operations():
        if op.type == "const":
            (value,) = package.decode(op, known)
            known[op.outputs[0][0]] = value
            continue
        inputs = {}
        for key, argument in op.proto.inputs.items():
            inputs[key] = [
                constant(known[b.name]) if b.name in known else numbers[b.name]
                for b in argument.arguments
            ]
        result.append((op.type, sorted(inputs.items()), [o[1:] for o in op.outputs]))
        for output in op.outputs:
            numbers[output[0]] = len(numbers)
    result.append([(f.name, str(f.type)) for f in package.spec.description.output])
    return result


def constant(value: Any) -> Any:
    return value if isinstance(value, str) else (str(value.dtype), value.shape, value.tobytes())


@pytest.mark.parametrize(("family", "name", "attention", "min_os", "precision"), CASES)
def test_the_programs_are_the_same(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    family: str,
    name: str,
    attention: Any,
    min_os: str,
    precision: Any,
) -> None:
    folder = request.getfixturevalue(f"{family}_folder")
    component = open_model(ConversionConfig(model=str(folder))).component(name)
    opened = component.open()
    assert opened is not None
    options = MobileOptions(attention)
    ours, plain = tmp_path / "ours.mlpackage", tmp_path / "plain.mlpackage"
    common = {"min_os": min_os, "precision": precision}
    empty = mobile_form(name, opened.module, options)
    export_package(
        ours, empty, component.inputs, component.outputs, METADATA, weights=opened.weights, **common
    )
    loaded = mobile_form(name, component.load(), options)
    convert_plainly(plain, loaded, component.inputs, component.outputs, **common)
    assert shape_of(MilPackage(ours)) == shape_of(MilPackage(plain))
    assert MilPackage(ours).specification_version == MilPackage(plain).specification_version
    given = component.sample_inputs(0)
    expected, found = MilNetwork(plain).run(given), MilNetwork(ours).run(given)
    for key, value in expected.items():
        assert np.array_equal(value, found[key]), key


def test_a_pass_that_is_left_out_is_noticed(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [n for n in passes._BEFORE_CAST if n != "common::fuse_layernorm_or_instancenorm"]
    monkeypatch.setattr(passes, "_BEFORE_CAST", tuple(kept))
    component = open_model(ConversionConfig(model=str(sd1_folder))).component("text_encoder")
    network = mobile_form("text_encoder", component.load())
    ours, plain = tmp_path / "ours.mlpackage", tmp_path / "plain.mlpackage"
    specs = component.inputs, component.outputs
    export_package(ours, network, *specs, METADATA, min_os="iOS17")
    convert_plainly(plain, network, *specs, min_os="iOS17")
    assert shape_of(MilPackage(ours)) != shape_of(MilPackage(plain))


def test_a_converter_that_computes_with_a_weight_is_refused(
    sd1_folder: Path, tmp_path: Path
) -> None:
    """A stand-in that something folds would go into the file instead of the weight."""
    component = open_model(ConversionConfig(model=str(sd1_folder))).component("vae_decoder")
    network = mobile_form("vae_decoder", component.load())
    conv: Any = network.get_submodule("decoder.conv_in")
    forward = conv.forward
    conv.forward = lambda x: conv._conv_forward(x, conv.weight * 2, conv.bias)
    specs = component.inputs, component.outputs
    with pytest.raises(CoremlSDError, match=r"decoder\.conv_in\.weight is used by mul"):
        export_package(tmp_path / "a.mlpackage", network, *specs, METADATA, min_os="iOS17")
    conv.forward = forward


def test_a_fold_behind_the_layers_back_is_refused(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fuse_conv_scale would multiply the weights of a convolution by what follows it."""
    monkeypatch.setattr(passes, "_BEFORE_CAST", (*passes._BEFORE_CAST, "common::fuse_conv_scale"))
    component = open_model(ConversionConfig(model=str(sd1_folder))).component("vae_decoder")
    network = mobile_form("vae_decoder", component.load())
    conv: Any = network.get_submodule("decoder.conv_in")
    conv.forward = lambda x: conv._conv_forward(x, conv.weight, conv.bias) * 0.5
    specs = component.inputs, component.outputs
    with pytest.raises(CoremlSDError, match=r"decoder\.conv_in\.weight: the converter computed"):
        export_package(tmp_path / "a.mlpackage", network, *specs, METADATA, min_os="iOS17")


@pytest.mark.parametrize("damage", ["name", "order", "type"])
def test_the_check_of_a_program_finds_what_a_pass_could_break(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    honest = passes._run

    def broken(program: Any, names: Any) -> None:
        honest(program, names)
        if names is not passes._LAST:
            return
        layers = [op for op in program.functions["main"].operations if op.op_type == "conv"]
        if damage == "name":
            layers[1].outputs[0].name = layers[0].outputs[0].name
        elif damage == "order":
            program.functions["main"].operations = list(program.functions["main"].operations)[::-1]
        else:
            layers[0].outputs[0]._sym_type = layers[1].inputs["weight"].sym_type

    monkeypatch.setattr(passes, "_run", broken)
    component = open_model(ConversionConfig(model=str(sd1_folder))).component("vae_decoder")
    network = mobile_form("vae_decoder", component.load())
    specs = component.inputs, component.outputs
    with pytest.raises(CoremlSDError, match=r"not written|second time|declared"):
        export_package(tmp_path / "a.mlpackage", network, *specs, METADATA, min_os="iOS17")
