"""The training of the demo: data, tokenizer, resuming, export."""

import itertools
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from training.demo import captions, loop, render, subjects, tokenizer


def test_there_are_enough_subjects_and_each_is_one_of_a_kind() -> None:
    listed = subjects.load_subjects()
    assert len(listed) >= 256
    assert len({subject.name for subject in listed}) == len(listed)
    assert len({subject.codepoint for subject in listed}) == len(listed)
    assert len(subjects.BACKGROUNDS) == 8


def test_captions_read_like_english() -> None:
    assert captions.caption("zebra", "blue", captions.NAMED[0]) == "a zebra on a blue background"
    assert captions.caption("owl", None, "{a}") == "an owl"
    assert captions.caption("grapes", "red", "{a} on {colour}") == "grapes on red"


def test_a_caption_always_names_the_subject_and_mostly_the_background() -> None:
    generator = random.Random(0)
    drawn = [captions.draw_caption("zebra", "blue", generator) for _ in range(400)]
    assert all("zebra" in text for text in drawn)
    assert 0.8 < sum("blue" in text for text in drawn) / 400 < 0.95


def test_the_tokenizer_is_clips_own_format(tmp_path: Path) -> None:
    texts = captions.all_captions(["zebra", "owl"], ["blue"])
    words = tokenizer.write_tokenizer(tmp_path, texts)
    ids = words("A Zebra on a BLUE background!")["input_ids"]
    assert words.convert_ids_to_tokens(ids)[0] == "<|startoftext|>"
    assert ids[-1] == len(words) - 1 and ids[0] == len(words) - 2
    assert words.decode(ids, skip_special_tokens=True).strip() == "a zebra on a blue background !"
    unseen = words("na\u00efve \U0001f993 42")["input_ids"]
    assert words.unk_token_id not in unseen[1:-1]


def test_backgrounds_shine_through_transparent_pixels() -> None:
    glyph = np.zeros((1, 4, 4, 4), np.float32)
    glyph[0, 1, 1] = [1, 0, 0, 1]
    picture = render.composite(glyph, (10, 20, 30))[0]
    assert picture[0, 0].tolist() == [10, 20, 30] and picture[1, 1].tolist() == [255, 0, 0]


@pytest.mark.skipif(not render.has_font(), reason=render.REMEDY)
def test_no_two_subjects_look_alike() -> None:
    glyphs = render.render_glyphs(subjects.load_subjects())
    assert glyphs.shape[1:] == (64, 64, 4)
    assert render.closest_pairs(glyphs).min() > 0.04


def make_loop(folder: Path, minutes: float) -> tuple[loop.TrainingLoop, nn.ModuleDict]:
    torch.manual_seed(0)
    modules = nn.ModuleDict({"line": nn.Linear(3, 1)})
    made = loop.TrainingLoop(
        folder / "line.pt", modules, minutes=minutes, learning_rate=0.1, batch=1
    )
    return made, modules


def test_a_stopped_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()  # of 10 ms, however long a step takes here
    clock = SimpleNamespace(monotonic=lambda: next(ticks) * 0.01)
    monkeypatch.setattr(loop, "time", clock)
    first, modules = make_loop(tmp_path, minutes=0.005)
    first.run(lambda step: (modules["line"](torch.ones(3)) - 2).square().sum())
    assert first.step > 10 and first.spent >= 0.3
    again, restored = make_loop(tmp_path, minutes=0.005)
    assert again.step == first.step and again.spent == first.spent
    torch.testing.assert_close(restored["line"].weight, modules["line"].weight)
    torch.testing.assert_close(again.ema_state()["line.weight"], first.ema_state()["line.weight"])
    again.run(lambda step: pytest.fail("the budget is spent"))
    longer, _ = make_loop(tmp_path, minutes=0.01)
    longer.run(lambda step: longer.modules["line"](torch.ones(3)).sum())
    assert longer.step > first.step
