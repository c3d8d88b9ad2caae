"""The declared form of manifest.json: its keys, their types and ranges.

What is optional here may be absent in manifests that were made by hand; `coreml_sd.manifest.rules`
says what is taken instead.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from coreml_sd.files.limits import LIMITS
from coreml_sd.models.denoiser import GuidanceWay

_Pixels = Annotated[int, Meta(ge=1, le=LIMITS.pixels)]
_LatentPixels = Annotated[int, Meta(ge=1, le=LIMITS.latent_pixels)]
_Tokens = Annotated[int, Meta(ge=2, le=LIMITS.max_tokens)]
_TokenID = Annotated[int, Meta(ge=0, le=LIMITS.token_id)]
_Number = Annotated[float, Meta(ge=-LIMITS.factor, le=LIMITS.factor)]
_Bytes = Annotated[int, Meta(ge=0, le=LIMITS.file_bytes)]
_Name = Annotated[str, Meta(min_length=1, max_length=LIMITS.word_characters)]
_Colour = tuple[_Number, _Number, _Number]
_Positive = Annotated[int, Meta(ge=1)]
Optional = UnsetType


class AddedToken(Struct):
    content: _Name
    id: _TokenID
    lstrip: bool
    rstrip: bool
    single_word: bool
    normalized: bool
    special: bool


class Tokenizer(Struct):
    bos_token_id: _TokenID
    eos_token_id: _TokenID
    pad_token_id: _TokenID
    max_tokens: _Tokens
    added_tokens: Annotated[list[AddedToken], Meta(max_length=LIMITS.added_tokens)] | Optional = (
        UNSET
    )


class Advice(Struct):
    guidance: Annotated[float, Meta(ge=0, le=LIMITS.guidance)] | Optional = UNSET
    steps: Annotated[int, Meta(ge=1, le=LIMITS.steps)] | Optional = UNSET
    scheduler: str | Optional = UNSET
    prompts: list[str] | Optional = UNSET


class Preview(Struct):
    weights: list[_Colour]
    bias: _Colour


class ToldDenoiser(Struct):
    """As `coreml_sd.models.denoiser.Denoiser`; the rules look at each condition by its name."""

    component: _Name
    guidance: GuidanceWay
    conditions: Annotated[dict[str, Any], Meta(min_length=1)]


class ToldFewSteps(Struct):
    """As `coreml_sd.models.denoiser.FewSteps`."""

    steps: Annotated[int, Meta(ge=1, le=LIMITS.steps)]
    denoiser: ToldDenoiser


class Pipeline(Struct):
    family: _Name
    prediction_type: Literal["epsilon", "v_prediction", "sample"]
    size: tuple[_Pixels, _Pixels]
    latent_size: tuple[_LatentPixels, _LatentPixels]
    latent_channels: Annotated[int, Meta(ge=1, le=LIMITS.latent_channels)]
    vae_scale_factor: Annotated[int, Meta(ge=1, le=LIMITS.vae_scale_factor)]
    scaling_factor: _Number
    batch: Annotated[int, Meta(ge=1, le=LIMITS.batch)]
    max_tokens: _Tokens
    scheduler: dict[str, Any]
    tokenizer: Tokenizer
    shift_factor: _Number | Optional = UNSET
    tokenizer_2: Tokenizer | Optional = UNSET
    zeros_for_empty_prompt: bool | Optional = UNSET
    advice: Advice | Optional = UNSET
    preview: Preview | Optional = UNSET
    denoiser: ToldDenoiser | Optional = UNSET
    few_steps: (
        Annotated[list[ToldFewSteps], Meta(min_length=1, max_length=LIMITS.few_steps)] | Optional
    ) = UNSET


class Tensor(Struct):
    name: _Name
    shape: Annotated[list[_Positive], Meta(min_length=1, max_length=LIMITS.rank)]
    dtype: Literal["float16", "float32", "int32"]
    description: str | Optional = UNSET


class NetworkFile(Struct):
    path: str
    target: str
    inputs: list[_Name]
    outputs: list[_Name]
    weight_bytes: _Bytes | Optional = UNSET
    quantization: str | Optional = UNSET


class Seam(Struct):
    tensors: list[_Name]
    bytes: _Bytes


class StoredWeight(Struct):
    parameter: str
    shape: list[_Positive]
    bits: Annotated[int, Meta(ge=1, le=16)]
    groups: Annotated[int, Meta(ge=0)]
    dense_bytes: _Bytes
    stored_bytes: _Bytes
    squared_error: float
    snr_db: float | None
    reason: str


class Split(Struct):
    name: str
    channels_in: _Positive
    channels_out: _Positive
    height: _Positive
    width: _Positive
    along: str
    parts: list[_Positive]


class ToldCheck(Struct):
    name: str
    value: int | float | str
    unit: str
    gate: str | None
    passed: bool
    detail: str


class ToldParity(Struct):
    label: str
    headline: str
    checks: Annotated[list[ToldCheck], Meta(min_length=1)]


class Pruning(Struct, kw_only=True):
    fraction: float | Optional = UNSET
    parameters_before: _Positive
    parameters_after: _Positive
    layers: list[dict[str, Any]] | Optional = UNSET
    macs_before: _Positive
    macs_after: _Positive
    source_db: float


class Rescaling(Struct):
    peak: float
    factor: float
    source_db: float


class NetworkFacts(Struct, kw_only=True):
    """What is the same for every target."""

    description: str | Optional = UNSET
    inputs: list[Tensor]
    outputs: list[Tensor]
    source_bytes: _Bytes | Optional = UNSET
    pruning: Pruning | Optional = UNSET
    rescaling: Rescaling | Optional = UNSET


class TargetFacts(Struct):
    """What is about the files of one target, and about what was done to make them."""

    files: Annotated[list[NetworkFile], Meta(min_length=1)]
    seams: list[Seam] | Optional = UNSET
    weights: list[StoredWeight] | Optional = UNSET
    ops: dict[str, int] | Optional = UNSET
    splits: list[Split] | Optional = UNSET


class Component(Struct, kw_only=True):
    """Both together, with the proof of each target."""

    description: str | Optional = UNSET
    inputs: list[Tensor]
    outputs: list[Tensor]
    files: Annotated[list[NetworkFile], Meta(min_length=1)]
    seams: list[Seam] | Optional = UNSET
    weights: list[StoredWeight] | Optional = UNSET
    source_bytes: _Bytes | Optional = UNSET
    parity: dict[str, ToldParity] | Optional = UNSET
    pruning: Pruning | Optional = UNSET
    rescaling: Rescaling | Optional = UNSET
    ops: dict[str, int] | Optional = UNSET
    splits: list[Split] | Optional = UNSET


class SchedulerStep(Struct):
    path: str
    target: str
    inputs: list[_Name]
    outputs: list[_Name]
    weights: list[_Name]
    memory: dict[str, Annotated[int, Meta(ge=0, le=LIMITS.steps)]]
    checks: list[ToldCheck] | Optional = UNSET


class Listed(Struct):
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    bytes: _Bytes


class Model(Struct, kw_only=True):
    name: str
    family: str
    revision: str | Optional | None = UNSET
    sha256: str
    license: str | Optional = UNSET
    author: str | Optional = UNSET
    config_digest: str


class Tool(Struct):
    name: str
    version: str
    packages: dict[str, str]


class Config(Struct):
    targets: Annotated[list[str], Meta(min_length=1)]


class Manifest(Struct):
    pipeline: Pipeline
    config: Config
    model: Model
    components: Annotated[dict[str, Any], Meta(min_length=1)]
    files: Annotated[dict[str, Any], Meta(min_length=1, max_length=LIMITS.files)]
    scheduler_step: SchedulerStep | Optional = UNSET
    notes: list[str] | Optional = UNSET
    tool: Tool | Optional = UNSET
    source_parity: ToldParity | Optional = UNSET
