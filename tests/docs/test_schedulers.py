"""docs/schedulers.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from coreml_sd.schedulers.own import own_scheduler

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/schedulers.md").read_text(encoding="utf-8")
TABLE = json.loads((ROOT / "tests/fixtures/scheduler_table.json").read_text(encoding="utf-8"))


def test_each_class_is_drawn_with_what_the_page_says() -> None:
    rows = re.findall(r"^\| `(\w+Scheduler)` \| `([^`]+)` \| (.*?) ?\|$", PAGE, re.MULTILINE)
    assert len(rows) >= 20
    for kind, name, told in rows:
        own = own_scheduler({"_class_name": kind})
        assert own.name == name, kind
        assert bool(own.note) <= ("the nearest" in told), kind
        assert bool(own.note) or told != "the nearest", kind


def test_every_key_that_is_refused_is_on_the_page() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE.split("## What is refused")[1]))
    refused = {pair["refused"] for pair in TABLE["pairs"] if "refused" in pair}
    assert refused <= told and len(refused) > 25
