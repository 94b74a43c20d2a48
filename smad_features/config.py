"""The configuration: one YAML file, checked against its schema, every missing key filled from there."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key, the value and what is allowed."""


def load_schema(name: str) -> dict[str, Any]:
    """The schema of ``name``: config, clips, labels or annotations."""
    return yaml.safe_load((files("smad_features") / "schemas" / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def load_config(path: Path) -> dict[str, Any]:
    """Read, check and complete a configuration file (YAML, and so JSON too).

    Raises
    ------
    ConfigError
        No such file, no YAML, an unknown key, or a value that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"configuration {path}: no such file") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path}: not YAML: {error}") from None
    return complete_config({} if values is None else values, source=str(path))


def complete_config(values: Any, *, source: str = "configuration") -> dict[str, Any]:
    """Check ``values`` and return a copy with the schema's default for each key that is absent, nested ones too."""
    schema = load_schema("config")
    error = best_match(Draft202012Validator(schema).iter_errors(values))
    if error is not None:
        where = ".".join(str(part) for part in error.absolute_path)
        if error.validator == "additionalProperties":
            unknown = sorted(set(error.instance) - set(error.schema["properties"]))
            prefix = f"{where}." if where else ""
            names = ", ".join(f"`{prefix}{key}`" for key in unknown)
            allowed = ", ".join(sorted(error.schema["properties"]))
            raise ConfigError(f"{source}: unknown key {names}; allowed here: {allowed}")
        hint = error.schema.get("description") if isinstance(error.schema, dict) else None
        raise ConfigError(
            f"{source}: `{where or 'the whole file'}`: {error.message}" + (f" ({where}: {hint})" if hint else "")
        )
    return _with_defaults(values, schema)


def _with_defaults(values: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    complete = {}
    for key, sub in schema["properties"].items():
        value = values.get(key, sub.get("default"))
        complete[key] = _with_defaults(value, sub) if "properties" in sub else value
    return complete
