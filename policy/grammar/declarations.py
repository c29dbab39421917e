"""``listen``, ``table`` and ``action`` lines."""

from __future__ import annotations

from policy.errors import Place
from policy.grammar.arguments import literal, option, options
from policy.grammar.cursor import Cursor
from policy.grammar.syntax import ActionStatement, ListenStatement, Script, TableStatement, Word
from policy.grammar.vocabulary import LISTEN_OPTIONS, LOCAL_OPTIONS, METHODS, RELAY_OPTIONS, SOCKET_OPTIONS
from policy.lexer import KEYWORD, WORD


def listen(cursor: Cursor, script: Script, place: Place) -> None:
    """The rest of ``listen on ...``."""
    if not cursor.accept_word("on"):
        cursor.fail_expecting('"on" after "listen"')
    if cursor.accept_word("socket"):
        given = options(cursor, SOCKET_OPTIONS, "the socket listener")
        if any(not other.on for other in script.listens):
            cursor.fail(place, "the socket listener is configured already")
        script.listens.append(ListenStatement(place, "", given))
    else:
        word = cursor.string('"socket", an interface, an address or a host name')
        if not word.text:
            cursor.fail(word.place, "an empty string is no interface, address or host name")
        script.listens.append(ListenStatement(word.place, word.text, options(cursor, LISTEN_OPTIONS, "a listener")))
    cursor.end_directive()


def table(cursor: Cursor, script: Script, _place: Place) -> None:
    """The rest of a ``table`` line."""
    name = cursor.string("the name of the table")
    script.begun.add(("table", name.text))
    if name.text in script.tables:
        first = script.tables[name.text].name.place
        cursor.complain(name.place, f'table "{name.text}" is declared already, at {first}')
    content = literal(cursor) if cursor.at_mark("{") else cursor.string('"/path", file:/path or { ... } for the table')
    cursor.end_directive()
    script.tables.setdefault(name.text, TableStatement(name, content))


def _check_command(cursor: Cursor, command: Word) -> None:
    is_quoted = command.place.source[command.place.column - 1 :].startswith(('"', "'", "$"))
    if not (is_quoted or cursor.at_line_end or cursor.at_word(*LOCAL_OPTIONS)):
        cursor.fail(
            command.place, f'a command is one string: expected quotes around all of it, as in "{command.text} ..."'
        )


def action(cursor: Cursor, script: Script, _place: Place) -> None:
    """The rest of an ``action`` line: a name, a method, and options in any order."""
    name = cursor.string("the name of the action")
    script.begun.add(("action", name.text))
    if name.text in script.actions:
        first = script.actions[name.text].name.place
        cursor.complain(name.place, f'action "{name.text}" is declared already, at {first}')
    if not name.text:
        cursor.fail(name.place, "an action needs a name")
    if cursor.at_word("deliver"):
        cursor.fail(
            cursor.token.place, 'since OpenSMTPD 6.4 the method stands alone: mbox instead of "deliver to mbox"'
        )
    if cursor.token.kind not in (WORD, KEYWORD):
        cursor.fail_expecting(f"what the action does ({', '.join(METHODS)})")
    method = option(cursor, METHODS, "an action", "method")
    if method.word == "mda":
        _check_command(cursor, method.string())
    known = RELAY_OPTIONS if method.word == "relay" else LOCAL_OPTIONS
    given = options(cursor, known, f'action "{name.text}" ({method.word})')
    cursor.end_directive()
    script.actions.setdefault(name.text, ActionStatement(name, method, given))
