"""The configuration: one YAML file, checked against its schema, every missing key filled from there."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

# libyaml's parser, where PyYAML was built with it: each command reads the schema, and Python's own takes 40 ms for it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key, the value and what is allowed."""


def load_schema(name: str) -> dict[str, Any]:
    """The schema of ``name``: config, clips, labels or annotations."""
    text = (files("smad_features") / "schemas" / f"{name}.schema.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=_LOADER)


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
    except OSError as error:
        raise ConfigError(f"configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration {path}: not UTF-8 text: {error}") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path}: not YAML: {error}") from None
    return complete_config({} if values is None else values, source=str(path))


def complete_config(values: Any, *, source: str = "configuration") -> dict[str, Any]:
    """Check ``values`` and return a copy with the schema's default for each key that is absent, nested ones too.

    A number comes out as its key's type whichever way it was written (`margin: 0`, `frames: 8.0`), as the spelling
    of a number must make nothing stale.
    """
    schema = load_schema("config")
    error = best_match(Draft202012Validator(schema).iter_errors(values))
    if error is not None:
        where = ".".join(str(part) for part in error.absolute_path)
        if error.validator == "additionalProperties":
            unknown = sorted(map(str, set(error.instance) - set(error.schema["properties"])))
            prefix = f"{where}." if where else ""
            names = ", ".join(f"`{prefix}{key}`" for key in unknown)
            allowed = ", ".join(sorted(error.schema["properties"]))
            raise ConfigError(f"{source}: unknown key {names}; allowed here: {allowed}")
        hint = error.schema.get("description") if isinstance(error.schema, dict) else None
        raise ConfigError(
            f"{source}: `{where or 'the whole file'}`: {error.message}{_spelling(error.instance)}"
            + (f" ({where}: {hint})" if hint else "")
        )
    return _with_defaults(values, schema, source=source)


def read_said(said: dict[str, Any], schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """What was said on the command line, nested as in a configuration, with numbers and the like read as such.

    Snakemake reads what stands inside ``--config run='{participants_per_job: 8}'`` as text, whatever it is.
    """
    properties = (load_schema("config") if schema is None else schema).get("properties", {})
    read: dict[str, Any] = {}
    for key, value in said.items():
        rule = properties.get(key, {})
        types = rule.get("type", "string")
        if isinstance(value, dict):
            read[key] = read_said(value, rule)
        elif isinstance(value, str) and "string" not in ([types] if isinstance(types, str) else types):
            try:
                read[key] = yaml.safe_load(value)
            except yaml.YAMLError:
                read[key] = value  # refused in a moment, by its name
        else:
            read[key] = value
    return read


def _spelling(value: Any) -> str:
    """A word of help where a number came out as text: YAML 1.1 takes 1e-4 for one."""
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return ""
    return "; YAML reads a number without quotes, and with a point before its exponent: 1.0e-4"


def _with_defaults(values: dict[str, Any], schema: dict[str, Any], *, source: str, prefix: str = "") -> dict[str, Any]:
    complete: dict[str, Any] = {}
    for key, sub in schema["properties"].items():
        value = values.get(key, sub.get("default"))
        if "properties" in sub:
            complete[key] = _with_defaults(value, sub, source=source, prefix=f"{key}.")
        elif sub.get("type") == "number":
            complete[key] = _finite(value, f"{source}: `{prefix}{key}`")
        elif sub.get("items", {}).get("type") == "number" and value is not None:
            complete[key] = [_finite(item, f"{source}: `{prefix}{key}`") for item in value]
        elif sub.get("items", {}).get("type") == "integer":
            complete[key] = [int(item) for item in value]
        else:
            complete[key] = int(value) if sub.get("type") == "integer" else value
    return complete


def _finite(value: float, where: str) -> float:
    # No bound refuses what cannot be compared, and no JSON can carry it to the jobs.
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {value} is not a finite number")
    return float(value)
