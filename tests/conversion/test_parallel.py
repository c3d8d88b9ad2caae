"""Components converted beside each other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.conversion.convert import convert
from coreml_sd.conversion.parallel import share_out
from coreml_sd.conversion.plan import plan_conversion
from coreml_sd.models.folder.diffusers_folder import DiffusersFolder
from coreml_sd.progress import Advance, Silent, Stage


class Awaiting(Silent):
    """Progress that notes when a stage begins."""

    def __init__(self, title: str) -> None:
        self._title = title
        self.begun = threading.Event()

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[Advance]:
        if stage.title == self._title:
            self.begun.set()
        yield lambda done, of: None


def test_what_a_worker_tells_does_not_wait_for_the_digest_of_a_large_model(
    sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ConversionConfig(model=str(sd1_folder), chunks="1")
    *_, last = share_out(plan_conversion(config), 2)[1]
    progress, in_time = Awaiting(f"{last}: load"), []
    true_digest = DiffusersFolder.digest

    def late(folder: DiffusersFolder) -> str:
        in_time.append(progress.begun.wait(60))
        return true_digest(folder)

    monkeypatch.setattr(DiffusersFolder, "digest", late)
    bundle = convert(config, tmp_path / "b", verify=False, jobs=2, progress=progress)
    assert in_time == [True]
    assert len(bundle.manifest["components"]) == 4
