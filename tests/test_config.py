"""The conversion config: TOML and flags, checks, reproduction."""

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from coreml_sd.cli.knobs import config_options
from coreml_sd.config import ConversionConfig, from_dict, from_toml
from coreml_sd.errors import UserError
from coreml_sd.models.picture_size import parse_size


def test_a_config_survives_its_own_toml(tmp_path: Path) -> None:
    config = ConversionConfig(model="x", palettize=4, size="64x96", chunks="3", batch=1, prune=0.11)
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml())
    assert from_toml(file) == config
    assert from_toml(file).digest == config.digest


def test_flags_win_and_none_means_not_given() -> None:
    base = ConversionConfig(palettize=6, batch=1)
    assert base.merged({"palettize": 4, "batch": None}) == ConversionConfig(palettize=4, batch=1)


def test_chunks_may_be_written_as_a_number() -> None:
    assert from_dict({"coreml": {"chunks": 2}}).chunks == "2"


def test_a_fraction_is_a_float_in_a_file_and_in_a_flag() -> None:
    assert from_dict({"compress": {"prune": 0.25}}).prune == 0.25
    assert "prune" not in ConversionConfig().to_dict().get("compress", {})
    command = click.command()(config_options(lambda **flags: click.echo(repr(flags["prune"]))))
    assert CliRunner().invoke(command, ["--prune", "0.25"]).output == "0.25\n"
    assert CliRunner().invoke(command, []).output == "None\n"
    refused = CliRunner().invoke(command, ["--prune", "much"])
    assert refused.exit_code == 2
    assert "'much' is not a valid float" in refused.output


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"palettise": 6}, "unknown key palettise"),
        ({"compress": {"bits": 6}}, r"unknown key \[compress\] bits"),
        ({"palettize": 6}, "unknown key palettize"),
        ({"compress": {"palettize": 5}}, "choose from 1, 2, 3, 4, 6, 8"),
        ({"compress": {"palettize": "six"}}, "not of type"),
        ({"coreml": {"chunks": "many"}}, "give a number from 1, or auto"),
        ({"coreml": {"min_os": "iOS12"}}, "choose from iOS16"),
        ({"mobile": {"attention": "flash"}}, "choose from split-einsum"),
        ({"shape": {"size": "big"}}, "write HEIGHTxWIDTH"),
        ({"targets": []}, "targets is empty"),
        ({"compress": {"prune": "0.1"}}, "not of type float"),
        ({"compress": {"prune": True}}, "not of type float"),
        ({"compress": {"prune": 1}}, r"prune = 1\.0: .*above 0 and up to 0\.4"),
        ({"compress": {"prune": 0.0}}, r"above 0 and up to 0\.4"),
        ({"compress": {"prune": float("nan")}}, r"above 0 and up to 0\.4"),
    ],
)
def test_a_wrong_value_is_named(tree: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(tree)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("= 3")
    with pytest.raises(UserError, match=r"broken\.toml: not a TOML file"):
        from_toml(file)
    with pytest.raises(UserError, match="missing"):
        from_toml(tmp_path / "absent.toml")


def test_sizes() -> None:
    assert parse_size("512x768") == (512, 768)
    assert parse_size("64") == (64, 64)


@pytest.mark.parametrize("chunks", ["²", "٣", "0", "-1", "1.5", "9" * 5000, "", "1001"])
def test_chunks_are_a_number_in_plain_digits(chunks: str) -> None:
    with pytest.raises(UserError, match="chunks"):
        ConversionConfig(chunks=chunks)


@pytest.mark.parametrize("size", ["²", "8x²", "٨x٨", "9" * 5000, "8193x8", "x", "8x8x8", "-8"])
def test_a_size_is_in_plain_digits_and_within_the_limit(size: str) -> None:
    with pytest.raises(UserError, match="HEIGHTxWIDTH"):
        ConversionConfig(size=size)


DAMAGED_TOML = {
    "a pipe": None,
    "not UTF-8": b"\xff",
    "deep": b"a = " + b"[" * 20_000,
    "many digits": b"[compress]\ngroup_size = " + b"9" * 5000,
    "a large number": b"[compress]\ngroup_size = 999999999999",
    "a mark for a digit": '[coreml]\nchunks = "²"'.encode(),
    "a table for a knob": b"[model]\nx = 1",
    "a knob for a section": b"compress = 3",
    "a knob of another section": b"[coreml]\npalettize = 6",
}


@pytest.mark.parametrize("text", DAMAGED_TOML.values(), ids=DAMAGED_TOML)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, text: bytes | None) -> None:
    file = tmp_path / "c.toml"
    if text is None:
        os.mkfifo(file)
    else:
        file.write_bytes(text)
    with pytest.raises(UserError, match=r"c\.toml: "):
        from_toml(file)
