"""The graph of each exported UNet of MobileDiffusion proves its switches; one switched back fails.

Maps of the full size, 64x64 to 16x16, with few channels: tokens and counts are those of `md`.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.costs.attention_graph import AttentionGraph
from coreml_sd.targets.saved_files import attentions
from tests.helpers.shared_folder import SharedFolder
from tests.helpers.tiny_md import SWITCHED_BACK, tiny_unet
from tests.helpers.tiny_tflite import TinyFiles

HEADS, BATCH = 4, 2  # 64 channels of 16 in the middle
INNER, OUTER, TEXT = 256, 1024, 77
# 2 blocks of 2 layers down, 1 of 1 in the middle, 3 of 1 on the way up, self and cross; and
# cross-attention alone behind 1 + 2 blocks at 32x32.
INNER_LAYERS = 2 * 2 + 1 + 3
ATTENTIONS = 2 * INNER_LAYERS + 3
SEPARABLE_BLOCKS = 2 + 1 + 3
# The blocks stay few: no promise is about them, and each takes time to export.
ALL_BACK = {**SWITCHED_BACK, "pruned_blocks": True, "block_out_channels": (32, 32, 64, 64)}


def holds(graph: AttentionGraph) -> dict[str, bool]:
    """Each promise of the issue on the UNet's files."""
    return {
        "weighing": graph.softmax == 0 and graph.relu > 0,
        "gate": graph.gelu == 0,
        "shared_key_value": (graph.shared, graph.separate) == (ATTENTIONS, 0),
        "separable_convolutions": graph.depthwise == 2 * SEPARABLE_BLOCKS,
        "decoupled_attention": graph.longest == OUTER
        and {keys for _, queries, keys in graph.scores if queries == OUTER} == {TEXT},
        "largest scores": graph.largest[1:] == (INNER, INNER),
    }


@pytest.fixture(scope="module")
def with_unet(md_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder at 64x64 whose UNet has these switches back."""

    def make(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("models") / "wide"
        shutil.copytree(md_folder, folder)
        shutil.rmtree(folder / "unet")
        tiny_unet(sample_size=64, **changes).save_pretrained(folder / "unet")
        return folder

    return make


def package_graph(folder: Path, path: Path, **config: Any) -> AttentionGraph:
    made = ConversionConfig(model=str(folder), components=["unet"], **config)
    return attentions(*convert(made, path, verify=False, resume=False).files("unet", "coreml"))


@pytest.mark.parametrize("attention", ["split-einsum", "split-einsum-v2", "original", "sdpa"])
def test_a_package_keeps_every_promise(with_unet: Any, tmp_path: Path, attention: str) -> None:
    config = {"attention": attention, "min_os": "iOS18", "chunks": "2", "palettize": 6}
    graph = package_graph(with_unet(), tmp_path / "b", **config)
    assert all(holds(graph).values()), (holds(graph), graph)
    assert graph.largest == (BATCH * HEADS, INNER, INNER)
    assert graph.scores[graph.largest] == INNER_LAYERS


@pytest.mark.parametrize(
    "switch",
    ["weighing", "gate", "shared_key_value", "separable_convolutions", "decoupled_attention"],
)
def test_a_switch_back_breaks_its_promise_in_a_package(
    with_unet: Any, tmp_path: Path, switch: str
) -> None:
    folder = with_unet(**{switch: SWITCHED_BACK[switch]})
    found = holds(package_graph(folder, tmp_path / "b", attention="original"))
    assert not found.pop(switch)
    if switch == "decoupled_attention":  # more attentions, and the largest ones of all
        found = {
            name: kept
            for name, kept in found.items()
            if name not in ("shared_key_value", "largest scores")
        }
    assert all(found.values()), found


def tflite_graph(shared: SharedFolder, files: TinyFiles, folder: Path) -> AttentionGraph:
    from coreml_sd.models.open_model import open_model
    from coreml_sd.targets.tflite.profiles import profile
    from coreml_sd.targets.tflite.quantize import quantize_file
    from coreml_sd.targets.tflite.rewrites import android_form

    spec = open_model(ConversionConfig(model=str(folder), targets=["tflite"])).component("unet")
    form = android_form(spec, spec.load(), profile("gpu"))
    whole, small = folder / "Unet.fp32", folder / "Unet.tflite"
    files.exporter.file(whole, "unet", form.network, spec.inputs)
    quantize_file(whole, small, "int8")
    return attentions(small)


def test_a_tflite_file_keeps_every_promise(
    with_unet: Any, shared_folder: SharedFolder, tiny_files: TinyFiles
) -> None:
    graph = tflite_graph(shared_folder, tiny_files, with_unet())
    assert all(holds(graph).values()), (holds(graph), graph)
    assert graph.largest == (BATCH * HEADS, INNER, INNER)


def test_every_switch_back_breaks_every_promise_in_a_tflite_file(
    with_unet: Any, shared_folder: SharedFolder, tiny_files: TinyFiles
) -> None:
    graph = tflite_graph(shared_folder, tiny_files, with_unet(**ALL_BACK))
    assert not any(holds(graph).values()), (holds(graph), graph)
    assert graph.longest == 4096
