"""Weights of the mobile form: views of the source's storage under the source's names."""

from __future__ import annotations

import torch
from torch import nn

from coreml_sd.errors import UserError
from coreml_sd.upstream.torch_tensors import storage_key


def shared(parameter: torch.Tensor) -> nn.Parameter:
    """A parameter of its own that views the storage of `parameter`."""
    return nn.Parameter(parameter.detach(), requires_grad=False)


def shared_conv(source: nn.Module) -> nn.Conv2d:
    """A convolution like `source` that views its weight and bias.

    Raises:
        UserError: `source` is not a plain Conv2d (an adapter or a quantized layer wraps it).
    """
    if type(source) is not nn.Conv2d:
        raise not_plain(source, "Conv2d")
    conv = nn.Conv2d(
        source.in_channels,
        source.out_channels,
        source.kernel_size,  # type: ignore[arg-type]
        source.stride,  # type: ignore[arg-type]
        source.padding,  # type: ignore[arg-type]
        source.dilation,  # type: ignore[arg-type]
        source.groups,
        bias=source.bias is not None,
        padding_mode=source.padding_mode,
        device="meta",  # storage comes from the source
    )
    conv.weight = shared(source.weight)
    if source.bias is not None:
        conv.bias = shared(source.bias)
    return conv


def shared_embedding(source: nn.Module) -> nn.Embedding:
    """An embedding table that views the weight of `source`.

    Raises:
        UserError: `source` is not a plain Embedding.
    """
    if type(source) is not nn.Embedding:
        raise not_plain(source, "Embedding")
    table = nn.Embedding(source.num_embeddings, source.embedding_dim, device="meta")
    table.weight = shared(source.weight)
    return table


def layer_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of convolutions, linear layers and embeddings by name: the large ones.

    A position table is read whole and added, not looked up by index, and stays out.
    """
    return {
        f"{path}.weight": layer.weight
        for path, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding)
        and not path.endswith("position_embedding")
    }


def not_plain(module: nn.Module, wanted: str) -> UserError:
    """The error for a layer that is wrapped or replaced."""
    return UserError(
        f"layer of type {type(module).__name__} where a plain {wanted} is expected: "
        "fuse adapters (LoRA) into the weights and load without quantization"
    )


def check_all_weights_used(
    component: str, source: nn.Module, mobile: nn.Module, parts: tuple[str, ...]
) -> None:
    """Fail when a weight of the source has no counterpart, by name and by storage.

    Only names that start with one of `parts` are asked for.

    Raises:
        UserError: a weight of the source would be left out; the network has a part that the
            rewrites do not know.
    """
    used = {name: storage_key(tensor) for name, tensor in mobile.named_parameters()}
    for name, tensor in source.named_parameters(remove_duplicate=False):
        if name.startswith(parts) and used.get(name) != storage_key(tensor):
            raise UserError(
                f"{component}: weight {name} belongs to a part that has no mobile form; "
                "use a plain Stable Diffusion network"
            )
