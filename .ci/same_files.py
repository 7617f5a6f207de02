"""Fail unless two wheels hold the same files, the data that the program needs among them."""

import sys
from zipfile import ZipFile

first, second = (set(ZipFile(path).namelist()) for path in sys.argv[1:3])
if first != second:
    raise SystemExit(f"the wheel made from the sdist differs: {sorted(first ^ second)}")
for suffix in (".avsc", ".sql", "py.typed", "licenses/LICENSE"):
    if not any(name.endswith(suffix) for name in first):
        raise SystemExit(f"the wheel has no {suffix}")
stray = {n for n in first if not n.startswith("modeltrail")}
if stray:
    raise SystemExit(f"the wheel would install outside of modeltrail/: {sorted(stray)}")
print(f"{len(first)} files")  # noqa: T201
