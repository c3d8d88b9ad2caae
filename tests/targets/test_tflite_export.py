"""The exported file: names and shapes of the component, and only what a phone's GPU takes."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("litert_torch", reason="the extra `android` is not installed")

from coreml_sd.errors import CoremlSDError
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.steps import Step, StepSequence
from coreml_sd.mobile.transformer import MobileTransformer
from coreml_sd.models.component import TensorSpec
from coreml_sd.runtimes.litert.file import Op, TFLiteFile
from coreml_sd.targets.tflite.export import export_tflite
from coreml_sd.upstream.noise import quiet_native
from tests.helpers.tiny_tflite import TinyFile, TinyFiles

COMPONENTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")


@pytest.fixture(params=COMPONENTS)
def tiny(request: pytest.FixtureRequest, tiny_files: TinyFiles, sd1_folder: Path) -> TinyFile:
    return tiny_files(sd1_folder, request.param)


@pytest.fixture
def file(tiny: TinyFile) -> TFLiteFile:
    return TFLiteFile(tiny.unquantized)


@pytest.fixture
def unet(tiny_files: TinyFiles, sd1_folder: Path) -> TinyFile:
    return tiny_files(sd1_folder, "unet")


class TestInterface:
    def test_one_signature_named_after_the_component(
        self, tiny: TinyFile, file: TFLiteFile
    ) -> None:
        assert [signature.key for signature in file.signatures] == [tiny.component.name]
        assert len(file.graphs) == 1

    def test_inputs_are_those_of_the_core_ml_file(self, tiny: TinyFile, file: TFLiteFile) -> None:
        declared = file.signatures[0].inputs
        expected = {spec.name: spec.shape for spec in tiny.component.inputs}
        assert {name: tensor.shape for name, tensor in declared.items()} == expected

    def test_outputs_are_too_but_for_the_pooled_one(self, tiny: TinyFile, file: TFLiteFile) -> None:
        """Picking the pooled output of a text encoder needs ops that the GPU delegate has not."""
        declared = file.signatures[0].outputs
        expected = {spec.name: spec.shape for spec in tiny.component.outputs}
        expected.pop("pooled_outputs", None)
        assert {name: tensor.shape for name, tensor in declared.items()} == expected

    def test_token_ids_are_int32_and_all_else_is_float32(self, file: TFLiteFile) -> None:
        signature = file.signatures[0]
        for name, tensor in {**signature.inputs, **signature.outputs}.items():
            assert tensor.dtype == ("int32" if name == "input_ids" else "float32")


class TestTensors:
    def test_none_is_int64(self, file: TFLiteFile) -> None:
        kinds = {tensor.dtype for graph in file.graphs for tensor in graph.tensors}
        assert kinds == {"float32", "int32"}

    def test_none_has_more_than_four_axes(self, file: TFLiteFile) -> None:
        assert max(len(t.shape) for graph in file.graphs for t in graph.tensors) == 4

    def test_every_shape_is_static(self, file: TFLiteFile) -> None:
        tensors = [tensor for graph in file.graphs for tensor in graph.tensors]
        assert not any(tensor.is_dynamic for tensor in tensors)
        assert all(size > 0 for tensor in tensors for size in tensor.shape)


class TestOps:
    def test_nothing_is_broadcast_gathered_or_custom(self, file: TFLiteFile) -> None:
        refused = {
            "BROADCAST_TO",
            "GATHER",
            "GATHER_ND",
            "STABLEHLO_COMPOSITE",
            "CUSTOM",
            "SQUEEZE",
        }
        assert not refused & file.op_counts().keys()

    def test_no_fully_connected_op_holds_a_weight(self, file: TFLiteFile) -> None:
        """The one-headed attention of a VAE multiplies two computed tensors with such an op."""
        products = [op for op in file.graphs[0].ops if op.kind == "FULLY_CONNECTED"]
        assert not any(t is not None and t.is_constant for op in products for t in op.inputs)
        if file.signatures[0].key in ("unet", "text_encoder"):
            assert not products

    def test_every_linear_layer_became_one_convolution(
        self, tiny: TinyFile, file: TFLiteFile
    ) -> None:
        layers = [m for m in tiny.form.network.modules() if isinstance(m, nn.Conv2d)]
        assert file.op_counts()["CONV_2D"] == len(layers)

    def test_the_stored_weights_are_those_of_the_network(
        self, tiny: TinyFile, file: TFLiteFile
    ) -> None:
        stored = sum(t.elements for t in file.graphs[0].tensors if t.dtype == "float32"
                     and t.is_constant)  # fmt: skip
        assert stored >= sum(p.numel() for p in tiny.form.network.parameters())

    def test_a_layer_names_the_module_that_an_op_was_made_from(
        self, tiny: TinyFile, file: TFLiteFile
    ) -> None:
        unknown = [op for op in file.graphs[0].ops if not is_made_from(op, tiny.form.network)]
        assert {op.layer for op in unknown} <= {
            f"{tiny.component.name}_{name}_output" for name in file.signatures[0].outputs
        }

    def test_negative_control_layers_of_another_network(
        self, tiny_files: TinyFiles, sd1_folder: Path
    ) -> None:
        encoder = TFLiteFile(tiny_files(sd1_folder, "vae_encoder").unquantized)
        decoder = tiny_files(sd1_folder, "vae_decoder").form.network
        assert not any(is_made_from(op, decoder) for op in encoder.graphs[0].ops)


def is_made_from(op: Op, network: StepSequence) -> bool:
    """Whether a layer names a step of the network and, after it, modules inside of that step.

    Containers are left out of the name, a convolution that is fused with a product behind it is
    named after the module around both.
    """
    step, *inner = op.layer.split(".")
    owners = [s.module for s in network.steps if s.name.replace(".", "_") == step]
    paths = [path.split(".") for owner in owners for path, _ in owner.named_modules()]
    return any(_in_order(inner, path) for path in paths)


def _in_order(names: list[str], path: list[str]) -> bool:
    rest = iter(path)
    return all(name in rest for name in names)


class TestTransposesAndReshapes:
    """T1.1: bodies of transformers stay four-axed, so that reshapes and transposes cancel."""

    def test_four_transposes_an_attention_and_three_at_the_border(self, unet: TinyFile) -> None:
        counts = TFLiteFile(unet.unquantized).op_counts()
        attentions = [n for n, _ in unet.source.named_modules() if n.endswith(("attn1", "attn2"))]
        assert counts["TRANSPOSE"] == 4 * len(attentions) + len(("sample", "context", "noise"))

    def test_fewer_than_the_naive_form_and_than_the_published(
        self, three_forms: dict[str, Counter[str]]
    ) -> None:
        ours, published, naive = (three_forms[n] for n in ("ours", "published", "naive"))
        assert naive["TRANSPOSE"] > 2 * published["TRANSPOSE"]
        assert ours["TRANSPOSE"] <= published["TRANSPOSE"]
        assert ours["RESHAPE"] < published["RESHAPE"] < naive["RESHAPE"]
        assert published["FULLY_CONNECTED"] == 10 and ours["FULLY_CONNECTED"] == 0
        assert ours["CONV_2D"] == naive["CONV_2D"] == published["CONV_2D"] + 10

    def test_a_whole_network_has_less_than_half_of_them(
        self, unet: TinyFile, tmp_path: Path
    ) -> None:
        inputs = {spec.name: torch.zeros(spec.shape) for spec in unet.component.inputs}
        published = unet.component.published(unet.source)
        straight = exported(published, tmp_path / "x.tflite", *inputs.values())
        assert 2 * TFLiteFile(unet.unquantized).op_counts()["TRANSPOSE"] < straight["TRANSPOSE"]

    def test_negative_control_a_group_norm_as_published_is_broadcast(self, tmp_path: Path) -> None:
        net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.GroupNorm(2, 8))
        counts = exported(net, tmp_path / "x.tflite", input=torch.zeros(1, 4, 8, 8))
        assert counts["BROADCAST_TO"] == 2


class NaiveLinear(nn.Module):
    """A linear layer as a 1x1 convolution where it stands, on `(B, S, C)`."""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.conv = nn.Conv2d(source.in_features, source.out_features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.transpose(1, 2)[:, :, None]).squeeze(2).transpose(1, 2)


class Published(nn.Module):
    """A transformer of diffusers with the context as our networks take it."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.source = source

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        states = context.squeeze(2).transpose(1, 2)
        return self.source(x, encoder_hidden_states=states).sample


@pytest.fixture(scope="module")
def three_forms(
    tiny_files: TinyFiles, sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Counter[str]]:
    """Op counts of one transformer: ours, as published, and with naive convolutions."""
    folder = tmp_path_factory.mktemp("forms")
    source = tiny_files(sd1_folder, "unet").component.load().down_blocks[0].attentions[0]
    options = MobileOptions("batched", layout="channels-last", batch=2)
    inputs = {"x": torch.zeros(2, 32, 8, 8), "context": torch.zeros(2, 32, 1, 77)}
    counts = {
        "ours": exported(MobileTransformer(source, options), folder / "ours.tflite", **inputs),
        "published": exported(Published(source), folder / "published.tflite", **inputs),
    }
    for name, layer in list(source.named_modules()):
        if type(layer) is nn.Linear:
            parent, _, leaf = name.rpartition(".")
            setattr(source.get_submodule(parent), leaf, NaiveLinear(layer))
    counts["naive"] = exported(Published(source), folder / "naive.tflite", **inputs)
    return counts


def exported(
    module: nn.Module, path: Path, *inputs: torch.Tensor, **named: torch.Tensor
) -> Counter[str]:
    """Op counts of any module, exported as it is."""
    import litert_torch

    with quiet_native():
        model = litert_torch.signature(
            "main", module.eval(), sample_args=inputs, sample_kwargs=named
        )
        model.convert(lightweight_conversion=True).export(str(path))
    return Counter(TFLiteFile(path).op_counts())


class Forked(nn.Module):
    """Control flow that depends on values, which no exporter can trace."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_is_one_error_that_names_the_file(tmp_path: Path) -> None:
    network = StepSequence([Step("fork", Forked(), ("x",), ("y",))], ["x"], ["y"])
    path = tmp_path / "Unet.fp32"
    with pytest.raises(CoremlSDError, match=r"Unet\.fp32: litert-torch could not convert it"):
        export_tflite(path, "unet", network, [TensorSpec("x", (1, 4), "float32", "")])
    assert not path.exists()
