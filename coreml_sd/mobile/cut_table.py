"""Tables of embeddings too large for one buffer of a GPU, as several narrower ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import ceil

import torch
from torch import nn

from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.mobile.layer_weights import not_plain, shared
from coreml_sd.mobile.serialized_conv import SLICE, even_split
from coreml_sd.mobile.text_encoder import TextEmbeddings

_FLOAT_BYTES = 4  # the GPU delegate holds tables at fp32, however they are stored


class CutEmbedding(nn.Module):
    """A plain `nn.Embedding` as a lookup per entry of `sizes`: ids `(...)` to `(..., C)`.

    Each part gives `sizes` of the channels; joined they equal the source bit for bit. The parts,
    registered as `parts.0`, `parts.1`, ..., view the storage of the source's weight.

    Raises:
        UserError: the source is not a plain Embedding.
        CoremlSDError: sizes that are not its channels.
    """

    def __init__(self, source: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        if type(source) is not nn.Embedding:
            raise not_plain(source, "Embedding")
        if sum(sizes) != source.embedding_dim:
            raise CoremlSDError(f"{source.embedding_dim} channels cannot be cut into {list(sizes)}")
        self.parts = nn.ModuleList()
        for begin, end in pairwise(accumulate(sizes, initial=0)):
            part = nn.Embedding(source.num_embeddings, end - begin, device="meta")
            part.weight = shared(source.weight[:, begin:end])
            self.parts.append(part)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(ids) for part in self.parts], dim=-1)


def cut_tables(network: nn.Module, limit: int) -> None:
    """Cut, in place, every table of tokens of more than `limit` bytes at fp32.

    The fewest parts that fit are taken, as equal as slices of four channels allow.

    Raises:
        UserError: four channels of all tokens are above the limit.
    """
    for embeddings in network.modules():
        if not isinstance(embeddings, TextEmbeddings):
            continue
        table = embeddings.token_embedding
        if isinstance(table, nn.Embedding) and _FLOAT_BYTES * table.weight.numel() > limit:
            sizes = _fitting_cut(table.num_embeddings, table.embedding_dim, limit)
            embeddings.token_embedding = CutEmbedding(table, sizes)


def _fitting_cut(rows: int, channels: int, limit: int) -> tuple[int, ...]:
    slices_each = limit // (_FLOAT_BYTES * SLICE * rows)
    if slices_each == 0:
        raise UserError(
            f"the table of {rows} tokens does not fit, however it is cut along its channels: "
            "choose the Android profile `cpu`"
        )
    return even_split(channels, ceil(ceil(channels / SLICE) / slices_each))
