"""A position in the tokens of a configuration, with the expectations of the grammar.

Guarantees: after `Cursor.skip_directive` the cursor stands at the beginning of a line, also when a brace was left open.

Failure: `Misread` when the next token does not fit; its finding says what was expected. Errors that leave the rest of the
directive readable are noted with `Cursor.complain`.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from policy.errors import Finding, Place
from policy.grammar.syntax import Word
from policy.grammar.vocabulary import DIRECTIVES
from policy.lexer import BAD, END, KEYWORD, MARK, NEWLINE, NUMBER, WORD, Lexer, Token

#: A configuration with more errors than this is not one; the first ones are what helps.
MAX_FINDINGS: Final = 200

_QUOTING_HINTS: Final = {
    KEYWORD: ", which is a word of the language (in quotes it would be a name)",
    NUMBER: " (in quotes it would be a string)",
}

_INDENTED: Final = re.compile(r"\r?\n[ \t]+!?[ \t]*([a-z-]+)")


class Misread(Exception):
    """A directive cannot be read any further."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Cursor:
    """Looks one token ahead."""

    def __init__(self, lexer: Lexer, findings: list[Finding]) -> None:
        self.lexer = lexer
        self.token = lexer.next()
        #: Whether the next token is the first of its line.
        self.at_line_start = True
        self._findings = findings
        self._depth = 0
        self._long_quote: Token | None = None

    @property
    def at_end(self) -> bool:
        """Whether nothing is left, or so much was wrong that the rest does not matter."""
        return self.token.kind is END or len(self._findings) >= MAX_FINDINGS

    @property
    def at_line_end(self) -> bool:
        """Whether the directive ends here."""
        return self.token.kind in (NEWLINE, END)

    def advance(self) -> Token:
        """Take the next token."""
        token = self.token
        if token.kind is MARK:
            self._depth += (token.text == "{") - (token.text == "}")
        elif token.spans_lines:
            self._long_quote = token
        self.at_line_start = token.kind is NEWLINE
        self.token = self.lexer.next()
        return token

    def at_mark(self, *marks: str) -> bool:
        """Whether the next token is one of these marks."""
        return self.token.kind is MARK and self.token.text in marks

    def accept_mark(self, *marks: str) -> bool:
        """Take one of these marks if it is next."""
        found = self.at_mark(*marks)
        if found:
            self.advance()
        return found

    def at_word(self, *words: str) -> bool:
        """Whether the next token is one of these words, unquoted."""
        return self.token.kind in (KEYWORD, WORD) and self.token.text in words

    def accept_word(self, *words: str) -> Token | None:
        """Take one of these words, unquoted, if it is next."""
        return self.advance() if self.at_word(*words) else None

    def string(self, what: str) -> Word:
        """Take a string; ``what`` it is goes into the message when there is none."""
        if not self.token.is_string:
            self.fail_expecting(what)
        token = self.advance()
        return Word(token.text, token)

    def goes_on(self, *words: str) -> bool:
        """At the end of a line: whether the next one is indented and begins with one of these."""
        token = self.token
        found = _INDENTED.match(token.source.text, token.offset) if token.kind is NEWLINE else None
        return found is not None and found[1] in words

    def skip_newlines(self) -> None:
        """Take every end of line that is next."""
        while self.token.kind is NEWLINE:
            self.advance()

    def end_directive(self) -> None:
        """Nothing may be left on the line."""
        if not self.at_line_end:
            self.fail_expecting("the end of the line")
        self._begin_anew()

    def skip_directive(self) -> None:
        """Go to the next line that is not within braces, or that begins like a directive."""
        has_moved = False
        while not self.at_end:
            is_within = self._depth > 0
            if self.at_line_start and (self.at_word(*DIRECTIVES) if is_within else has_moved):
                break
            self.advance()
            has_moved = True
        self._begin_anew()

    def complain(self, place: Place, message: str) -> None:
        """Note an error and go on."""
        self._findings.append(Finding.at(place, message))

    def warn(self, place: Place, message: str) -> None:
        """Note something doubtful and go on."""
        self._findings.append(Finding.at(place, message, is_warning=True))

    def fail(self, place: Place, message: str) -> NoReturn:
        """Give the directive up. Without a message, because everything has been said."""
        if self._long_quote and message:
            message = (
                f"this string goes on over the end of its line: is a quote missing? (line {place.line}: {message})"
            )
            place = self._long_quote.place
        raise Misread(Finding.at(place, message))

    def fail_expecting(self, what: str) -> NoReturn:
        """Give the directive up, because the next token is not ``what``."""
        token = self.token
        if token.kind is BAD:
            self.fail(token.place, token.text)
        self.fail(token.place, f"expected {what}, found {self.described()}{_QUOTING_HINTS.get(token.kind, '')}")

    def described(self) -> str:
        """The next token in words."""
        kind, text = self.token.kind, self.token.text
        if kind in (NEWLINE, END):
            return f"the {kind.value}"
        return f"the number {text}" if kind is NUMBER else f'"{text}"'

    def _begin_anew(self) -> None:
        self._depth = 0
        self._long_quote = None
