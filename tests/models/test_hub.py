"""Hub ids through huggingface_hub, its cache respected; only files in use are fetched."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from coreml_sd.errors import UserError
from coreml_sd.models.find_model import find_source
from coreml_sd.models.hub import files_in_use
from tests.helpers.published_folders import ZOO


def listed(name: str) -> list[str]:
    lines = (ZOO / name / "FILES.tsv").read_text("utf-8").splitlines()
    return [*(line.split("\t")[1] for line in lines), "README.md"]


def chosen(name: str, variant: str | None = None, *more: str) -> list[str]:
    index = json.loads((ZOO / name / "model_index.json").read_text("utf-8"))
    names = [*listed(name), *more]
    return sorted(files_in_use(name, names, lambda part: bool(index.get(part)), variant))


STABLE_DIFFUSION = [
    "README.md",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
]


class Hub:
    """Stands in for the hub: one repository of a published list of files."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder / "abc123"
        self.fetched: dict[str, Any] = {}
        self.reachable = True

    def list_repo_files(self, model: str, revision: str | None = None) -> list[str]:
        if not self.reachable:
            raise ConnectionError("no route")
        return listed(self.name)

    def hf_hub_download(self, model: str, name: str, revision: str | None = None) -> str:
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes((ZOO / self.name / name).read_bytes())
        return str(self.folder / name)

    def snapshot_download(self, model: str, **options: Any) -> str:
        self.fetched = {"model": model, **options}
        return str(self.folder)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    made = Hub("sd-1-5", tmp_path)
    for name in ("list_repo_files", "hf_hub_download", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(made, name))
    return made


def test_the_files_of_stable_diffusion_that_are_used() -> None:
    """No top-level checkpoints, no second variant, no safety checker, nothing pickled."""
    assert chosen("sd-1-5") == STABLE_DIFFUSION


def test_a_wanted_variant() -> None:
    fetched = chosen("sd-1-5", "fp16")
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in fetched
    assert "unet/diffusion_pytorch_model.safetensors" not in fetched
    assert len(fetched) == len(STABLE_DIFFUSION)


def test_both_encoders_of_xl() -> None:
    fetched = chosen("sdxl-base")
    assert "text_encoder_2/model.safetensors" in fetched and "tokenizer_2/vocab.json" in fetched
    assert not any(name.startswith(("vae_1_0", "vae_decoder", "vae_encoder")) for name in fetched)
    assert not any("onnx" in name or "openvino" in name or "flax" in name for name in fetched)


def test_shards_with_their_index() -> None:
    stem = "unet/diffusion_pytorch_model"
    more = [f"{stem}-00001-of-00002.safetensors", f"{stem}-00002-of-00002.safetensors"]
    fetched = chosen("sd-1-5", None, f"{stem}.safetensors.index.json", *more)
    assert {*more, f"{stem}.safetensors.index.json"} <= {*fetched}
    assert f"{stem}.safetensors" not in fetched


def test_pickled_weights_alone_are_refused_before_they_are_fetched() -> None:
    with pytest.raises(UserError, match="only pickled weights"):
        chosen("sd-1-5-inpainting")


def test_a_hub_id_is_fetched(hub: Hub) -> None:
    source = find_source("org/model", "v1")
    assert source.revision == "abc123" and source.name == "org/model"
    assert hub.fetched == {
        "model": "org/model",
        "revision": "v1",
        "allow_patterns": STABLE_DIFFUSION,
    }


def test_without_the_hub_the_cache_is_used(hub: Hub) -> None:
    hub.reachable = False
    assert find_source("org/model").folder == hub.folder
    assert hub.fetched == {}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("x"), "the hub cannot be reached"),
        (errors.EntryNotFoundError("x"), "it is no diffusers folder"),
        (OSError("broken pipe"), "broken pipe"),
    ],
)
def test_failures_are_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match=message):
        find_source("org/model")
