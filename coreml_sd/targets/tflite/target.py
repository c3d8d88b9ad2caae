"""The `tflite` target: .tflite files for Android."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coreml_sd.bundle import Bundle
from coreml_sd.config import ConversionConfig
from coreml_sd.costs.attention_graph import Call
from coreml_sd.costs.file_costs import FileCosts
from coreml_sd.costs.network_size import NetworkSize
from coreml_sd.lint.finding import Finding
from coreml_sd.lint.rule import Rule, broken
from coreml_sd.models.component import ComponentSpec
from coreml_sd.progress import Progress
from coreml_sd.targets.plan import Plan, TargetSettings
from coreml_sd.targets.tflite.scheduler_step_names import FILE_NAME, denoiser_of
from coreml_sd.targets.tflite.settings import (
    TFLiteSettings,
    refuse_unused,
    settings_of,
    tflite_notes,
    tflite_settings,
)

if TYPE_CHECKING:
    from coreml_sd.parity.checks import Check, ComponentParity
    from coreml_sd.targets.job import ConversionJob, Converted
    from coreml_sd.targets.subject import Subject

_DEFAULT_DEVICE = "gpu"


class TFLiteTarget:
    """See `coreml_sd.targets.target.Target`."""

    name = "tflite"
    suffix = ".tflite"
    packages: tuple[str, ...] = (
        "litert-torch",
        "litert-converter",
        "ai-edge-quantizer",
        "ai-edge-litert",
    )
    runs_beside = False  # the converter takes all cores and much memory
    holds_weights = True

    def settings(self, config: ConversionConfig) -> TargetSettings:
        return tflite_settings(config)

    def refuse_unused(self, config: ConversionConfig) -> None:
        refuse_unused(config)

    def notes(
        self, config: ConversionConfig, settings: TargetSettings, components: Sequence[str]
    ) -> list[str]:
        assert isinstance(settings, TFLiteSettings)
        return tflite_notes(config, settings, components)

    def rewrite(self, plan: Plan, component: ComponentSpec, network: Any) -> None:
        from coreml_sd.targets.tflite.rewrites import android_form

        android_form(component, network, settings_of(plan).profile)

    def convert(self, job: ConversionJob) -> Converted:
        from coreml_sd.targets.tflite.convert import convert_for_tflite

        return convert_for_tflite(job)

    def further_files(self, plan: Plan) -> Mapping[str, str]:
        return {"scheduler_step": FILE_NAME} if denoiser_of(plan) else {}

    def convert_further(
        self, plan: Plan, staging: Path, verify: bool, progress: Progress
    ) -> dict[str, Any]:
        denoiser = denoiser_of(plan)
        if denoiser is None:
            return {}
        from coreml_sd.targets.tflite.convert_scheduler_step import convert_scheduler_step

        return {"scheduler_step": convert_scheduler_step(denoiser, staging, verify, progress)}

    def content(self, path: str) -> str:
        return path

    def compare(self, subject: Subject) -> ComponentParity:
        from coreml_sd.targets.tflite.compare import compare_file

        return compare_file(subject)

    def compare_further(self, plan: Plan, bundle: Bundle) -> Iterator[Check]:
        denoiser = denoiser_of(plan)
        if denoiser is not None:
            from coreml_sd.targets.tflite.compare import compare_scheduler_step

            yield from compare_scheduler_step(denoiser, bundle)

    def best_runtime(self) -> str:
        return "litert"

    def costs(self, path: Path) -> FileCosts:
        from coreml_sd.targets.tflite.costs import tflite_costs

        return tflite_costs(path)

    def attention_calls(self, path: Path) -> Iterator[list[Call]]:
        from coreml_sd.targets.tflite.attention_calls import file_calls

        return file_calls(path)

    def rules(self) -> Sequence[Rule[Any]]:
        # Importing a module of rules registers them.
        from coreml_sd.targets.tflite import lint_fp16_rules, lint_rules  # noqa: F401
        from coreml_sd.targets.tflite.lint_view import TFLITE

        return TFLITE.rules

    def device(self, config: Mapping[str, Any]) -> str | None:
        return str(config.get("tflite", {}).get("android_profile", _DEFAULT_DEVICE))

    def lint(self, path: Path, name: str, device: str | None) -> Iterator[Finding]:
        from coreml_sd.runtimes.litert.file import TFLiteFile
        from coreml_sd.targets.tflite.lint_view import TFLiteView
        from coreml_sd.targets.tflite.profiles import profile

        chosen = profile(device or _DEFAULT_DEVICE)
        on_gpu = chosen.accelerator == "gpu"
        rules = [rule for rule in self.rules() if on_gpu or not rule.gpu_only]
        return broken(rules, TFLiteView(TFLiteFile(path), chosen), name)

    def bytes_per_weight(self, plan: Plan, component: str) -> float:
        from coreml_sd.targets.tflite.predicted_bytes import WEIGHT_BYTES

        return WEIGHT_BYTES[settings_of(plan).quantization_of(component)]

    def weight_bytes(self, plan: Plan, component: str, size: NetworkSize) -> int:
        from coreml_sd.targets.tflite.predicted_bytes import file_weight_bytes

        return file_weight_bytes(settings_of(plan).quantization_of(component), size)
