"""The CLIP text encoder as a flat list of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from coreml_sd.errors import UserError
from coreml_sd.mobile.attention import attend, causal_mask
from coreml_sd.mobile.gelu import GELUS
from coreml_sd.mobile.layer_norm import ChannelLayerNorm
from coreml_sd.mobile.layer_weights import shared_embedding
from coreml_sd.mobile.linear_to_conv import linear_to_conv
from coreml_sd.mobile.options import MobileOptions
from coreml_sd.mobile.pooled_text import LookupPooledText, PooledProjection, PooledText, end_of
from coreml_sd.mobile.shapes import sizes
from coreml_sd.mobile.steps import Step, StepSequence


def text_encoder_steps(source: nn.Module, options: MobileOptions) -> StepSequence:
    """The mobile form of a `CLIPTextModel`.

    Input: input_ids `(B, T)`, T the full length of the position table. Outputs:
    last_hidden_state `(B, T, C)` and, where the options ask for it, pooled_outputs `(B, C)`, the
    state at the end token.

    Raises:
        UserError: another model, or an activation that has no mobile form.
    """
    if not isinstance(source, CLIPTextModel):
        raise _unknown(source)
    builder = _Builder(source, options)
    for i in range(len(builder.layers)):
        builder.layer(i)
    builder.final_norm()
    if not options.pooled:
        builder.add("text_outputs", TextStates(), "last_hidden_state")
        return builder.sequence("last_hidden_state")
    pooling = TextOutputs(builder.end_token, builder.length)
    builder.add("text_outputs", pooling, "last_hidden_state", "pooled_outputs", ids=True)
    return builder.sequence("last_hidden_state", "pooled_outputs")


def penultimate_text_encoder_steps(source: nn.Module, options: MobileOptions) -> StepSequence:
    """The mobile form of a text encoder of Stable Diffusion XL, `CLIPTextModel` or
    `CLIPTextModelWithProjection`.

    Input: input_ids `(B, T)`. Outputs: hidden_embeds `(B, T, C)`, the states that the last layer
    but one gives, without the final norm; pooled_outputs `(B, P)`, the state at the end token after
    the last layer and the norm, projected where the model has a projection. Both are always
    given: the UNet takes the pooled output of the second encoder.

    Raises:
        UserError: as `text_encoder_steps`; a single layer.
    """
    projected = isinstance(source, CLIPTextModelWithProjection)
    if not projected and not isinstance(source, CLIPTextModel):
        raise _unknown(source)
    builder = _Builder(source, options)
    if len(builder.layers) < 2:
        raise UserError("a text encoder of one layer has no last layer but one")
    for i in range(len(builder.layers) - 1):
        builder.layer(i)
    inner = builder.current
    builder.add("hidden_embeds", TextStates(), "hidden_embeds")
    builder.current = inner
    builder.layer(len(builder.layers) - 1)
    builder.final_norm()
    pooling: nn.Module = PooledText(builder.end_token, builder.length)
    if not options.pooled:
        pooling = LookupPooledText(end_of(builder.model.config), builder.vocabulary, builder.length)
    last = "pooled_states" if projected else "pooled_outputs"
    builder.add("pooled_states", pooling, last, ids=True)
    if projected:
        projection = PooledProjection(source.text_projection)
        builder.add("text_projection", projection, "pooled_outputs")
    return builder.sequence("hidden_embeds", "pooled_outputs")


class _Builder:
    """Collects steps; `current` is the newest tensor of states."""

    def __init__(self, source: Any, options: MobileOptions) -> None:
        # A model with a projection holds the other; transformers before 5 nests further.
        self.model, self.prefix = source, ""
        while hasattr(self.model, "text_model"):
            self.model, self.prefix = self.model.text_model, f"{self.prefix}text_model."
        self.options = options
        embeddings = TextEmbeddings(self.model.embeddings, options)
        self.length = embeddings.length
        self.mask = causal_mask(self.length)
        self.end_token = int(self.model.config.eos_token_id)
        self.vocabulary = int(self.model.config.vocab_size)
        self.layers = self.model.encoder.layers
        self.steps: list[Step] = []
        self.current = "input_ids"
        self.add(f"{self.prefix}embeddings", embeddings, "embeddings")

    def add(self, path: str, module: nn.Module, *writes: str, ids: bool = False) -> None:
        """A step that reads the newest tensor and, where it asks for them, the token ids."""
        reads = (self.current, "input_ids") if ids else (self.current,)
        self.steps.append(Step(path, module, reads, writes))
        self.current = writes[0]

    def layer(self, i: int) -> None:
        module = TextLayer(self.layers[i], self.options, self.mask)
        self.add(f"{self.prefix}encoder.layers.{i}", module, f"encoder_layers_{i}")

    def final_norm(self) -> None:
        norm = ChannelLayerNorm(self.model.final_layer_norm)
        self.add(f"{self.prefix}final_layer_norm", norm, "final_layer_norm")

    def sequence(self, *outputs: str) -> StepSequence:
        return StepSequence(self.steps, ("input_ids",), outputs)


def _unknown(source: nn.Module) -> UserError:
    return UserError(f"text encoder of type {type(source).__name__} has no mobile form")


class TextEmbeddings(nn.Module):
    """Token ids `(B, T)`, integers or float32, to states `(B, C, 1, T)`.

    Ids become integers at once: fp16 cannot hold 49,407.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        self.token_embedding: nn.Module = shared_embedding(source.token_embedding)
        self.position_embedding = shared_embedding(source.position_embedding)
        self.length = self.position_embedding.num_embeddings
        # Of wide tables the TFLite converter drops a reshape that only adds axes in front, and then
        # adds positions of three axes to tokens of two, which the GPU delegate misreads. A reshape
        # that parts the channels too stays.
        even = self.position_embedding.embedding_dim % 2 == 0
        self.halved = even and options.layout == "channels-last"

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        batch, length = sizes(input_ids)
        if length != self.length:
            raise UserError(f"text encoder input has {length} tokens: give {self.length}")
        tokens = self.token_embedding(input_ids.int())
        positions = self.position_embedding.weight
        if self.halved:
            halves = (length, 2, -1)
            states = tokens.reshape(batch, *halves) + positions.reshape(1, *halves)
            states = states.reshape(batch, 1, length, -1)
        else:
            states = (tokens + positions[None])[:, None]
        return states.permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class TextAttention(nn.Module):
    """`CLIPAttention` with its causal mask, on `(B, C, 1, T)`."""

    mask: torch.Tensor

    def __init__(self, source: Any, options: MobileOptions, mask: torch.Tensor) -> None:
        super().__init__()
        self.heads = int(source.num_heads)
        self.options = options
        self.q_proj = linear_to_conv(source.q_proj)
        self.k_proj = linear_to_conv(source.k_proj)
        self.v_proj = linear_to_conv(source.v_proj)
        self.out_proj = linear_to_conv(source.out_proj)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        mixed = attend(query, key, value, self.heads, self.options, self.mask)
        return self.out_proj(mixed)  # type: ignore[no-any-return]


class TextMLP(nn.Module):
    """`CLIPMLP` on `(B, C, 1, T)` with quick_gelu, or GELU in the form of the options.

    Raises:
        UserError: another activation.
    """

    def __init__(self, source: Any, options: MobileOptions) -> None:
        super().__init__()
        activations = {"quick_gelu": _quick_gelu, "gelu": GELUS[options.gelu]}
        name = source.config.hidden_act
        if name not in activations:
            known = ", ".join(activations)
            raise UserError(f"text encoder activation {name!r} has no mobile form: {known} have")
        self.activation = activations[name]
        self.fc1 = linear_to_conv(source.fc1)
        self.fc2 = linear_to_conv(source.fc2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(x)))  # type: ignore[no-any-return]


class TextLayer(nn.Module):
    """`CLIPEncoderLayer` on `(B, C, 1, T)`."""

    def __init__(self, source: Any, options: MobileOptions, mask: torch.Tensor) -> None:
        super().__init__()
        self.layer_norm1 = ChannelLayerNorm(source.layer_norm1)
        self.self_attn = TextAttention(source.self_attn, options, mask)
        self.layer_norm2 = ChannelLayerNorm(source.layer_norm2)
        self.mlp = TextMLP(source.mlp, options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))  # type: ignore[no-any-return]


class TextStates(nn.Module):
    """States `(B, C, 1, T)` to `(B, T, C)`."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return _tokens_first(states)


class TextOutputs(PooledText):
    """States `(B, C, 1, T)` to `(B, T, C)`, and the state at the end token `(B, C)`."""

    def forward(  # type: ignore[override]
        self, states: torch.Tensor, input_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = super().forward(states, input_ids)
        return _tokens_first(states), pooled


def _tokens_first(states: torch.Tensor) -> torch.Tensor:
    return states.permute(0, 2, 3, 1).squeeze(1)


def _quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)
