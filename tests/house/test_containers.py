"""Containers listen on all addresses, and so must ask who it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent


def test_the_image_asks_who_it_is() -> None:
    command = re.search(r"^CMD (\[.*\])$", (_ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert command is not None
    words = json.loads(command[1])
    assert words[0] == "serve"
    assert "--auth" in words
    assert "install -d -m 700" in (_ROOT / "Dockerfile").read_text()


def test_compose_asks_who_it_is_and_publishes_to_this_machine_alone() -> None:
    text = (_ROOT / "compose.yml").read_text()
    command = text.partition("command:\n      - serve\n")[2].partition("\n\n")[0]
    assert "--host=0.0.0.0" in command
    assert "- --auth" in command
    for ports in re.findall(r"ports: \[(.*)\]", text):
        assert ports.startswith('"127.0.0.1:'), ports
