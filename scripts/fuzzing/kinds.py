"""What is changed, and which readers see it. Each kind has a folder of its own."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from scripts.fuzzing.change import changed_bytes, changed_json, changed_message, json_text

_SPEC = Path("Data/com.apple.CoreML/model.mlmodel")
_BLOB = Path("Data/com.apple.CoreML/weights/weight.bin")


@dataclass(frozen=True)
class Material:
    """What is intact: a small model's folder, and a bundle of it for both targets."""

    model: Path
    bundle: Path


class Kind:
    """A copy of something, one change of it at a time, and its readers."""

    def __init__(self, material: Material, folder: Path) -> None:
        self.folder = folder
        self.copy = folder / "copy"
        shutil.rmtree(self.copy, ignore_errors=True)
        self.source = self.prepare(material)
        files = [file for file in sorted(self.source.rglob("*")) if file.is_file()]
        self.intact = {file.relative_to(self.source): file.read_bytes() for file in files}

    def prepare(self, material: Material) -> Path:
        """Where the intact files lie."""
        raise NotImplementedError

    def files(self) -> list[Path]:
        """Which of them are changed."""
        return list(self.intact)

    def change(self, rng: random.Random) -> None:
        """Write the copy with one file changed."""
        file = rng.choice(self.files())
        self._write(file, self.changed(rng, file, self.intact[file]))

    def changed(self, rng: random.Random, file: Path, data: bytes) -> bytes:
        """A changed file."""
        if file.suffix == ".json" and rng.random() < 0.8:
            return json_text(changed_json(rng, json.loads(data)))
        return changed_bytes(rng, data)

    def restore(self) -> None:
        """The copy as it was."""
        for file, data in self.intact.items():
            path = self.copy / file
            if not path.is_file() or path.read_bytes() != data:
                self._write(file, data)

    def _write(self, file: Path, data: bytes) -> None:
        path = self.copy / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # another reader may have the old one mapped
        path.write_bytes(data)

    def readers(self) -> list[Callable[[], Any]]:
        """Each is called on its own; a refusal by one does not keep the others from it."""
        raise NotImplementedError


class Manifests(Kind):
    """manifest.json with a fitting checksum: values and text."""

    def prepare(self, material: Material) -> Path:
        shutil.copytree(material.bundle, self.folder / "intact", dirs_exist_ok=True)
        return self.folder / "intact"

    def files(self) -> list[Path]:
        return [Path("manifest.json")]

    def changed(self, rng: random.Random, file: Path, data: bytes) -> bytes:
        manifest = json.loads(data)
        del manifest["manifest_sha256"]
        for entry in manifest["components"].values():
            entry["weights"] = entry["weights"][:2]  # else most changes would fall there
        if rng.random() < 0.85:
            part = rng.choice(("pipeline", "components", None, None))
            if part:
                manifest[part] = changed_json(rng, manifest[part])
            else:
                manifest = changed_json(rng, manifest)
            text = json_text(manifest)
        else:
            text = changed_bytes(rng, json_text(manifest))
        return sealed(text)

    def readers(self) -> list[Callable[[], Any]]:
        from coreml_sd.bundle import open_bundle
        from coreml_sd.cli.convert import closing_table
        from coreml_sd.config import from_dict
        from coreml_sd.generation.generate import GenerationRequest
        from coreml_sd.generation.prompt import PromptEncoder
        from coreml_sd.schedulers.own import default_scheduler
        from coreml_sd.schedulers.schedulers import begin, make_scheduler

        def use() -> None:
            bundle = open_bundle(self.copy, check=False)
            closing_table(bundle)
            facts = bundle.pipeline
            bundle.all_files()
            PromptEncoder(bundle.path, facts["tokenizer"]).encode("a cat, a red dog")
            advice = facts["advice"]
            GenerationRequest("a cat", steps=advice["steps"], guidance=advice["guidance"])
            own = default_scheduler(facts)
            begin(make_scheduler(own.name, facts["scheduler"]), advice["steps"])
            from_dict(bundle.manifest["config"], "manifest.json")

        return [use]


def sealed(text: bytes) -> bytes:
    """A manifest with its own checksum, whatever else it says."""
    blank = b'"manifest_sha256": "' + b"0" * 64 + b'"'
    if not text.rstrip().endswith(b"}"):
        return text
    whole = text.rstrip()[:-1].rstrip() + b",\n " + blank + b"\n}\n"
    seal = hashlib.sha256(whole).hexdigest().encode()
    return whole.replace(blank, blank.replace(b"0" * 64, seal))


class Programs(Kind):
    """An .mlpackage: its program, field by field and byte by byte, and its own manifest."""

    def prepare(self, material: Material) -> Path:
        self.copy = self.folder / "copy.mlpackage"
        return material.bundle / "TextEncoder.mlpackage"

    def files(self) -> list[Path]:
        return [_SPEC] * 9 + [Path("Manifest.json")]

    def changed(self, rng: random.Random, file: Path, data: bytes) -> bytes:
        if file != _SPEC or rng.random() < 0.2:
            return super().changed(rng, file, data)
        from coremltools.proto import Model_pb2

        model = Model_pb2.Model.FromString(data)
        changed_message(rng, model)
        return bytes(model.SerializeToString())

    def readers(self) -> list[Callable[[], Any]]:
        from coreml_sd.runtimes.mil import MilNetwork, MilPackage
        from coreml_sd.targets.coreml.costs import package_costs
        from coreml_sd.targets.saved_files import lint_files

        def look() -> None:
            package = MilPackage(self.copy)
            package.op_histogram(), package.weight_storage(), package.descriptions()
            list(package.decoded_weights())

        def run() -> None:
            network = MilNetwork(self.copy)
            network.run(
                {name: np.zeros(info.shape, np.float32) for name, info in network.inputs.items()}
            )

        costs = lambda: package_costs(self.copy)  # noqa: E731
        return [look, run, costs, lambda: lint_files(self.copy, "gpu")]


class Blobs(Programs):
    """The weight file of an .mlpackage: its records' types, sizes and offsets."""

    def files(self) -> list[Path]:
        return [_BLOB]

    def changed(self, rng: random.Random, file: Path, data: bytes) -> bytes:
        if rng.random() < 0.2:
            return changed_bytes(rng, data)
        out = bytearray(data)
        marker = (0xDEADBEEF).to_bytes(4, "little")
        records = [at for at in range(0, len(out), 64) if out[at : at + 4] == marker]
        at = rng.choice([0, *records]) + rng.choice((0, 4, 8, 16, 24))
        number = rng.choice((0, 1, 2, 3, 8, 9, 13, 64, len(out), 1 << 32, (1 << 64) - 1, 4096))
        out[at : at + 8] = number.to_bytes(8, "little")
        return bytes(out)


class Flatbuffers(Kind):
    """A .tflite; LiteRT itself is given what our own check lets through."""

    def prepare(self, material: Material) -> Path:
        folder = self.folder / "intact"
        folder.mkdir(exist_ok=True)
        shutil.copy(material.bundle / "TextEncoder.tflite", folder)
        return folder

    def readers(self) -> list[Callable[[], Any]]:
        from coreml_sd.runtimes.litert.file import TFLiteFile
        from coreml_sd.targets.saved_files import lint_files
        from coreml_sd.targets.tflite.costs import tflite_costs

        path = self.copy / "TextEncoder.tflite"

        def look() -> None:
            file = TFLiteFile(path)
            file.op_counts(), file.weight_bytes(), file.signatures
            for graph in file.graphs:
                for tensor in graph.tensors:
                    if tensor.is_constant:
                        file.data(tensor)

        costs = lambda: tflite_costs(path)  # noqa: E731
        return [look, costs, lambda: lint_files(path, "gpu")]


class Tokenizers(Kind):
    """vocab.json and merges.txt of a bundle, and the words that its manifest adds."""

    def prepare(self, material: Material) -> Path:
        folder = self.folder / "intact"
        folder.mkdir(exist_ok=True)
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(material.bundle / name, folder)
        return folder

    def readers(self) -> list[Callable[[], Any]]:
        from coreml_sd.generation.prompt import PromptEncoder

        ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "max_tokens": 77}

        def encode() -> None:
            encoder = PromptEncoder(self.copy, ids)
            for prompt in ("a photo of a cat", "Ünïcödé 😀 猫", "word " * 100):
                encoder.encode(prompt)

        return [encode]


class ModelFolders(Kind):
    """A diffusers folder: configs, tokenizer files and the headers of safetensors."""

    def prepare(self, material: Material) -> Path:
        return material.model

    def changed(self, rng: random.Random, file: Path, data: bytes) -> bytes:
        if file.suffix != ".safetensors":
            return super().changed(rng, file, data)
        length = int.from_bytes(data[:8], "little")
        if rng.random() < 0.4:
            return changed_bytes(rng, data[: length + 64]) + data[length + 64 :]
        header = json_text(changed_json(rng, json.loads(data[8 : 8 + length])))
        told = len(header) if rng.random() < 0.9 else rng.choice((0, 1, 1 << 40, (1 << 64) - 1))
        return told.to_bytes(8, "little") + header + data[8 + length :]

    def readers(self) -> list[Callable[[], Any]]:
        from coreml_sd.config import ConversionConfig
        from coreml_sd.models.open_model import open_model

        def look() -> None:
            model = open_model(ConversionConfig(model=str(self.copy)))
            model.folder.licence_and_author(), model.folder.digest()
            for component in model.components:
                component.open()
                component.sample_inputs(0)

        return [look]


class Configs(Kind):
    """A conversion config in TOML."""

    def prepare(self, material: Material) -> Path:
        from coreml_sd.config import ConversionConfig

        folder = self.folder / "intact"
        folder.mkdir(exist_ok=True)
        config = ConversionConfig(
            model="x", palettize=6, size="64x64", prune=0.1, quantize="fp16", components=["unet"]
        )
        (folder / "config.toml").write_text(config.to_toml(), "utf-8")
        return folder

    def readers(self) -> list[Callable[[], Any]]:
        from coreml_sd.config import from_toml

        return [lambda: from_toml(self.copy / "config.toml")]


class Caches(Kind):
    """What a conversion that was interrupted has kept, with a fitting checksum of its own."""

    def prepare(self, material: Material) -> Path:
        from coreml_sd.bundle import open_bundle
        from coreml_sd.config import from_dict
        from coreml_sd.conversion.finished import FinishedComponent
        from coreml_sd.conversion.plan import plan_conversion
        from coreml_sd.conversion.resume import Checkpoints
        from coreml_sd.manifest.form import Component

        bundle = open_bundle(material.bundle, check=False)
        plan = plan_conversion(from_dict(bundle.manifest["config"], "manifest.json"))
        self.staging = self.folder / "staging"
        destination = self.folder / "out.bundle"

        def begin() -> Checkpoints:
            return Checkpoints(plan, destination, False, lambda: "0" * 64, keep=True)

        self._checkpoints = begin
        checkpoints = begin()
        self.copy = checkpoints.folder
        shutil.rmtree(self.copy, ignore_errors=True)
        entry = msgspec.convert(bundle.components["text_encoder"], Component)
        checkpoints.add("text_encoder", FinishedComponent(entry, 1.0), material.bundle)
        checkpoints.add_palettes("unet", [["a", 1]])
        intact = self.folder / "intact"
        shutil.rmtree(intact, ignore_errors=True)
        shutil.move(self.copy, intact)
        return intact

    def files(self) -> list[Path]:
        return [file for file in self.intact if file.suffix not in (".bin", ".mlmodel", ".tflite")]

    def changed(self, rng: random.Random, file: Path, data: bytes) -> bytes:
        seal, _, text = data.partition(b"\n")
        if len(seal) != 64 or rng.random() < 0.2:
            return changed_bytes(rng, data)
        changed = json_text(changed_json(rng, json.loads(text)))
        return hashlib.sha256(changed).hexdigest().encode() + b"\n" + changed

    def readers(self) -> list[Callable[[], Any]]:
        def take() -> None:
            shutil.rmtree(self.staging, ignore_errors=True)
            self.staging.mkdir()
            parts = self._checkpoints()
            parts.take(self.staging)
            parts.palettes("unet")

        return [take]


KINDS: dict[str, type[Kind]] = {
    "manifests": Manifests,
    "programs": Programs,
    "blobs": Blobs,
    "flatbuffers": Flatbuffers,
    "tokenizers": Tokenizers,
    "folders": ModelFolders,
    "configs": Configs,
    "caches": Caches,
}
