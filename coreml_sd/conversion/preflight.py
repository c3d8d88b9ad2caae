"""What would stop a conversion later, looked at before its first component and in a dry run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from coreml_sd.compress.supported import PRUNED_ROLE
from coreml_sd.errors import CoremlSDError, UserError
from coreml_sd.models.component import ComponentSpec
from coreml_sd.models.folder.tokenizer_files import require_embedding_rows
from coreml_sd.targets.plan import Plan
from coreml_sd.targets.registry import targets


def preflight(plan: Plan, names: Collection[str] | None = None) -> None:
    """Open networks without reading a weight, and rewrite them for their targets.

    Args:
        names: of the components to look at; all that are planned if not given.

    Raises:
        UserError: files that are missing, damaged or do not fit their config, a network that has
            no mobile form, or a tokenizer with words that its text encoder does not know.
    """
    for component in plan.components:
        if names is None or component.name in names:
            _look_at(plan, component)


def _look_at(plan: Plan, component: ComponentSpec) -> None:
    network = component.open().module
    if component.role == "text_encoder":
        tokenizer = component.name.replace("text_encoder", "tokenizer")
        config: Any = network.config
        require_embedding_rows(plan.model.folder, int(config.vocab_size), tokenizer)
    if plan.config.prune is not None and component.role == PRUNED_ROLE:
        return  # its form is that of another network, which is made of its weights
    try:
        for target in targets(plan.config.targets):
            target.rewrite(plan, component, network)
    except CoremlSDError as error:
        raise UserError(f"{plan.model.folder.path}/{component.part}: {error}") from None
    except Exception as error:  # whatever a value makes it say that no network was built with
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{plan.model.folder.path}/{component.part}/config.json: no mobile form can be made of "
            f"its network ({reason})"
        ) from None
