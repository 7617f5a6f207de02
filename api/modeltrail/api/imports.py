"""Imports that this project's processes avoid."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


class _WithoutPandas:
    """A finder of modules that reports pandas as not installed."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=name)
        return None


def leave_out_pandas() -> None:
    """Treat pandas as not installed, for the rest of this process.

    If pandas is installed, Arrow imports it when it converts its first list or array, to check
    whether that is a pandas object. The import takes 2 s of CPU time and has no use here.
    """
    sys.meta_path.insert(0, _WithoutPandas())
