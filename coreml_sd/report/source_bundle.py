"""The source of a bundle as if it were a bundle: its facts and its tokenizer, no files."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from coreml_sd.bundle import Bundle
from coreml_sd.models.folder.tokenizer_files import write_tokenizer_files
from coreml_sd.targets.plan import Plan


@contextlib.contextmanager
def source_bundle(plan: Plan) -> Iterator[Bundle]:
    """What a conversion would tell generation, in a folder that is there while the block runs.

    The torch runtime draws with it; nothing of it comes from a bundle but the config.
    """
    with tempfile.TemporaryDirectory(prefix="coreml-sd-") as folder:
        write_tokenizer_files(plan.model.folder, Path(folder))
        manifest = {"config": plan.config.to_dict(), "pipeline": plan.model.facts.to_dict()}
        yield Bundle(Path(folder), manifest)
