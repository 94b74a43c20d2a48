"""The configuration: what is refused and in which words, the defaults, and that README, schema and files agree."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from smad_features.config import ConfigError, complete_config, load_config, load_schema
from smad_features.fingerprints import canonical
from smad_features.freshness import STAGES, common_record
from smad_features.quality import CONTENT_COLUMNS, EYE_COLUMNS, FACE_COLUMNS, MANIFEST_COLUMNS
from smad_features.quality_parts import PARTICIPANT_COLUMNS

README = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
SCHEMA = load_schema("config")
TABLES = ("clips", "labels", "annotations")


def keys_of(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each key that holds a value, as `face.margin`, with its rule."""
    for key, rule in schema["properties"].items():
        if "properties" in rule:
            yield from keys_of(rule, f"{prefix}{key}.")
        else:
            yield prefix + key, rule


RULES = dict(keys_of(SCHEMA))


def at(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def changed(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of ``values`` with another value at ``key``."""
    values = copy.deepcopy(values)
    *sections, last = key.split(".")
    inner = values
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[last] = value
    return values


def table_under(heading: str) -> dict[str, list[str]]:
    """The first table after a heading of the README: its first column, without backticks -> the other cells."""
    section = re.split(rf"^#+ {re.escape(heading)}$", README, flags=re.MULTILINE)[1]
    table = re.split(r"\n(?!\|)", section[section.index("\n|") + 1 :], maxsplit=1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0].strip("` "): row[1:] for row in rows}


KEYS = table_under("Keys")


# ---- what is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clip": "x"}, r"unknown key `clip`; allowed here: annotations, cache, checkpoints, clips, "),
        ({"face": {"margins": 0.1}}, r"unknown key `face\.margins`; allowed here: align, frames, margin, "),
        ({"train": {"lr": 1, "epoch": 2}}, r"unknown key `train\.epoch`, `train\.lr`; allowed here: accumulate"),
        ({1: "x", "y": 2}, r"unknown key `1`, `y`"),
        ({"face": {"frames": "eight"}}, r"`face\.frames`: 'eight' is not of type 'integer' \(face\.frames: frames"),
        ({"face": {"frames": True}}, r"`face\.frames`: True is not of type 'integer'"),
        ({"face": {"frames": 0}}, r"`face\.frames`: 0 is less than the minimum of 1"),
        ({"face": {"frames": 8.5}}, r"`face\.frames`: 8\.5 is not of type 'integer'"),
        ({"face": None}, r"`face`: None is not of type 'object'"),
        ({"eye": {"stimulus_area": [0, 0, 0, 540]}}, r"`eye\.stimulus_area\.2`: 0 is less than or equal to"),
        ({"eye": {"stimulus_area": [0, 0, 9, float("inf")]}}, r"`eye\.stimulus_area`: inf is not a finite number"),
        ({"eye": {"screen": [1920]}}, r"`eye\.screen`: \[1920\] is too short"),
        ({"on_bad_clip": "drop"}, r"`on_bad_clip`: 'drop' is not one of \['quarantine', 'keep', 'fail'\]"),
        ({"emotions": ["joy", "joy"]}, r"`emotions`: \['joy', 'joy'\] has non-unique elements"),
        ({"emotions": ["joy", "a,b"]}, r"`emotions\.1`: 'a,b' does not match"),
        ({"tasks": ["dominance"]}, r"`tasks\.0`: 'dominance' is not one of"),
        ({"folds": {"disjoint": ["stimulus"]}}, r"`folds\.disjoint`: \['stimulus'\] does not contain"),
        ({"score": {"polarity": {"fear": "bad"}}}, r"`score\.polarity\.fear`: 'bad' is not one of \['positive'"),
        ({"tasks": []}, r"`tasks`: \[\] should be non-empty"),
        ({"clips": None}, r"`clips`: None is not of type 'string'"),
        (["clips"], r"`the whole file`: \['clips'\] is not of type 'object'"),
        ("clips", r"`the whole file`: 'clips' is not of type 'object'"),
        ({"train": {"learning_rate": "1e-4"}}, r"`train\.learning_rate`: '1e-4' .*; YAML reads a number .* 1\.0e-4"),
        ({"face": {"margin": float("nan")}}, r"`face\.margin`: nan is not a finite number"),
        ({"eye": {"offset": float("inf")}}, r"`eye\.offset`: inf is not a finite number"),
    ],
)
def test_what_is_not_allowed_is_refused_with_key_and_value(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^my.yaml: {message}"):
        complete_config(values, source="my.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"face: {margin: 0.1", "not YAML: "),
        (b"face:\n\tmargin: 0.1\n", "not YAML: "),
        (b"clips: caf\xe9.tsv\n", "not UTF-8 text: "),
        (b"train: {learning_rate: 1e-4}\n", "YAML reads a number without quotes"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{re.escape(str(path))}: .*{message}"):
        load_config(path)


def test_an_absent_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path)


# ---- defaults


@pytest.mark.parametrize("content", ["", "{}", "# nothing but a comment\n", "---\n", "null"])
def test_an_empty_file_is_all_defaults(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content, encoding="utf-8")
    config = load_config(path)
    assert {key: at(config, key) for key in RULES} == {key: rule["default"] for key, rule in RULES.items()}


def test_a_section_that_names_one_key_has_the_defaults_of_the_others() -> None:
    config = complete_config({"face": {"margin": 0.25}, "report": {}})
    assert config == changed(complete_config({}), "face.margin", 0.25)


def test_json_is_a_configuration_too_and_what_the_jobs_get_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = complete_config({"face": {"model": "detector"}, "labels": None})
    (tmp_path / "config.json").write_text(canonical(config), encoding="utf-8")
    assert canonical(load_config(tmp_path / "config.json")) == canonical(config)


def test_the_spelling_of_a_number_is_not_part_of_a_configuration() -> None:
    one = complete_config({"face": {"margin": 0, "frames": 8.0}, "video": {"frame_rate": 30}, "train": {"epochs": 5.0}})
    two = complete_config({"face": {"margin": 0.0, "frames": 8}, "video": {"frame_rate": 30.0}, "train": {"epochs": 5}})
    assert canonical(one) == canonical(two)
    area = [complete_config({"eye": {"stimulus_area": place}}) for place in ([0, 0, 960, 540], [0.0, 0.0, 960.0, 540])]
    assert canonical(area[0]) == canonical(area[1])
    assert isinstance(one["face"]["frames"], int)


def test_what_is_handed_in_stays_as_it_is() -> None:
    values = {"face": {"margin": 1}}
    complete_config(values)["face"]["size"] = 16
    assert values == {"face": {"margin": 1}}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "margin", "no"]), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(values=st.dictionaries(st.sampled_from([*SCHEMA["properties"], "no"]), VALUES) | VALUES)
def test_whatever_is_handed_in_comes_out_complete_or_is_refused_in_a_sentence(values: Any) -> None:
    try:
        config = complete_config(values)
    except ConfigError as error:
        assert str(error).startswith("configuration: ")
    else:
        for key in RULES:
            at(config, key)
        json.dumps(config, allow_nan=False)


# ---- the schema, its README and the files that ship


@pytest.mark.parametrize("name", ["config", *TABLES])
def test_the_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(load_schema(name))


def test_every_key_has_an_allowed_default_and_a_meaning_and_every_section_refuses_others() -> None:
    defaults: dict[str, Any] = {}
    for key, rule in RULES.items():
        assert rule.get("description"), key
        defaults = changed(defaults, key, rule["default"])
    Draft202012Validator(SCHEMA).validate(defaults)
    for section in (SCHEMA, *(rule for rule in SCHEMA["properties"].values() if "properties" in rule)):
        assert section["additionalProperties"] is False


def test_the_readme_lists_every_key_in_order_and_no_other() -> None:
    assert list(KEYS) == list(RULES)


@pytest.mark.parametrize("key", RULES)
def test_the_readme_says_default_and_limits_as_the_schema_does(key: str) -> None:
    allowed, default, meaning, reruns = KEYS[key]
    assert yaml.safe_load(default.strip("`")) == RULES[key]["default"]
    assert meaning
    assert reruns
    rule = RULES[key].get("items", {}) | RULES[key]
    words = (
        "minimum",
        "exclusiveMinimum",
        "maximum",
        *(() if "enum" in rule or key in ("eye.screen", "eye.stimulus_area") else ("minItems",)),
    )
    limits = [rule[word] for word in words if word in rule]
    assert [float(number) for number in re.findall(r"\d+(?:\.\d+)?", re.sub("`.*?`|two", "", allowed))] == limits
    named = set(re.findall(r"`([^`]+)`", allowed)) - {"A-Z a-z 0-9 _ -"}
    if "enum" in rule:
        assert named == set(rule["enum"])
    elif rule["type"] == "boolean":
        assert named == {"true", "false"}
    else:
        assert named == ({"null"} if "null" in rule["type"] else {"train"} if key == "checkpoints" else set())


def another(key: str) -> Any:
    """An allowed value of a key that is not its default."""
    rule, default = RULES[key], RULES[key]["default"]
    if "examples" in rule:
        return rule["examples"][0]
    if "enum" in rule:
        return next(value for value in rule["enum"] if value != default)
    if isinstance(default, list):
        return default[::-1]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return min(default + 1, rule.get("maximum", default + 1))
    if "integer" in rule["type"]:
        return rule["minimum"]
    if "array" in rule["type"]:
        return [0, 0, 960, 540][: rule["maxItems"]]
    if "object" in rule["type"]:
        return {"time": rule["additionalProperties"].get("enum", ["t"])[0]}
    return "other"


# One preset of channels has no other to change to.
@pytest.mark.parametrize("key", [key for key in RULES if key != "eye.channels"])
def test_the_readme_names_the_stage_whose_units_a_key_makes_stale(key: str) -> None:
    before, after = complete_config({}), complete_config(changed({}, key, another(key)))
    stale = [name for name, stage in STAGES.items() if common_record(stage, before) != common_record(stage, after)]
    assert stale == [name for name in STAGES if name in KEYS[key][3].split(", ")]


@pytest.mark.parametrize("name", TABLES)
def test_the_readme_lists_every_column_in_order_with_its_limits(name: str) -> None:
    schema, columns = load_schema(name), table_under(f"{name}.tsv")
    assert list(columns) == list(schema["properties"])
    for column, (cells, allowed, meaning) in columns.items():
        rule = schema["properties"][column]
        types = rule.get("type", "string")
        may_be_empty = "null" in types or (name == "clips" and column not in schema["required"])
        assert cells == ("may be empty" if may_be_empty else "required")
        assert meaning
        if "maximum" in rule:
            assert allowed == f"{rule['minimum']} to {rule['maximum']}"
        if "enum" in rule:
            assert re.findall(r"`(\w+)`", allowed) == rule["enum"]


@pytest.mark.parametrize("path", ["config/config.yaml", "config/demo/config.yaml"])
def test_the_configurations_that_ship_are_valid(path: str) -> None:
    assert load_config(ROOT / path).keys() == complete_config({}).keys()


def test_the_configuration_that_ships_shows_the_defaults() -> None:
    shown = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    assert {"clips", "labels", "emotions", "on_bad_clip", "face", "eye", "tasks", "folds", "checkpoints"} <= set(shown)
    assert load_config(ROOT / "config" / "config.yaml") == complete_config({})


def test_every_column_of_the_quality_table_is_explained() -> None:
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    section = text.split("## What quality.tsv says")[1].split("\n## ")[0]
    of_clips, of_participants = section.split("`results/quality_participants.tsv`")
    for part, columns in (
        (of_clips, (*MANIFEST_COLUMNS, *FACE_COLUMNS, *EYE_COLUMNS, *CONTENT_COLUMNS)),
        (of_participants, PARTICIPANT_COLUMNS),
    ):
        rows = re.findall(r"^\| (`.*?) \|", part, flags=re.M)
        explained = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
        assert sorted(explained) == sorted({*columns})
        assert len(explained) == len({*explained})
