"""The house has six rooms, and doors only in one direction (docs/architecture.md, section 1)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "spool": {"spool"},
    "policy": {"spool", "policy"},
    "ingress": {"spool", "policy", "ingress"},
    "scheduler": {"spool", "policy", "scheduler"},
    "delivery": {"spool", "policy", "delivery"},
    "control": {"spool", "policy", "ingress", "scheduler", "delivery", "control"},
}
THIRD_PARTY = {
    "spool": {"sqlite_utils", "anyio", "msgspec", "cryptography", "zstandard"},
    "policy": {"passlib", "cryptography", "anyio", "idna", "re2"},
    "ingress": {"aiosmtpd", "anyio"},
    "scheduler": {"anyio"},
    "delivery": {"aiosmtplib", "anyio", "dns", "idna", "msgspec"},
    "control": {"anyio", "msgspec", "uvloop"},
}
KNOWN_THIRD_PARTY = set().union(*THIRD_PARTY.values()) | {"rich", "click", "zstandard", "structlog"}


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_architecture_allows(package: str) -> None:
    allowed = MAY_IMPORT[package] | THIRD_PARTY[package]
    forbidden = (set(MAY_IMPORT) | KNOWN_THIRD_PARTY) - allowed
    wrong = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in sorted((ROOT / package).rglob("*.py"))
        if (bad := imported(path) & forbidden)
    }
    assert wrong == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_an_init_file_holds_nothing_but_words_and_protocols(package: str) -> None:
    body = ast.parse((ROOT / package / "__init__.py").read_text()).body
    assert [type(node).__name__ for node in body] == ["Expr"]
