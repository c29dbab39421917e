"""``pki`` and ``ca`` lines: the files are there, fit together, and are safe from others."""

from __future__ import annotations

import datetime

from policy.build.workbench import Workbench
from policy.config import Pki
from policy.grammar.syntax import PkiStatement, Word


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
    pki = Pki(name, bench.layout.inside(cert.text), bench.layout.inside(key.text))
    for problem in inspect(pki, datetime.datetime.now(datetime.UTC)):
        note = bench.warn if problem.is_warning else bench.complain
        note(key.place if problem.about_key else cert.place, problem.message)
    bench.pkis[name] = pki
