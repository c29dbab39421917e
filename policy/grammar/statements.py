"""A whole configuration, directive by directive, with every error in it.

Guarantees: `read_script` reads to the end whatever the text is, and says everything that is wrong with it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeAlias

from policy.errors import Finding, Place
from policy.grammar import declarations, limits, rule, settings
from policy.grammar.cursor import Cursor, Misread
from policy.grammar.filter import filter_line
from policy.grammar.former import refuse_former
from policy.grammar.syntax import Script, Word
from policy.grammar.vocabulary import DIRECTIVES, LATER
from policy.lexer import KEYWORD, NEWLINE, Lexer, Macros, Source, Token
from policy.suggestion import did_you_mean

#: Files within files; one that includes itself ends here.
MAX_INCLUDE_DEPTH: Final = 16
#: What an indented line that is none may have been meant as.
_JOIN: Final = '; to go on with the line before, that one needs "\\" at its end'

#: Reads an included file: ``path`` as written, and the file that names it. `OSError` when it cannot be read.
Opener: TypeAlias = Callable[[str, Source], Source]

_DIRECTIVES: Final[Mapping[str, Callable[[Cursor, Script, Place], None]]] = {
    "action": declarations.action,
    "bounce": settings.bounce,
    "ca": settings.ca,
    "filter": filter_line,
    "listen": declarations.listen,
    "match": rule.match,
    "mda": limits.mda,
    "mta": limits.mta,
    "pki": settings.pki,
    "queue": settings.queue,
    "scheduler": limits.scheduler,
    "smtp": settings.smtp,
    "table": declarations.table,
}


def read_script(source: Source, macros: Macros, opener: Opener, findings: list[Finding]) -> Script:
    """Everything that ``source`` and the files it includes say; what is wrong goes to ``findings``."""
    script = Script()
    cursor = Cursor(Lexer(source, macros), findings)
    while not cursor.at_end:
        if cursor.token.kind is NEWLINE:
            cursor.advance()
            continue
        try:
            _directive(cursor, script, opener)
        except Misread as error:
            if error.finding.message:
                findings.append(error.finding)
            cursor.skip_directive()
    script.is_misread = any(not finding.is_warning for finding in findings)
    findings += cursor.lexer.doubts
    return script


def _directive(cursor: Cursor, script: Script, opener: Opener) -> None:
    token = cursor.token
    refuse_former(cursor, script)
    if cursor.accept_word("include"):
        _include(cursor, opener, token.source)
    elif cursor.at_word(*_DIRECTIVES):
        cursor.advance()
        _DIRECTIVES[token.text](cursor, script, token.place)
    elif cursor.at_word(*LATER):
        cursor.fail(token.place, f'not supported yet: "{token.text}" ({LATER[token.text]})')
    elif token.is_string:
        word = cursor.string("a directive")
        if not cursor.at_mark("="):
            cursor.fail(token.place, f'unknown directive "{word.text}"{did_you_mean(word.text, DIRECTIVES)}')
        settings.macro(cursor, word)
    else:
        _fail_directive(cursor)


def _fail_directive(cursor: Cursor) -> NoReturn:
    token = cursor.token
    if token.kind is KEYWORD:
        cursor.advance()
        if cursor.at_mark("="):
            cursor.lexer.macros.broken.add(token.text)
            said = f'"{token.text}" is a word of the language, so it can be the name of a macro only in quotes'
            cursor.fail(token.place, said)
        hint = _JOIN if _goes_on(token) else did_you_mean("", DIRECTIVES)
        cursor.fail(token.place, f'no directive begins with "{token.text}"{hint}')
    cursor.fail_expecting(f"a directive ({', '.join(DIRECTIVES)}) or NAME = VALUE")


def _goes_on(token: Token) -> bool:
    return token.place.source[: token.place.column - 1].isspace()


def _include(cursor: Cursor, opener: Opener, including: Source) -> None:
    path = cursor.string("the path of the file to include")
    if not cursor.at_line_end:
        cursor.fail_expecting("the end of the line")
    if cursor.lexer.depth > MAX_INCLUDE_DEPTH:
        cursor.fail(path.place, f"files include one another more than {MAX_INCLUDE_DEPTH} deep")
    cursor.lexer.enter(_opened(cursor, path, opener, including))
    cursor.advance()


def _opened(cursor: Cursor, path: Word, opener: Opener, including: Source) -> Source:
    try:
        return opener(path.text, including)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        cursor.fail(path.place, f'cannot include "{path.text}": {reason}')
