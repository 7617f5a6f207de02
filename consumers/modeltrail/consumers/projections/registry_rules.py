"""Rules for registry requests: names, keys, sizes. Limits and wording are MLflow's."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import unquote, urlparse

from modeltrail.limits import EXPERIMENT_NAME_CHARACTERS_MAX, KEY_CHARACTERS_MAX

INVALID = "INVALID_PARAMETER_VALUE"
MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
CONFLICT = "RESOURCE_CONFLICT"

STAGES = ("None", "Staging", "Production", "Archived")
ACTIVE_STAGES = ("Staging", "Production")

MODEL_NAME_MAX = 256
ALIAS_MAX = 255
EXPERIMENT_TAG_VALUE_MAX = 20_000
MODEL_TAG_VALUE_MAX = 100_000
DESCRIPTION_MAX = 100_000
LOCATION_MAX = 2048

_CANONICAL_STAGE = {stage.lower(): stage for stage in STAGES}
_KEY = re.compile(r"[/\w.\- :]*")
_ALIAS = re.compile(r"[\w\-]+")
_EXPERIMENT_ID = re.compile(r"0|[1-9][0-9]{0,17}")
_VERSION_ALIAS = re.compile(r"[vV]\d+")


class Rejected(Exception):
    """A request is refused by the rules, or by the state at its position.

    Attributes:
        code: MLflow's error code, such as ``RESOURCE_DOES_NOT_EXIST``.
        message: The reason, for display.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


def _invalid(message: str) -> NoReturn:
    raise Rejected(INVALID, message)


def _invalid_value(parameter: str, value: str, hint: str) -> NoReturn:
    shown = json.dumps(value)
    _invalid(f"Invalid value {shown} for parameter '{parameter}' supplied: {hint}")


def _length(parameter: str, value: str | None, limit: int) -> None:
    if value is not None and len(value) > limit:
        _invalid(f"'{parameter}' exceeds the maximum length of {limit} characters")


def _one_path(parameter: str, name: str) -> None:
    """Refuse ``a//b``, ``..`` and the like, because MLflow uses some of these as file names."""
    if "/" not in name and name[:1] not in (".", ""):
        return  # nearly all names need no more
    normal = posixpath.normpath(name)
    if normal != name or normal == "." or normal.startswith(("..", "/")):
        _invalid_value(
            parameter,
            name,
            "Names may be treated as files in certain cases, and must not resolve to other names"
            f" when treated as such. This name would resolve to {normal!r}",
        )


def experiment_name(name: str) -> None:
    """Check the name of an experiment."""
    if not name:
        _invalid(f"Invalid experiment name: '{name}'")
    _length("name", name, EXPERIMENT_NAME_CHARACTERS_MAX)


def experiment_id(wanted: str) -> None:
    """Check the id that an imported experiment is to keep."""
    if not _EXPERIMENT_ID.fullmatch(wanted):
        _invalid(f"Invalid experiment id: '{wanted}'; expected a number of up to 18 digits.")


def artifact_location(location: str | None) -> None:
    """Check where an experiment's runs are to store their artifacts."""
    if not location:
        return
    if len(location) > LOCATION_MAX:
        _invalid(
            "Invalid artifact path length. The length of the artifact path cannot be greater than "
            f"{LOCATION_MAX} characters."
        )
    try:
        parsed = urlparse(location)
    except ValueError as error:
        _invalid_value("artifact_location", location, str(error))
    if parsed.fragment or parsed.params:
        _invalid("'artifact_location' URL can't include fragments or params.")
    if ".." in unquote(unquote(parsed.query)):
        _invalid("Invalid query string: " + parsed.query)
    if location.startswith("runs:"):
        _invalid(f"Artifact location cannot be a runs:/ URI. Given: '{location}'")


def model_name(name: str, parameter: str = "name") -> None:
    """Check the name of a registered model."""
    if not name.strip():
        _invalid(f"Missing value for required parameter '{parameter}'.")
    if "/" in name or ":" in name:
        _invalid(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    _one_path("name", name)
    _length("name", name, MODEL_NAME_MAX)


def alias(name: str) -> None:
    """Check an alias to look up or remove."""
    if not name:
        _invalid("Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(name):
        _invalid(
            f"Invalid alias name: '{name}'. "
            "Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    _length("Registered model alias name", name, ALIAS_MAX)


def new_alias(name: str) -> None:
    """Check an alias to set. ``latest`` and ``v7`` already have a meaning."""
    alias(name)
    if name.lower() == "latest":
        _invalid("'latest' alias name (case insensitive) is reserved.")
    if _VERSION_ALIAS.fullmatch(name):
        _invalid(f"Version alias name '{name}' is reserved.")


def tags(changes: Mapping[str, str | None], value_max: int) -> None:
    """Check keys and values of tags. The value ``None`` removes a tag."""
    for key, value in changes.items():
        if not _KEY.fullmatch(key):
            _invalid_value(
                "key",
                key,
                "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.),"
                " spaces ( ), colon(:) and slashes (/).",
            )
        _one_path("key", key)
        _length("key", key, KEY_CHARACTERS_MAX)
        _length("value", value, value_max)


def description(text: str | None) -> None:
    """Check a description."""
    _length("description", text, DESCRIPTION_MAX)


def comment(text: str) -> None:
    """Check a comment."""
    if not text.strip():
        _invalid("A comment cannot be empty.")
    _length("text", text, DESCRIPTION_MAX)


def source(uri: str) -> None:
    """Check where a version's files are. The server decides whether a local path is allowed."""
    if not uri:
        _invalid("Missing value for required parameter 'source'.")


def stage(name: str) -> str:
    """Return the canonical name of a stage given in any case."""
    canonical = _CANONICAL_STAGE.get(name.lower())
    if canonical is None:
        _invalid(f"Invalid Model Version stage: {name}. Value must be one of {', '.join(STAGES)}.")
    return canonical
