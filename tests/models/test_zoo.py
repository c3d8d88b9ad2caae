"""Published folders, made runnable, are read as diffusers reads them; the table in the docs."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from coreml_sd.config import ConversionConfig
from coreml_sd.errors import UserError
from coreml_sd.models.folder.tokenizer_files import write_tokenizer_files
from coreml_sd.models.open_model import open_model, own_size
from coreml_sd.parity.diffusers_source import DiffusersSource, own_network, reading_check
from coreml_sd.parity.pipeline_checks import pipeline_parity
from scripts.bench.document import replaced
from tests.helpers.diffusers_pipeline import as_diffusers_opens
from tests.helpers.published_folders import NAMES
from tests.helpers.zoo_folder import SIDE, write_zoo_folder

PAGE = Path(__file__).parents[2] / "docs/model-folders.md"
HEADING = "| folder | pipeline | picture | padding | scheduler | weights | result |\n"
RULE = "|---|---|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    """What is found in one folder, for the docs."""

    name: str
    pipeline: str
    picture: str = ""
    padding: str = ""
    scheduler: str = ""
    weights: str = ""
    result: str = ""

    def line(self) -> str:
        cells = (self.pipeline, self.picture, self.padding, self.scheduler, self.weights)
        escaped = (cell.replace("|", r"\|") for cell in (self.name, *cells, self.result))
        return f"| {' | '.join(escaped)} |\n"


def look_at(name: str, folder: Path, work: Path) -> Row:
    """Compare everything with diffusers; what is refused is the row's result."""
    pipeline = json.loads((folder / "model_index.json").read_text("utf-8"))["_class_name"]
    whole = ConversionConfig(model=str(folder))
    try:
        model = open_model(whole)
    except UserError as error:
        return Row(name, pipeline, result="refused: " + str(error).replace(str(folder), name))
    write_tokenizer_files(model.folder, work)
    facts = json.loads(json.dumps(model.facts.to_dict()))
    read = pipeline_parity(DiffusersSource(model.folder), facts, work, own_size(whole))
    assert [check.name for check in read.checks if not check.passed] == []
    small = open_model(ConversionConfig(model=str(folder), size=f"{SIDE}x{SIDE}", batch=1))
    for component in small.components:
        own_one = own_network(small.folder, component)
        assert own_one is not None
        assert reading_check(component, own_one).passed, component.name
    height, width = model.facts.size
    tokenizer = as_diffusers_opens(folder).tokenizer
    pads = [tokenizer.decode([model.facts.tokenizer["pad_token_id"]])]
    if model.facts.tokenizer_2:
        pads.append(tokenizer.decode([model.facts.tokenizer_2["pad_token_id"]]))
    files = {
        file.name for part in model.folder.networks for file in model.folder.weight_files(part)
    }
    return Row(
        name,
        pipeline,
        f"{height}x{width}",
        ", ".join(f"`{pad}`" for pad in pads),
        model.facts.advice.scheduler,
        ", ".join(f"`{file}`" for file in sorted(files)),
        "as diffusers reads it",
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    work = tmp_path_factory.mktemp("zoo")
    found = {}
    for name in NAMES:
        (work / f"{name}-tokens").mkdir()
        folder = write_zoo_folder(name, work / name)
        found[name] = look_at(name, folder, work / f"{name}-tokens")
    return found


def test_published_folders_are_read_as_diffusers_reads_them(rows: dict[str, Row]) -> None:
    read = [name for name, row in rows.items() if row.result == "as diffusers reads it"]
    assert read == ["sd-1-4", "sd-1-5", "sd-2-1-768", "sd-2-1-base", "sdxl-base"]


def test_the_padding_that_only_one_file_names(rows: dict[str, Row]) -> None:
    assert rows["sd-2-1-768"].padding == "`!`" and rows["sd-1-5"].padding == "`<|endoftext|>`"
    assert rows["sdxl-base"].padding == "`<|endoftext|>`, `!`"


def test_the_default_scheduler_is_the_published_one(rows: dict[str, Row]) -> None:
    expected = {"sd-1-5": "pndm", "sd-2-1-768": "ddim", "sd-2-1-base": "pndm", "sdxl-base": "euler"}
    assert {name: rows[name].scheduler for name in expected} == expected


def test_the_table_in_the_docs_is_what_was_found(rows: dict[str, Row]) -> None:
    """With COREML_SD_WRITE_DOCS set it is written."""
    text = HEADING + RULE + "".join(row.line() for row in rows.values())
    page = replaced(PAGE.read_text("utf-8"), "zoo", text)
    if os.environ.get("COREML_SD_WRITE_DOCS"):
        PAGE.write_text(page, "utf-8")
    assert page == PAGE.read_text("utf-8")
