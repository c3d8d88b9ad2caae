"""What every target says and does; `coreml_sd.targets.registry` lists them.

Outside a target's own rooms nothing asks for its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from coreml_sd.bundle import Bundle
    from coreml_sd.config import ConversionConfig
    from coreml_sd.costs.attention_graph import Call
    from coreml_sd.costs.file_costs import FileCosts
    from coreml_sd.costs.network_size import NetworkSize
    from coreml_sd.lint.finding import Finding
    from coreml_sd.lint.rule import Rule
    from coreml_sd.models.component import ComponentSpec
    from coreml_sd.parity.checks import Check, ComponentParity
    from coreml_sd.progress import Progress
    from coreml_sd.targets.job import ConversionJob, Converted
    from coreml_sd.targets.plan import Plan, TargetSettings
    from coreml_sd.targets.subject import Subject


class Target(Protocol):
    """One kind of file that components are written as.

    `suffix` is that of its files, `packages` what converts for it. `runs_beside`: components may be
    converted in processes beside each other; `holds_weights`: a conversion has whole networks in
    memory, without a proof too.
    """

    name: str
    suffix: str
    packages: tuple[str, ...]
    runs_beside: bool
    holds_weights: bool

    def settings(self, config: ConversionConfig) -> TargetSettings:
        """Check the knobs that it honours, and settle what they leave open.

        Raises:
            UserError: a knob asks for what cannot be had, or what converts is not installed.
        """
        ...

    def refuse_unused(self, config: ConversionConfig) -> None:
        """Refuse knobs of its own that are set where its files are not asked for.

        Raises:
            UserError: names the knob.
        """
        ...

    def notes(
        self, config: ConversionConfig, settings: TargetSettings, components: Sequence[str]
    ) -> list[str]:
        """What its files get where they cannot have what a knob asks for."""
        ...

    def rewrite(self, plan: Plan, component: ComponentSpec, network: Any) -> None:
        """Make the form that its files are made from, to see whether there is one."""
        ...

    def convert(self, job: ConversionJob) -> Converted:
        """Write the files of a component and prove them.

        Raises:
            CoremlSDError: a file fails its gates.
        """
        ...

    def further_files(self, plan: Plan) -> Mapping[str, str]:
        """Files of a whole bundle that are no component's, by the manifest's key for them."""
        ...

    def convert_further(
        self, plan: Plan, staging: Path, verify: bool, progress: Progress
    ) -> dict[str, Any]:
        """Write those and prove them; gives the manifest's keys.

        Raises:
            CoremlSDError: a file fails its gates.
        """
        ...

    def content(self, path: str) -> str:
        """The file that is listed in every manifest with a network's file of this path."""
        ...

    def compare(self, subject: Subject) -> ComponentParity:
        """The files of a finished bundle against their source, worked out anew."""
        ...

    def compare_further(self, plan: Plan, bundle: Bundle) -> Iterator[Check]:
        """The files that are no component's, and what the manifest says of them."""
        ...

    def best_runtime(self) -> str:
        """The runtime that executes its files on this machine."""
        ...

    def costs(self, path: Path) -> FileCosts:
        """Count in one saved file.

        Raises:
            UserError: the file is damaged, or what reads it is not installed.
        """
        ...

    def attention_calls(self, path: Path) -> Iterator[list[Call]]:
        """The ops of one saved file, function by function."""
        ...

    def rules(self) -> Sequence[Rule[Any]]:
        """The lint rules for its files."""
        ...

    def device(self, config: Mapping[str, Any]) -> str | None:
        """The kind of device that a manifest's config names; None where it has no kinds."""
        ...

    def lint(self, path: Path, name: str, device: str | None) -> Iterator[Finding]:
        """What its rules find in one saved file, which findings call `name`.

        Raises:
            UserError: the file is damaged, or there is no such device.
        """
        ...

    def bytes_per_weight(self, plan: Plan, component: str) -> float:
        """Bytes of one weight of a component, at least."""
        ...

    def weight_bytes(self, plan: Plan, component: str, size: NetworkSize) -> int:
        """Bytes of a component's weights as they will be stored, nothing pruned."""
        ...
