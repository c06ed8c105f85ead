"""Settings: layers, `--set` words, types, and the documentation of every key."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Literal

import pytest

from hs_data.manifests import settings
from hs_data.manifests.errors import ConfigError
from hs_data.pipeline.score.registry import LimitSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    stride: int = 5
    threshold: float = 0.5
    backend: Literal["haar", "yunet"] = "haar"

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ValueError("stride must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    faces: Inner = dataclasses.field(default_factory=Inner)
    name: str = "x"
    sizes: tuple[int, ...] = (1, 2)
    limit: float | None = None
    fast: bool = False


# --- layers


def test_the_later_layer_wins_key_by_key():
    first = {"faces": {"stride": 1, "backend": "haar"}, "name": "a"}
    second = {"faces": {"stride": 2}, "fast": True}
    assert settings.merge(first, {}, second) == {
        "faces": {"stride": 2, "backend": "haar"},
        "name": "a",
        "fast": True,
    }
    assert first == {"faces": {"stride": 1, "backend": "haar"}, "name": "a"}, "a layer was changed"


def test_merged_tables_are_not_shared_with_their_layers():
    layer = {"faces": {"stride": 1}}
    settings.merge(layer)["faces"]["stride"] = 9
    assert layer["faces"]["stride"] == 1


def test_a_table_and_a_value_replace_each_other():
    assert settings.merge({"faces": 3}, {"faces": {"stride": 1}}) == {"faces": {"stride": 1}}
    assert settings.merge({"faces": {"stride": 1}}, {"faces": 3}) == {"faces": 3}


# --- words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("-0.5", -0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("false", False),
        ("eyes", "eyes"),
        ('"eyes"', "eyes"),
        ("True", "True"),
        ("[1, 2, 3]", [1, 2, 3]),
        ("['a', 'b']", ["a", "b"]),
        ("a=b", "a=b"),
        ("/data/my films", "/data/my films"),
        ("", ""),
        ("é'\"", "é'\""),
    ],
    ids=[
        *("int", "negative_int", "negative_float", "exponent", "true", "false", "plain_string", "quoted_string"),
        *("capital_true", "list", "list_of_strings", "equals_in_value", "path_with_space", "empty", "quotes"),
    ],
)
def test_a_word_is_read_as_toml_or_else_as_a_string(text: str, value: object):
    read = settings.parse_assignments([f"faces.stride={text}"])["faces"]["stride"]
    assert read == value
    assert type(read) is type(value)


def test_words_nest_and_the_last_one_wins():
    words = ["faces.stride=1", "name=a", "faces.backend=yunet", "faces.stride=2"]
    assert settings.parse_assignments(words) == {"faces": {"stride": 2, "backend": "yunet"}, "name": "a"}


@pytest.mark.parametrize("word", ["faces.stride", "=3", " =3"], ids=["no_value", "no_key", "blank_key"])
def test_a_word_without_key_or_value_is_refused(word: str):
    with pytest.raises(ConfigError, match=r"write --set stage\.key=value") as caught:
        settings.parse_assignments([word])
    assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_value_cannot_be_used_as_a_table():
    with pytest.raises(ConfigError, match="name is a value"):
        settings.parse_assignments(["name=a", "name.b=1"])


# --- building


def test_nothing_given_gives_the_defaults():
    assert settings.build(Outer, {}) == Outer()


def test_every_kind_of_value_is_converted():
    table = {"faces": {"stride": 2, "threshold": 1, "backend": "yunet"}, "sizes": [3, 4], "limit": 2, "fast": True}
    built = settings.build(Outer, table)
    assert built == Outer(
        faces=Inner(stride=2, threshold=1.0, backend="yunet"), sizes=(3, 4), limit=2.0, fast=True, name="x"
    )
    assert type(built.faces.threshold) is float
    assert type(built.limit) is float
    assert type(built.sizes) is tuple


@pytest.mark.parametrize(
    ("table", "key", "nearest"),
    [
        ({"facs": {}}, "facs", "faces"),
        ({"faces": {"strid": 1}}, "faces.strid", "faces.stride"),
        ({"faces": {"treshold": 1}}, "faces.treshold", "faces.threshold"),
        ({"nam": "a"}, "nam", "name"),
    ],
    ids=["section", "nested", "nested_letter_missing", "top"],
)
def test_an_unknown_key_names_the_nearest_known_one(table: dict, key: str, nearest: str):
    with pytest.raises(ConfigError) as caught:
        settings.build(Outer, table)
    assert str(caught.value) == f"{key}: no such setting; did you mean {nearest}?"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"faces": {"stride": "5"}}, "faces.stride: '5' is not a whole number; give a whole number"),
        ({"faces": {"stride": 1.5}}, "faces.stride: 1.5 is not a whole number; give a whole number"),
        ({"faces": {"stride": True}}, "faces.stride: True is not a whole number; give a whole number"),
        ({"faces": {"threshold": False}}, "faces.threshold: False is not a number; give a number"),
        ({"limit": True}, "limit: True is not a number; give a number"),
        ({"sizes": [1, True]}, "sizes: True is not a whole number; give a whole number"),
        ({"sizes": ["a"]}, "sizes: 'a' is not a whole number; give a whole number"),
        ({"fast": 1}, "fast: 1 is not true or false; give true or false"),
        ({"fast": "true"}, "fast: 'true' is not true or false; give true or false"),
        ({"name": 3}, "name: 3 is not text; give text"),
        ({"faces": 3}, "faces: 3 is not a table; write faces.key=value"),
        ({"faces": {"backend": "mtcnn"}}, "faces.backend: 'mtcnn' is not possible; choose one of haar, yunet"),
        ({"faces": {"stride": 0}}, "faces.stride must be at least 1"),
    ],
    ids=[
        *("string_for_int", "fraction_for_int", "bool_for_int", "bool_for_float", "bool_for_optional"),
        *("bool_in_tuple", "string_in_tuple", "int_for_bool", "string_for_bool", "int_for_string"),
        *("value_for_table", "literal", "post_init"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(table: dict, message: str):
    with pytest.raises(ConfigError) as caught:
        settings.build(Outer, table)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["inf", "+inf", "-inf", "nan", "1e999"])
@pytest.mark.parametrize("key", ["faces.threshold", "limit"])
def test_a_number_that_cannot_be_written_down_is_refused(key: str, text: str):
    table = settings.parse_assignments([f"{key}={text}"])
    with pytest.raises(ConfigError, match=f"^{key}: .* give a finite one$"):
        settings.build(Outer, table)


@pytest.mark.parametrize("nothing", [None, ""], ids=["none", "empty"])
def test_an_optional_value_can_be_switched_off(nothing: object):
    assert settings.build(Outer, {"limit": nothing}).limit is None


def test_a_table_of_a_config_builds_the_same_config():
    config = Outer(faces=Inner(stride=3, threshold=0.25, backend="yunet"), sizes=(7,), limit=1.5, fast=True, name="é")
    table = settings.to_table(config)
    assert table["sizes"] == [7]
    assert table["faces"] == {"stride": 3, "threshold": 0.25, "backend": "yunet"}
    assert settings.build(Outer, table) == config


def test_keys_are_dotted_and_in_order_with_types_and_defaults():
    assert [(key, default) for key, _, default in settings.keys(Outer)] == [
        ("faces.stride", 5),
        ("faces.threshold", 0.5),
        ("faces.backend", "haar"),
        ("name", "x"),
        ("sizes", (1, 2)),
        ("limit", None),
        ("fast", False),
    ]
    assert {key: kind for key, kind, _ in settings.keys(Outer)}["faces.stride"] is int


# --- files


def test_a_toml_file_is_read(tmp_path: Path):
    path = tmp_path / "s.toml"
    path.write_text('[faces]\nstride = 3\nbackend = "yunet"\n', encoding="utf-8")
    assert settings.load_toml(path) == {"faces": {"stride": 3, "backend": "yunet"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"a = 1\nb = = 2\n", "line 2"), (b"a = '\xff'\n", "not valid TOML")],
    ids=["missing", "bad_line", "not_utf8"],
)
def test_a_bad_toml_file_is_named(tmp_path: Path, content: bytes | None, words: str):
    path = tmp_path / "s.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        settings.load_toml(path)
    assert str(caught.value).startswith(str(path))


# --- the settings of a build


def _sections() -> dict[str, type]:
    from hs_data.pipeline.config import Config

    hints = typing.get_type_hints(Config)
    return {field.name: hints[field.name] for field in dataclasses.fields(Config)}


def _documented_fields(cls: type) -> dict[str, str | None]:
    """Return each annotated field of a class with the string that stands under it, from its source."""
    if cls is LimitSettings:  # made of the metrics: its fields carry their texts
        return {}
    source = Path(inspect.getsourcefile(cls) or "").read_text(encoding="utf-8")
    body = next(n.body for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and n.name == cls.__name__)
    found: dict[str, str | None] = {}
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            found[statement.target.id] = str(text.value) if isinstance(text, ast.Constant) else None
    return found


def test_every_setting_of_a_build_is_documented_under_its_field():
    sections = _sections()
    assert len(sections) >= 13
    undocumented = []
    for name, cls in sections.items():
        documented: dict[str, str | None] = {}
        for base in cls.__mro__:
            documented |= _documented_fields(base) if dataclasses.is_dataclass(base) else {}
        documented |= {
            field.name: field.metadata["doc"] for field in dataclasses.fields(cls) if "doc" in field.metadata
        }
        for field in dataclasses.fields(cls):
            text = documented[field.name]
            if not text or not text[0].isascii() or not text.rstrip().endswith((".", ")", "]")):
                undocumented.append(f"{name}.{field.name}")
    assert undocumented == []


def test_every_section_is_frozen_and_keyword_only():
    for name, cls in _sections().items():
        parameters = cls.__dataclass_params__  # type: ignore[attr-defined]
        assert parameters.frozen, name
        assert all(field.kw_only for field in dataclasses.fields(cls)), name


def test_the_settings_of_a_build_survive_a_round_trip():
    from hs_data.pipeline.config import Config

    words = ["faces.backend=yunet", "crop.policy=eyes", "select.min_face_px=64", "run.unit_s=10"]
    config = settings.build(Config, settings.parse_assignments(words))
    assert config.select.min_face_px == 64.0
    assert config != Config()
    assert settings.build(Config, settings.to_table(config)) == config


def test_layers_of_a_build_win_in_their_order(tmp_path: Path):
    from hs_data.pipeline.config import resolve

    file = tmp_path / "own.toml"
    file.write_text("[faces]\nstride = 3\nmin_score = 0.7\nmax_side_px = 320\n", encoding="utf-8")
    config = resolve(
        preset="cpu",  # says yunet
        source={"faces": {"stride": 2, "batch": 4}},
        saved={"select": {"min_face_px": 50.0}},
        file=file,
        assignments=["faces.min_score=0.9", "select.min_face_px=70", "select.max_yaw_deg=30"],
    )
    assert config.faces.backend == "yunet"
    assert (config.faces.stride, config.faces.batch, config.faces.min_score) == (3, 4, 0.9)
    assert config.faces.max_side_px == 320
    assert (config.select.min_face_px, config.select.max_yaw_deg) == (50.0, 30.0)


def test_an_unknown_preset_names_those_there_are():
    from hs_data.pipeline.config import resolve

    with pytest.raises(ConfigError, match="cpu, embedded"):
        resolve(preset="gpu", source={}, saved={}, file=None, assignments=[])


@pytest.mark.parametrize(
    ("word", "scores", "shards"),
    [
        ("select.min_face_px=1", False, False),
        ("run.shard_mb=1", False, False),
        ("crop.policy=static", False, True),
        ("latents.jpeg_quality=90", False, True),
        ("faces.stride=2", True, True),
        ("scenes.threshold=30", True, True),
        ("speech.hangover_frames=1", True, True),
        ("tracks.min_iou=0.4", True, True),
        # A looser one halves clips further, a stricter one asks for no other clips.
        ("select.min_clip_s=1", True, True),
        ("select.min_clip_s=5", False, False),
        ("run.chunk_s=100", True, True),
        # How long a decode may take changes nothing; with what it is done, all.
        ("decode.min_timeout_s=1", False, False),
        ("decode.timeout_factor=1", False, False),
        ("decode.backend=decord", True, True),
        # How a lead is measured is in the scores; what is done about it is in the shards only.
        ("sync.correct=true", False, True),
        ("sync.min_confidence=0.9", False, True),
        ("sync.dead_band_frames=3", False, True),
        ("sync.max_residual_ms=200", False, True),
        ("sync.max_shift_frames=12", True, True),
        ("sync.window_s=4", True, True),
        ("crop.smooth_frames=1", True, True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_fingerprints_change_with_what_they_stand_for_and_with_nothing_else(word: str, scores: bool, shards: bool):
    from hs_data.pipeline.config import Config

    plain, changed = Config(), settings.build(Config, settings.parse_assignments([word]))
    assert changed != plain
    assert (plain.score_fingerprint() != changed.score_fingerprint()) is scores
    assert (plain.encode_fingerprint() != changed.encode_fingerprint()) is shards


def test_there_is_no_setting_for_the_size_of_a_crop():
    """It is that of the codec."""
    from hs_data.pipeline.config import Config

    with pytest.raises(ConfigError, match=r"^crop\.size: no such setting"):
        settings.build(Config, {"crop": {"size": 256}})
