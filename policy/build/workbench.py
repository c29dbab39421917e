"""What the builders of one configuration share."""

from __future__ import annotations

from dataclasses import dataclass, field

from policy.build.tables import TableShelf
from policy.config import Pki
from policy.errors import Finding, Place
from policy.filters import Filter
from policy.grammar.syntax import Script, Word
from policy.host import Host
from policy.suggestion import did_you_mean
from spool.layout import Layout


@dataclass(frozen=True, slots=True)
class Workbench:
    """The script, what it is built with, and the findings so far."""

    script: Script
    layout: Layout
    host: Host
    findings: list[Finding]
    shelf: TableShelf
    pkis: dict[str, Pki]
    #: By name, a chain as the filters in it.
    filters: dict[str, tuple[Filter, ...]] = field(default_factory=dict)

    def complain(self, place: Place, message: str) -> None:
        """Note an error."""
        self.findings.append(Finding.at(place, message))

    def warn(self, place: Place, message: str) -> None:
        """Note something doubtful."""
        self.findings.append(Finding.at(place, message, is_warning=True))

    def pki(self, name: Word) -> Pki | None:
        """The certificate called ``name``; None, and an error, when there is none."""
        declared = self.script.names("pki")
        if name.text.lower() not in declared:
            known = did_you_mean(name.text, declared, "declared are")
            self.complain(name.place, f'no pki "{name.text}" is declared{known}')
        return self.pkis.get(name.text.lower())

    def ca(self, name: Word) -> str:
        """The file of the trusted certificates called ``name``; empty, and an error, when there is none."""
        declared = self.script.names("ca")
        if name.text.lower() not in declared:
            known = did_you_mean(name.text, declared, "declared are")
            self.complain(name.place, f'no ca "{name.text}" is declared{known}')
        found = self.script.cas.get(name.text.lower())
        return self.layout.inside(found.text) if found else ""
