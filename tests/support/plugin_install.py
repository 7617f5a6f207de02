"""A thin install of this checkout, for a Python that has MLflow."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_NEEDED = ("fastavro", "kafka", "crc32c", "zstandard", "lz4")


def install_plugin(folder: Path) -> Path:
    """A folder for PYTHONPATH with the wheel, built anew, and what logging to Kafka needs.

    The latter is that of this Python, which has to be of the same version as the other one.
    """
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=_ROOT,
        check=True,
        capture_output=True,
    )
    site = folder / "site"
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in _NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(name)
        (site / name).symlink_to(spec.submodule_search_locations[0])
    return site
