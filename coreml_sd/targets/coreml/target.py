"""The `coreml` target: .mlpackage files for iOS and macOS."""

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
from coreml_sd.targets.coreml.settings import coreml_settings, mobile_options
from coreml_sd.targets.plan import Plan, TargetSettings

if TYPE_CHECKING:
    from coreml_sd.parity.checks import Check, ComponentParity
    from coreml_sd.targets.job import ConversionJob, Converted
    from coreml_sd.targets.subject import Subject


class CoreMLTarget:
    """See `coreml_sd.targets.target.Target`."""

    name = "coreml"
    suffix = ".mlpackage"
    packages: tuple[str, ...] = ("coremltools",)
    runs_beside = True
    holds_weights = False

    def settings(self, config: ConversionConfig) -> TargetSettings:
        return coreml_settings(config)

    def refuse_unused(self, config: ConversionConfig) -> None:
        return

    def notes(
        self, config: ConversionConfig, settings: TargetSettings, components: Sequence[str]
    ) -> list[str]:
        return []

    def rewrite(self, plan: Plan, component: ComponentSpec, network: Any) -> None:
        from coreml_sd.mobile import mobile_form

        mobile_form(component.form, network, mobile_options(plan))

    def convert(self, job: ConversionJob) -> Converted:
        from coreml_sd.targets.coreml.convert import convert_for_coreml

        return convert_for_coreml(job)

    def further_files(self, plan: Plan) -> Mapping[str, str]:
        return {}

    def convert_further(
        self, plan: Plan, staging: Path, verify: bool, progress: Progress
    ) -> dict[str, Any]:
        return {}

    def content(self, path: str) -> str:
        return f"{path}/Manifest.json"

    def compare(self, subject: Subject) -> ComponentParity:
        from coreml_sd.targets.coreml.compare import compare_packages

        return compare_packages(subject)

    def compare_further(self, plan: Plan, bundle: Bundle) -> Iterator[Check]:
        yield from ()

    def best_runtime(self) -> str:
        from coreml_sd.runtimes import coreml

        return "coreml" if coreml.available() else "mil"

    def costs(self, path: Path) -> FileCosts:
        from coreml_sd.targets.coreml.costs import package_costs

        return package_costs(path)

    def attention_calls(self, path: Path) -> Iterator[list[Call]]:
        from coreml_sd.targets.coreml.attention_calls import package_calls

        return package_calls(path)

    def rules(self) -> Sequence[Rule[Any]]:
        # Importing a module of rules registers them; the reader they need takes seconds to load.
        from coreml_sd.targets.coreml import lint_numeric_rules, lint_rules  # noqa: F401
        from coreml_sd.targets.coreml.lint_view import COREML

        return COREML.rules

    def device(self, config: Mapping[str, Any]) -> str | None:
        return None

    def lint(self, path: Path, name: str, device: str | None) -> Iterator[Finding]:
        from coreml_sd.runtimes.mil.package import MilPackage
        from coreml_sd.targets.coreml.lint_view import MilView

        return broken(self.rules(), MilView(MilPackage(path)), name)

    def bytes_per_weight(self, plan: Plan, component: str) -> float:
        return (plan.palettes.bits if plan.palettes else 16) / 8

    def weight_bytes(self, plan: Plan, component: str, size: NetworkSize) -> int:
        from coreml_sd.targets.coreml.predicted_bytes import package_weight_bytes

        return package_weight_bytes(plan.palettes, size)
