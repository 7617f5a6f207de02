"""House rules: directions, names, the lock, and what may not be in the repository."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from modeltrail.consumers.reading import queries

ROOT = Path(__file__).parents[2]
PARTS = ("api", "consumers", "eventlog", "producers", "schemas")
MODULES = sorted(
    ".".join(path.relative_to(ROOT / part).with_suffix("").parts).removesuffix(".__init__")
    for part in PARTS
    for path in (ROOT / part / "modeltrail").rglob("*.py")
)
PACKAGES = [f"modeltrail.{part}" for part in PARTS]


def committed() -> list[Path]:
    """The files that the repository holds; in an unpacked sdist all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_imports_point_one_way() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_part_has_an_init_of_the_namespace() -> None:
    assert not [p for p in PARTS if (ROOT / p / "modeltrail" / "__init__.py").exists()]


def texts(*parts: str) -> Iterator[tuple[Path, str]]:
    """All text in the code of some parts: literals, documents, pieces of composed text."""
    for part in parts:
        for path in (ROOT / part / "modeltrail").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path, node.value


def test_outside_the_consumers_nothing_names_a_table_of_the_fold() -> None:
    scripts = (ROOT / "consumers").rglob("*.sql")
    made = re.findall(r"CREATE (?:TABLE|VIEW) (fold\.\w+)", "".join(p.read_text() for p in scripts))
    assert len(made) > 30
    named = re.compile("|".join(rf"\b{re.escape(table)}\b" for table in made))
    others = [part for part in PARTS if part != "consumers"]
    assert not [(path.name, text) for path, text in texts(*others) if named.search(text)]


def test_queries_are_where_they_are_looked_for_and_all_are_used() -> None:
    folder = ROOT / "consumers" / "modeltrail" / "consumers" / "queries"
    files = {path.stem: set(queries(path.stem)) for path in folder.iterdir()}
    there = {f"{file}.{name}" for file, names in files.items() for name in names}
    calls = re.compile(rf"(?:{'|'.join(files)})\.(?!sql$)[a-z_]+")
    used = {text for _, text in texts(*PARTS) if calls.fullmatch(text)}
    assert used == there


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_sorted_there_and_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    names = list(getattr(module, "__all__", []))
    # As ruff sorts them: constants, classes, functions.
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    for name in names:
        value = getattr(module, name)
        if callable(value):
            assert value.__doc__, f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_part_is_typed(package: str) -> None:
    part = package.rpartition(".")[2]
    assert (ROOT / part / "modeltrail" / part / "py.typed").exists()


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import modeltrail.producers", {"kafka", "sqlite3", "json.tool"}),
        (
            "import modeltrail.producers, modeltrail.producers.run, modeltrail.eventlog",
            {"duckdb", "fastapi", "uvicorn", "pyarrow", "numpy", "starlette"},
        ),
        ("import modeltrail.eventlog", {"kafka", "duckdb"}),
    ],
)
def test_an_import_brings_nothing_heavy(code: str, heavy: set[str]) -> None:
    probe = f"import sys; {code}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert not heavy & set(out.stdout.split())


def lock() -> dict[str, list[str]]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text):
        assert "--hash=sha256:" in entry, f"no hash: {entry}"
        name, version = re.match(r"([\w.\-]+)==(\S+)", entry).groups()  # type: ignore[union-attr]
        pins.setdefault(canonicalize_name(name), []).append(version)
    return pins


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(r for extra in project["project"]["optional-dependencies"].values() for r in extra),
        *project["dependency-groups"]["dev"],
    ]
    pins = lock()
    for text in wanted:
        requirement = Requirement(text)
        versions = pins.get(canonicalize_name(requirement.name), [])
        assert versions, f"{text} is not in requirements.lock: run `make lock`"
        assert any(v in requirement.specifier for v in versions), (
            f"requirements.lock has {versions} where {text} is asked for: run `make lock`"
        )


# Written in pieces, so that this file passes its own test.
FORBIDDEN = [
    re.compile(pattern)
    for pattern in (
        r"/wo" r"rk/(?:main|shared|\.library)",
        r"/ro" r"ot/",
        r"/opt/wh" r"eels",
        r"files\.python" r"hosted\.org",
        r"(?<![\w.])pypi\." r"org",
        r"repo1?\.maven\." r"(?:apache\.)?org",
        r"registry\.np" r"mjs\.org",
        r"--(?:extra-)?index-url\s+http",
    )
]  # fmt: skip


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = []
    for path in committed():
        if path.suffix in {".bin", ".png", ".ico", ".woff2"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [
            f"{path.relative_to(ROOT)}: {match.group()}"
            for pattern in FORBIDDEN
            for match in pattern.finditer(text)
        ]
    assert not found


def test_no_data_and_no_secret_is_committed() -> None:
    names = [p.relative_to(ROOT).as_posix() for p in committed()]
    bad = re.compile(r"\.(sqlite|duckdb|pem|key|env)(-wal|-shm)?$|^modeltrail-data/|__pycache__")
    assert not [n for n in names if bad.search(n)]
    assert all((ROOT / n).stat().st_size < 1_000_000 for n in names)


def test_scripts_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
