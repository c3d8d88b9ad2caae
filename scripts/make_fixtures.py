#!/usr/bin/env python
"""Write tests/fixtures/*.json from the original libraries, or check that they are fresh.

scripts/make_fixtures.py            # write all
scripts/make_fixtures.py --check    # exit 1 where one differs from what the libraries give
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FOLDER = ROOT / "tests" / "fixtures"


def makers() -> dict[str, object]:
    """Fixture name -> module of scripts/fixtures with a `make()` that returns its JSON value."""
    import scripts.fixtures as package

    names = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    return {name: importlib.import_module(f"scripts.fixtures.{name}") for name in sorted(names)}


def text_of(module: object) -> str:
    """The JSON file's text: keys in order, one line for each entry of the top level."""
    value = module.make()  # type: ignore[attr-defined]
    lines = ",\n".join(
        f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()
    )
    return f"{{\n{lines}\n}}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    from scripts.fixtures import Unavailable

    FOLDER.mkdir(exist_ok=True)
    stale = []
    for name, module in makers().items():
        path = FOLDER / f"{name}.json"
        try:
            text = text_of(module)
        except Unavailable as reason:
            print(f"{name}.json left as it is: {reason}", file=sys.stderr)
            continue
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
            print(path)
    if check and stale:
        print(f"stale: {', '.join(stale)}; run scripts/make_fixtures.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
