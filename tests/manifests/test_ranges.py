"""Absurd but writable settings: every number has a range, and what lies outside is refused in one line."""

import dataclasses
import math
import typing
from pathlib import Path

import pytest

from hs_data.manifests import settings
from hs_data.manifests.errors import ConfigError
from hs_data.pipeline.config import Config
from hs_data.trainer.config import TrainConfig
from hs_data.trainer.recipes.registry import own_recipes

HUGE = "1" + "0" * 400
ABSURD = (
    *("nan", "inf", "-inf", "1e999", "1e308", "-1e308", "1e-9", "1e-300", "-1", "-0.0", "0", HUGE, f"-{HUGE}"),
    *("0x" + "f" * 5000, "9" * 5000, "true", "''", "abc", "[1]", "{a = 1}", "1979-05-27", "[" * 2000, "1_0"),
)
"""As they stand behind `--set KEY=`."""


def _sections() -> list[tuple[str, type]]:
    """Every section of settings with what stands before its keys."""
    found = [
        (f"{name}.", kind) for config in (Config, TrainConfig) for name, kind in typing.get_type_hints(config).items()
    ]
    return found + [("recipe.", kind.config) for kind in own_recipes().values()]


def _numbers() -> list[tuple[str, type, str, type]]:
    """Every setting that is a number: the prefix of its section, the section, its name and its type."""
    return [
        (path, section, field.name, typing.get_type_hints(section)[field.name])
        for path, section in _sections()
        for field in dataclasses.fields(section)
        if typing.get_type_hints(section)[field.name] in (int, float)
    ]


NUMBERS = _numbers()
IDS = [f"{section.__name__}.{name}" for _, section, name, _ in NUMBERS]


def test_every_number_has_a_range_that_holds_its_default():
    assert len(NUMBERS) >= 100
    for path, section, name, _ in NUMBERS:
        allowed = settings.ranges(section)[name]
        default = getattr(section(), name)
        assert allowed.low <= default <= allowed.high, f"{path}{name}"
        assert math.isfinite(allowed.high - allowed.low), f"{path}{name}"


@pytest.mark.parametrize(("path", "section", "name", "kind"), NUMBERS, ids=IDS)
def test_an_absurd_number_is_in_range_or_refused_in_one_line(path: str, section: type, name: str, kind: type):
    allowed = settings.ranges(section)[name]
    key, refused = f"{path}{name}", []
    for text in ABSURD:
        try:
            table = settings.parse_assignments([f"{key}={text}"])[path.rstrip(".")]
            value = getattr(settings.build(section, table, path=path), name)
        except ConfigError as error:
            refused.append(str(error))
        else:
            assert type(value) is kind
            assert allowed.low <= value <= allowed.high, text
    assert len(refused) >= len(ABSURD) - 8
    for message in refused:
        assert message.startswith((f"{key}: ", f"--set {key}: "))
        assert "\n" not in message
        assert len(message) < 200


@pytest.mark.parametrize(("path", "section", "name", "kind"), NUMBERS, ids=IDS)
def test_just_outside_is_refused_with_the_range(path: str, section: type, name: str, kind: type):
    allowed = settings.ranges(section)[name]
    for end, step in ((allowed.low, -1), (allowed.high, 1)):
        outside = kind(end + step * max(abs(end) * 1e-6, 1 if kind is int else 1e-9))
        with pytest.raises(ConfigError) as caught:
            settings.build(section, {name: outside}, path=path)
        assert str(caught.value).startswith(f"{path}{name}: "), "the key is named once, in full"
        assert str(caught.value).endswith(f"is out of range; give {allowed}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tracks.max_clip_s=2"], "tracks.max_clip_s: 2 is less than select.min_clip_s, 3; give more"),
        (
            ["select.val_share=0.5", "select.test_share=0.5"],
            "select.test_share: 0.5 leaves nothing beside val_share to train on; give less",
        ),
        (["latents.logvar=true"], "latents.logvar: backend=block_dct has no variance; use sd_vae, or logvar=false"),
        (["run.chunk_s=1e-9"], "run.chunk_s: 1e-09 is out of range; give 10 to 1,000,000"),
    ],
)
def test_a_refused_setting_is_named_once_and_in_full(words: list[str], message: str):
    with pytest.raises(ConfigError) as caught:
        settings.build(Config, settings.parse_assignments(words))
    assert str(caught.value) == message


# --- nesting


@pytest.mark.parametrize(
    "content",
    ["a = " + "[" * 100_000, "a = " + "[" * 500 + "]" * 500, "x" + ".x" * 5000 + " = 1", "a = " + "{a=" * 3000],
    ids=["open_brackets", "arrays", "dotted_key", "inline_tables"],
)
def test_deeply_nested_toml_is_one_line(tmp_path: Path, content: str):
    file = tmp_path / "deep.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        settings.build(Config, settings.load_toml(file))
    assert str(caught.value) == f"{file}: nested too deeply; no setting is"


@pytest.mark.parametrize(
    "word", ["a=" + "[" * 5000, "a" + ".a" * 5000 + "=1", "a = " + "{a=" * 3000 + "1" + "}" * 3000]
)
def test_a_deeply_nested_word_is_one_line(word: str):
    with pytest.raises(ConfigError, match=r"^--set a.*: nested too deeply; ") as caught:
        settings.build(Config, settings.parse_assignments([word]))
    assert len(str(caught.value)) < 200


# --- hints


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("min_face_px", "did you mean select.min_face_px?"),
        ("crop.min_face_px", "did you mean select.min_face_px?"),
        ("min_fase_px", "did you mean select.min_face_px?"),
        ("min_clip_s", "did you mean select.min_clip_s?"),
        ("batch", "did you mean faces.batch or latents.batch?"),
        ("faces.strid", "did you mean faces.stride?"),
        ("facs.stride", "did you mean faces.stride?"),
        ("select.select.min_face_px", "did you mean select.min_face_px?"),
        ("wxyz", "docs/settings.md lists all of them"),
    ],
)
def test_a_key_without_its_table_is_known_by_its_name(key: str, hint: str):
    with pytest.raises(ConfigError) as caught:
        settings.build(Config, settings.parse_assignments([f"{key}=200"]))
    assert str(caught.value).endswith(f": no such setting; {hint}")


@pytest.mark.parametrize("word", ["run=[1]", "recipe=3", "model=tiny", "data=1"])
def test_a_value_in_the_place_of_a_table_is_refused(word: str):
    from hs_data.trainer.request import resolve

    with pytest.raises(ConfigError, match=r"^(\w+): .* is not a table; write \1\.key=value$"):
        resolve("highsync-stage1", file=None, assignments=[word], over={})


def test_a_setting_of_the_recipe_is_known_by_its_name():
    from hs_data.trainer.request import resolve

    with pytest.raises(ConfigError, match=r"^noise_offset: no such setting; did you mean recipe\.noise_offset\?$"):
        resolve("highsync-stage2", file=None, assignments=["noise_offset=0.1"], over={})
