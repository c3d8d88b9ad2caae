"""docs/lint.md lists the registered rules, neither more nor fewer."""

import re
from pathlib import Path

from coreml_sd.targets.saved_files import all_rules

TEXT = (Path(__file__).parents[2] / "docs/lint.md").read_text(encoding="utf-8")


def test_the_table_lists_exactly_the_registered_rules() -> None:
    rows = re.findall(r"^\| `([a-z]+/[a-z0-9-]+)` \| (\w+) \| (.+?) \|", TEXT, re.MULTILINE)
    assert rows == [(rule.id, rule.severity, rule.description) for rule in all_rules()]


def test_every_rule_has_an_id_of_its_own() -> None:
    ids = [rule.id for rule in all_rules()]
    assert len(ids) == len(set(ids)) > 25
