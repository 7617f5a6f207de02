"""The docs say what is so."""

import functools
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

from reference_docs import ROOT, generate

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = [
    path
    for folder in ("api", "consumers", "eventlog", "producers", "schemas", "tests", "examples")
    for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.parametrize("name", ["events.md", "registry.md", "views.md"])
def test_generated_pages_are_current(name: str) -> None:
    page = generate().PAGES[name]()
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert page == written, "run python docs/generate.py"


def test_every_view_and_column_is_documented() -> None:
    page = generate().views()
    assert not re.findall(r"^\| `\w+` \| [^|]+ \|  \|$", page, re.M)
    assert not re.findall(r"^## (\w+)\n\n\n", page, re.M)


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    in_code = {
        name
        for path in SOURCES
        for name in re.findall(r"MODELTRAIL_[A-Z0-9_]+", path.read_text(encoding="utf-8"))
    }
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(MODELTRAIL_[A-Z0-9_]+)`", page, re.M))
    assert in_code - {"MODELTRAIL_"} == documented


@functools.cache
def commands() -> frozenset[str]:
    """Every command, as in "sql" and "audit verify"."""
    return frozenset(generate().command_names())


def test_every_command_is_documented_and_every_documented_one_exists() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## `modeltrail ([a-z -]+)`", page, re.M)) == commands()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_files_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z]+)", text):
        assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: no target {target}"
    for script in re.findall(r"python ((?:docs|examples|benchmarks|tests)/[\w/]+\.py)", text):
        assert (ROOT / script).exists(), f"{page.name}: no {script}"
    known = {words.split()[0] for words in commands()}
    for command in re.findall(r"(?:^|`)modeltrail ([a-z]+)", text, re.M):
        assert command in known, f"{page.name}: no command {command}"


# Words that make a sentence hard to read, or that only translations use.
WORST_WORDS = re.compile(
    r"\b(told|nobody|anew|whomever|thereof|whereupon|of late|as of then|no matter|what of it)\b",
    re.I,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_are_in_plain_words(page: Path) -> None:
    assert not WORST_WORDS.findall(page.read_text(encoding="utf-8"))


def test_code_is_described_in_plain_words() -> None:
    found = []
    for path in SOURCES:
        if path.is_relative_to(ROOT / "tests"):
            continue
        with tokenize.open(path) as lines:
            for token in tokenize.generate_tokens(lines.readline):
                described = token.type == tokenize.COMMENT or token.string.startswith('"""')
                if described and (words := WORST_WORDS.findall(token.string)):
                    found.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {words}")
    assert not found


def test_help_lists_two_commands_for_newcomers() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    newcomers, contributors = shown.split("For contributors:")
    assert re.findall(r"make (\w+)\t", newcomers) == ["run", "test"]
    assert re.findall(r"make (\w+)\t", contributors) == ["check", "bench"]


def test_decisions_are_numbered_without_holes() -> None:
    numbers = sorted(int(p.name[:4]) for p in (ROOT / "docs" / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
