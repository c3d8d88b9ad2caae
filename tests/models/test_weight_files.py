"""The weights of a folder are those that diffusers reads, whatever else lies there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.models.open_model import open_model
from coreml_sd.models.weights.load import load_network
from coreml_sd.models.weights.placeholder_network import open_network
from tests.helpers.diffusers_pipeline import as_diffusers_opens

PARTS = ("text_encoder", "unet", "vae")
STEMS = {"text_encoder": "model", "unet": "diffusion_pytorch_model"}
STEMS["vae"] = STEMS["unet"]
Change = Callable[[Path], None]


def weights(model: Path, part: str, middle: str = "") -> Path:
    return model / part / f"{STEMS[part]}{middle}.safetensors"


def write_other(model: Path, part: str, name: str) -> None:
    """A file of the same tensors with other values."""
    tensors = load_file(weights(model, part))
    save_file({n: t + 0.25 for n, t in tensors.items()}, model / part / name, {"format": "pt"})


def beside(name: str) -> Change:
    """A copy with other values beside every file; `*` stands for the stem."""

    def change(model: Path) -> None:
        for part in PARTS:
            write_other(model, part, name.replace("*", STEMS[part]))

    return change


def renamed(middle: str, *parts: str) -> Change:
    def change(model: Path) -> None:
        for part in parts or PARTS:
            weights(model, part).rename(weights(model, part, middle))

    return change


def sharded(
    shard: str = "*-0000{}-of-00002", index: str = "*.safetensors.index.json", keep: bool = False
) -> Change:
    """Two files and an index; with `keep` an older single file stays."""

    def change(model: Path) -> None:
        for part in PARTS:
            tensors = load_file(weights(model, part))
            if keep:
                tensors = {name: tensor + 0.25 for name, tensor in tensors.items()}
            else:
                weights(model, part).unlink()
            places: dict[str, str] = {}
            for number in (1, 2):
                name = shard.replace("*", STEMS[part]).format(number) + ".safetensors"
                held = dict(list(tensors.items())[number - 1 :: 2])
                save_file(held, model / part / name, {"format": "pt"})
                places |= dict.fromkeys(held, name)
            content = json.dumps({"metadata": {"total_size": 1}, "weight_map": places})
            (model / part / index.replace("*", STEMS[part])).write_text(content, "utf-8")

    return change


def all_of(*changes: Change) -> Change:
    def change(model: Path) -> None:
        for each in changes:
            each(model)

    return change


def hidden(model: Path) -> None:
    """What a copy through another file system leaves."""
    for part in PARTS:
        (model / part / f"._{STEMS[part]}.safetensors").write_bytes(bytes(100))
        (model / part / "._config.json").write_bytes(bytes(100))


def old_attention(model: Path) -> None:
    """The names that the VAE of Stable Diffusion 1 was published with."""
    tensors = load_file(weights(model, "vae"))
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        tensors = {n.replace(f".{new}.", f".{old}."): t for n, t in tensors.items()}
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, weights(model, "vae"), {"format": "pt"})


def whole_clip(model: Path) -> None:
    """A text encoder's file with the rest of a CLIP model, and buffers of older versions."""
    tensors = load_file(weights(model, "text_encoder"))
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    tensors["logit_scale"] = torch.tensor(4.6)
    tensors["vision_model.post_layernorm.weight"] = torch.ones(4)
    save_file(tensors, weights(model, "text_encoder"), {"format": "pt"})


def eight_bits(model: Path) -> None:
    tensors = load_file(weights(model, "unet"))
    narrow = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}
    save_file(narrow, weights(model, "unet"), {"format": "pt"})


# name -> what is changed, the variant that diffusers is asked for, and the one that we are.
LAYOUTS: dict[str, tuple[Change, str | None, str | None]] = {
    "as saved": (lambda model: None, None, None),
    "a backup beside each file": (beside("*_backup.safetensors"), None, None),
    "a file of another stem": (beside("zzz.safetensors"), None, None),
    "hidden files": (hidden, None, None),
    "pickles beside": (beside("*.bin"), None, None),
    "shards": (sharded(), None, None),
    "shards and an older single file": (sharded(keep=True), None, None),
    "fp16 only": (renamed(".fp16"), "fp16", None),
    "bf16 only": (renamed(".bf16"), "bf16", None),
    "weights from before the averaging only": (renamed(".non_ema"), "non_ema", None),
    "fp16 beside": (beside("*.fp16.safetensors"), None, None),
    "fp16 beside, wanted": (beside("*.fp16.safetensors"), "fp16", "fp16"),
    "two variants beside": (
        all_of(beside("*.fp16.safetensors"), beside("*.non_ema.safetensors")),
        None,
        None,
    ),
    "one network in fp16 only, others in both": (
        all_of(beside("*.fp16.safetensors"), lambda model: weights(model, "unet").unlink()),
        "fp16",
        None,
    ),
    "one network in fp16 only": (renamed(".fp16", "unet"), "fp16", None),
    "shards of a variant": (
        sharded("*.fp16-0000{}-of-00002", "*.safetensors.index.fp16.json"),
        "fp16",
        None,
    ),
    "shards of a variant, older names": (
        sharded("*-0000{}-of-00002.fp16", "*.safetensors.index.fp16.json"),
        "fp16",
        None,
    ),
    "a VAE's older names": (old_attention, None, None),
    "a whole CLIP": (whole_clip, None, None),
    "8-bit floats": (eight_bits, None, None),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_weight_is_the_one_that_diffusers_reads(
    name: str, sd1_folder: Path, tmp_path: Path
) -> None:
    change, theirs, ours = LAYOUTS[name]
    model = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    change(model)
    pipeline = as_diffusers_opens(model, theirs)
    folder = DiffusersFolder(model, wanted_variant=ours)
    for part in PARTS:
        expected = dict(getattr(pipeline, part).named_parameters())
        opened = open_network(folder, part)
        assert {n for n, _ in opened.module.named_parameters()} == expected.keys()
        loaded = dict(load_network(folder, part).named_parameters())
        for each, parameter in expected.items():
            assert np.array_equal(opened.weights.value(each), parameter.detach().numpy()), each
            assert torch.equal(loaded[each], parameter), each


def test_a_variant_that_nobody_asked_for_is_noted(sd1_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    assert open_model(ConversionConfig(model=str(model))).notes == ()
    renamed(".bf16", "unet")(model)
    (note,) = open_model(ConversionConfig(model=str(model))).notes
    assert note == "weights of the bf16 variant: there are no plain ones (unet)"


def cut_index(model: Path) -> None:
    sharded()(model)
    (model / "unet/diffusion_pytorch_model.safetensors.index.json").write_text("{")


def lost_shard(model: Path) -> None:
    sharded()(model)
    (model / "unet/diffusion_pytorch_model-00002-of-00002.safetensors").unlink()


def shard_elsewhere(model: Path) -> None:
    sharded()(model)
    index = model / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(index.read_text().replace("diffusion_pytorch_model-0", "../x-0"))


def shared_tensor(model: Path) -> None:
    sharded()(model)
    names = [model / f"unet/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    first, second = (load_file(name) for name in names)
    save_file({**second, **dict(list(first.items())[:1])}, names[1], {"format": "pt"})


def pointer(model: Path) -> None:
    weights(model, "unet").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1719125304\n"
    )


def without(model: Path) -> None:
    weights(model, "unet").unlink()


def missing_tensor(model: Path) -> None:
    tensors = load_file(weights(model, "vae"))
    del tensors["decoder.conv_out.weight"]
    save_file(tensors, weights(model, "vae"), {"format": "pt"})


def further_tensors(model: Path) -> None:
    tensors = load_file(weights(model, "vae"))
    more = {f"decoder.condition_encoder.{i}.weight": torch.ones(2) for i in range(26)}
    save_file({**tensors, **more}, weights(model, "vae"), {"format": "pt"})


def other_shape(model: Path) -> None:
    tensors = load_file(weights(model, "unet"))
    tensors["conv_in.weight"] = torch.ones(32, 9, 3, 3)
    save_file(tensors, weights(model, "unet"), {"format": "pt"})


REFUSED: dict[str, tuple[Change, str]] = {
    "two variants and nothing plain": (
        all_of(beside("*.fp16.safetensors"), renamed(".non_ema")),
        r"text_encoder: no plain weights .* fp16, non_ema: choose with --variant",
    ),
    "no weights": (without, r"unet: no safetensors weights: diffusion_pytorch_model.safetensors"),
    "another name only": (renamed("_backup"), r"model_backup.safetensors, a name that diffusers"),
    "a damaged index": (cut_index, "index.json: not a JSON file"),
    "a shard is missing": (lost_shard, "its shard diffusion_pytorch_model-00002-of-00002"),
    "a shard outside": (shard_elsewhere, "not a file beside it"),
    "a tensor in two shards": (shared_tensor, "both hold .*; keep one of them"),
    "a pointer": (pointer, "git lfs pull"),
    "a missing tensor": (missing_tensor, r"vae: .* lacks decoder.conv_out.weight"),
    "tensors that nothing takes": (
        further_tensors,
        r"has decoder.condition_encoder.0.weight, .* and 23 more tensors that no parameter takes",
    ),
    "another shape": (other_shape, "conv_in.weight is 32x9x3x3, and config.json asks for 32x4x3x3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_before_any_work(
    name: str, sd1_folder: Path, tmp_path: Path
) -> None:
    change, message = REFUSED[name]
    model = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    change(model)
    folder = DiffusersFolder(model)
    with pytest.raises(UserError, match=message):
        for part in PARTS:
            open_network(folder, part)


def test_a_variant_that_is_not_there(sd1_folder: Path) -> None:
    with pytest.raises(UserError, match="no variant fp16; it has none"):
        DiffusersFolder(sd1_folder, wanted_variant="fp16").weight_files("unet")


def test_negative_control_the_last_name_of_all(sd1_folder: Path, tmp_path: Path) -> None:
    """Reading every file, as a plain glob does, gives other weights than diffusers reads."""
    model = Path(shutil.copytree(sd1_folder, tmp_path / "model"))
    beside("*_backup.safetensors")(model)
    last = sorted((model / "unet").glob("*.safetensors"))[-1]
    expected = dict(as_diffusers_opens(model).unet.named_parameters())
    assert not torch.equal(load_file(last)["conv_in.weight"], expected["conv_in.weight"])
