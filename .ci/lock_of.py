"""Print the part of requirements.lock that the project needs with the given extras."""

import importlib.metadata
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(name: str, extras: set[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Names of the distributions that this one needs, itself included."""
    if (name, frozenset(extras)) in seen:
        return set()
    seen.add((name, frozenset(extras)))
    names = {name}
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in {"", *extras}):
            names |= needed(canonicalize_name(requirement.name), set(requirement.extras), seen)
    return names


def main() -> None:
    """Print it."""
    wanted = needed("modeltrail", set(sys.argv[1:]), set())
    lock = Path(__file__).parent.parent / "requirements.lock"
    for entry in re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8")):
        if canonicalize_name(re.split("[=[ ]", entry)[0]) in wanted:
            print(entry)  # noqa: T201


main()
