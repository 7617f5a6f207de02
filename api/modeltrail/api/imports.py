"""What processes of ours do without."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


class _WithoutPandas:
    """A finder of modules that says that pandas is not installed."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=name)
        return None


def leave_out_pandas() -> None:
    """Treat pandas as not installed, for the rest of this process.

    Where pandas is installed, Arrow imports it when it converts its first list or array, to find
    out whether that is one of pandas' own. The import takes 2 s of CPU time, and serves nothing.
    """
    sys.meta_path.insert(0, _WithoutPandas())
