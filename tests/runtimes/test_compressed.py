"""All kinds of compressed weights, against coremltools' own decompression."""

from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from torch import nn

from coreml_sd.runtimes.mil import MilNetwork, MilPackage

X = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(1))


def palettes(**options: Any) -> Any:
    return lambda m: cto.palettize_weights(
        m, cto.OptimizationConfig(cto.OpPalettizerConfig(weight_threshold=64, **options))
    )


def linear(**options: Any) -> Any:
    return lambda m: cto.linear_quantize_weights(
        m, cto.OptimizationConfig(cto.OpLinearQuantizerConfig(weight_threshold=64, **options))
    )


def pruned(m: Any) -> Any:
    config = cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=64)
    return cto.prune_weights(m, cto.OptimizationConfig(config))


def pruned_then(second_config: Any) -> Any:
    return lambda m: second_config(pruned(m))


RECIPES = {
    "palette-6": ("iOS16", palettes(mode="uniform", nbits=6), "constexpr_lut_to_dense"),
    "palette-6-18": ("iOS18", palettes(mode="uniform", nbits=6), "constexpr_lut_to_dense"),
    "palette-3-18": ("iOS18", palettes(mode="uniform", nbits=3), "constexpr_lut_to_dense"),
    "palette-1": ("iOS16", palettes(mode="uniform", nbits=1), "constexpr_lut_to_dense"),
    "palette-grouped": (
        "iOS18",
        palettes(mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=8),
        "constexpr_lut_to_dense",
    ),
    "int8": ("iOS16", linear(mode="linear_symmetric"), "constexpr_affine_dequantize"),
    "int8-offset": ("iOS16", linear(mode="linear"), "constexpr_affine_dequantize"),
    "int8-18": ("iOS18", linear(mode="linear"), "constexpr_blockwise_shift_scale"),
    "int4-block": (
        "iOS18",
        linear(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=4),
        "constexpr_blockwise_shift_scale",
    ),
    "pruned": ("iOS16", pruned, "constexpr_sparse_to_dense"),
    "pruned-18": ("iOS18", pruned, "constexpr_sparse_to_dense"),
    "pruned-palette": (
        "iOS18",
        lambda m: cto.palettize_weights(
            pruned(m),
            cto.OptimizationConfig(
                cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=64)
            ),
            joint_compression=True,
        ),
        "constexpr_lut_to_sparse",
    ),
    "pruned-int8": (
        "iOS18",
        lambda m: cto.linear_quantize_weights(
            pruned(m),
            cto.OptimizationConfig(cto.OpLinearQuantizerConfig(weight_threshold=64)),
            joint_compression=True,
        ),
        "constexpr_sparse_blockwise_shift_scale",
    ),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3)).eval()


@pytest.mark.parametrize("name", RECIPES)
def test_decoded_weights_equal_coremltools(name: str, tmp_path: Path) -> None:
    target, recipe, kind = RECIPES[name]
    model = ct.convert(
        torch.jit.trace(network(), X),
        inputs=[ct.TensorType(name="x", shape=X.shape)],
        outputs=[ct.TensorType(name="y")],
        minimum_deployment_target=getattr(ct.target, target),
        skip_model_load=True,
    )
    recipe(model).save(str(tmp_path / "small.mlpackage"))
    small = ct.models.MLModel(str(tmp_path / "small.mlpackage"), skip_model_load=True)
    cto.decompress_weights(small).save(str(tmp_path / "dense.mlpackage"))
    assert kind in MilPackage(tmp_path / "small.mlpackage").op_histogram()
    assert not any(
        "constexpr" in k for k in MilPackage(tmp_path / "dense.mlpackage").op_histogram()
    )
    given = {"x": X.numpy()}
    small_y = MilNetwork(tmp_path / "small.mlpackage").run(given)["y"]
    dense_y = MilNetwork(tmp_path / "dense.mlpackage").run(given)["y"]
    np.testing.assert_array_equal(small_y, dense_y)


def test_a_palette_index_out_of_range_is_an_error() -> None:
    from coreml_sd.errors import UserError
    from coreml_sd.runtimes.mil.constexpr import lut_to_dense

    lut = np.zeros((1, 1, 4, 1), np.float16)
    with pytest.raises(UserError, match="index 4 for 4 entries"):
        lut_to_dense(indices=np.full((2, 2), 4, np.uint8), lut=lut)


def test_vector_palettes() -> None:
    from coreml_sd.runtimes.mil.constexpr import lut_to_dense

    lut = np.arange(8, dtype=np.float16).reshape(1, 1, 4, 2)
    indices = np.array([[0, 1], [2, 3]], np.uint8)
    (dense,) = lut_to_dense(indices=indices, lut=lut, vector_axis=np.int32(0))
    np.testing.assert_array_equal(dense, [[0, 2], [1, 3], [4, 6], [5, 7]])


def test_constexpr_cast() -> None:
    from coreml_sd.runtimes.mil.constexpr import cast

    (value,) = cast(source_val=np.array([0.5], np.float16), output_dtype="fp32")
    assert value.dtype == np.float32 and value[0] == 0.5


def test_affine_weights_are_shifted_and_scaled() -> None:
    """By a zero point and a scale for each row."""
    from coreml_sd.runtimes.mil.constexpr import affine_dequantize

    (dense,) = affine_dequantize(
        quantized_data=np.array([[1, 2], [3, 4]], np.uint8),
        scale=np.array([0.5, 2.0], np.float16),
        zero_point=np.array([1, 5], np.uint8),
        axis=np.int32(0),
    )
    assert dense.dtype == np.float16
    np.testing.assert_array_equal(dense, [[0.0, 0.5], [-4.0, -2.0]])
