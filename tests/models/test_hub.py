"""Hub ids through huggingface_hub, its cache respected."""

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from coreml_sd.errors import UserError
from coreml_sd.models.source import find_source


def test_a_hub_id_is_fetched_without_pickles(monkeypatch, tmp_path: Path) -> None:
    asked = {}

    def fetch(name: str, **options):
        asked.update(options, name=name)
        return str(tmp_path / "abc123")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    source = find_source("org/model", "v1")
    assert source.revision == "abc123" and source.name == "org/model"
    assert asked["name"] == "org/model" and asked["revision"] == "v1"
    assert not any(
        pattern.endswith((".bin", ".ckpt", ".pt")) for pattern in asked["allow_patterns"]
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("x"), "the hub cannot be reached"),
        (OSError("broken pipe"), "broken pipe"),
    ],
)
def test_failures_are_one_line(monkeypatch, error: Exception, message: str) -> None:
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=message):
        find_source("org/model")
