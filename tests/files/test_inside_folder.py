"""What a file names stays inside its folder."""

from pathlib import Path

import pytest

from coreml_sd.errors import UserError
from coreml_sd.files.inside_folder import file_inside
from coreml_sd.files.limits import LIMITS


@pytest.mark.parametrize("name", ["a", "a/b.bin", "..a", "a..", "ünïcode/ x", "missing/file"])
def test_a_plain_name_is_taken(tmp_path: Path, name: str) -> None:
    assert file_inside(tmp_path, name) == tmp_path / name


OUT = ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a/../b", "a//b", "a/", "/", "./a"]


@pytest.mark.parametrize("name", [*OUT, "a\\b", "..\\x", "C:x", "a\0b", "x" * 5000 + "/"])
def test_a_name_that_may_lead_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="not a path inside it"):
        file_inside(tmp_path, name)


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in").symlink_to(folder / "inner")
    for name in ("out", "up/secret", "up/not-there"):
        with pytest.raises(UserError, match="leads out"):
            file_inside(folder, name)
    assert file_inside(folder, "in/x") == folder / "in/x"


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert file_inside(tmp_path / "link", "x") == tmp_path / "link/x"


def test_a_ring_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match="names 'a'"):
        file_inside(tmp_path, "a")


def test_a_name_has_a_limit_of_depth(tmp_path: Path) -> None:
    deepest = "/".join(["a"] * LIMITS.nesting)
    assert file_inside(tmp_path, deepest) == tmp_path / deepest
    with pytest.raises(UserError, match="not a path inside it"):
        file_inside(tmp_path, f"{deepest}/a")
