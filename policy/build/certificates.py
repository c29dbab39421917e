"""``pki`` and ``ca`` lines: the files are there, fit together, and are safe from others."""

from __future__ import annotations

import datetime
from typing import Final

from policy.build.workbench import Workbench
from policy.config import Pki
from policy.grammar.syntax import PkiStatement, Word
from policy.suggestion import did_you_mean

_DHE: Final = ("none", "auto", "legacy")


def build_pkis(bench: Workbench) -> None:
    """Every pki that can be used goes to ``bench.pkis``, whether a listener names it or not."""
    for name, statement in bench.script.pkis.items():
        if statement.is_misread:
            continue
        if statement.cert is None or statement.key is None:
            missing = "cert" if statement.cert is None else "key"
            bench.complain(
                statement.name.place, f'pki {name} has no {missing}: expected a line "pki {name} {missing} FILE"'
            )
        else:
            _build_pki(bench, statement, statement.cert, statement.key)


def check_cas(bench: Workbench) -> None:
    """Every ``ca`` file can be read, whether a relay names it or not."""
    if not bench.script.cas:
        return
    # Reading certificates costs 8 MB of memory and 60 ms: only those pay who have some.
    from policy.pki import inspect_ca

    for path in bench.script.cas.values():
        if problem := inspect_ca(bench.layout.inside(path.text)):
            bench.complain(path.place, problem)


def _build_pki(bench: Workbench, statement: PkiStatement, cert: Word, key: Word) -> None:
    # As in `check_cas`.
    from policy.pki import inspect

    name = statement.name.text
    dhe = _dhe(bench, statement.dhe)
    pki = Pki(name, bench.layout.inside(cert.text), bench.layout.inside(key.text), dhe)
    for problem in inspect(pki, datetime.datetime.now(datetime.UTC)):
        note = bench.warn if problem.is_warning else bench.complain
        note(key.place if problem.about_key else cert.place, problem.message)
    bench.pkis[name] = pki


def _dhe(bench: Workbench, word: Word | None) -> bool:
    if word is None:
        return False
    if word.text not in _DHE:
        bench.complain(word.place, f'unknown setting "dhe {word.text}"{did_you_mean(word.text, _DHE)}')
    elif word.text == "legacy":
        bench.warn(word.place, '"legacy" parameters of 1024 bits are broken: 2048 bits are used, as "auto" says')
    return word.text != "none"
