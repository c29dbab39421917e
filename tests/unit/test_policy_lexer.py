"""smtpd.conf as tokens."""

from __future__ import annotations

import pytest

from policy.lexer import KEYWORDS, MAX_TOKEN_OCTETS, Kind, Lexer, Macros, Source, Token


def tokens(text: str, **macros: str) -> list[Token]:
    lexer = Lexer(Source("smtpd.conf", text), Macros(macros))
    found = []
    while (token := lexer.next()).kind is not Kind.END:
        found.append(token)
    return found


def texts(text: str, **macros: str) -> list[str]:
    return [token.text for token in tokens(text, **macros)]


def kinds(text: str, **macros: str) -> list[Kind]:
    return [token.kind for token in tokens(text, **macros)]


@pytest.mark.parametrize(
    "word",
    [
        "file:/etc/mail/aliases",
        "smtp+tls://label@smtp.example.net:587",
        "10.0.0.0/8",
        "ann@example.org",
        "35M",
        "4d",
        "_x",
        ":x",
        "a$b",
        "a*b",
        "a[1]",
        "a'b",
        'a"b',
        "müller",
        "4d5",
        "25-26",
        "-5x"[1:],
    ],
)
def test_words_that_need_no_quotes(word: str) -> None:
    assert kinds(word) == [Kind.WORD]
    assert texts(word) == [word]


@pytest.mark.parametrize("text", ["/path", "@example.org", "~/Maildir", "[::1]", "*.example.org", "-x", "+", "%d", "."])
def test_what_must_be_quoted_says_so(text: str) -> None:
    (token,) = tokens(text)
    assert token.kind is Kind.BAD
    assert token.text == f'{text} must stand in quotes: "{text}"'


@pytest.mark.parametrize("text", ["25", "-1", "0", "007"])
def test_digits_alone_are_a_number(text: str) -> None:
    assert [(token.kind, token.text) for token in tokens(text)] == [(Kind.NUMBER, text)]


@pytest.mark.parametrize("behind", [" ", "\t", "\n", ")", ",", "/", "}", "=", ""])
def test_a_number_ends_before_these(behind: str) -> None:
    assert kinds(f"25{behind}")[0] is Kind.NUMBER


@pytest.mark.parametrize("text", ["25{", "25.", "25<", "25a", "25#"])
def test_before_anything_else_digits_are_a_word(text: str) -> None:
    assert kinds(text)[0] is Kind.WORD


def test_a_quoted_number_and_a_quoted_keyword_are_strings() -> None:
    assert kinds("\"25\" 'listen'") == [Kind.QUOTED, Kind.QUOTED]


def test_keywords_are_whole_unquoted_words() -> None:
    assert set(kinds(" ".join(sorted(KEYWORDS)))) == {Kind.KEYWORD}
    assert kinds("listener tls-") == [Kind.WORD, Kind.WORD]


def test_marks_stand_alone_and_an_arrow_is_one_mark() -> None:
    assert texts("{a=>b,c = d}<t>!(x)") == ["{", "a", "=>", *"b,c=d}<t>!(x)"]


def test_a_comment_ends_with_its_line_also_behind_a_word() -> None:
    assert texts("foo#bar baz\nnext") == ["foo", "", "next"]


def test_a_backslash_joins_lines_also_within_words_and_comments() -> None:
    assert texts("match \\\n for a\\\nb # comment \\\n goes on\nx") == ["match", "for", "ab", "", "x"]


def test_windows_line_ends_are_line_ends() -> None:
    assert texts('a\r\nb \\\r\nc "d\r\ne"\r\n') == ["a", "", "b", "c", "de", ""]


def test_outside_quotes_a_backslash_takes_the_next_character_as_it_is() -> None:
    assert texts("a\\$b\\\\c") == ["a$b\\c"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"a b"', "a b"),
        ("'a b'", "a b"),
        ('"it\'s"', "it's"),
        ('"a\nb"', "ab"),
        ('"a\\\nb"', "ab"),
        (r'"a\"b"', 'a"b'),
        (r'"a\ b"', "a b"),
        ('"a\\\tb"', "a\tb"),
        (r'"\."', r"\."),
        (r'"\\."', r"\\."),
        (r'"a\'"', r"a\'"),
        (r"'a\''", "a'"),
        ('"#"', "#"),
        ('""', ""),
        ('"$x"', "$x"),
    ],
)
def test_quotes_keep_what_is_in_them(written: str, meant: str) -> None:
    assert [(token.kind, token.text) for token in tokens(written)] == [(Kind.QUOTED, meant)]


def test_an_open_quote_is_complained_about_where_it_opens() -> None:
    (token,) = tokens('"never closed\n\n')
    assert token.kind is Kind.BAD
    assert token.place.column == 1


def test_a_token_has_a_largest_length() -> None:
    assert kinds("x" * MAX_TOKEN_OCTETS) == [Kind.WORD]
    assert kinds("x" * (MAX_TOKEN_OCTETS + 1)) == [Kind.BAD]
    assert kinds("ü" * MAX_TOKEN_OCTETS) == [Kind.BAD]


@pytest.mark.parametrize("text", ["a\x00b", '"a\x1bb"', "\x07", "'\u2028'", "caf\udce9"])
def test_control_characters_and_broken_utf8_are_no_part_of_a_token(text: str) -> None:
    assert Kind.BAD in kinds(text)


def test_a_macro_may_be_several_tokens_of_any_kind() -> None:
    assert kinds("$x", x='listen "on" 25 {') == [Kind.KEYWORD, Kind.QUOTED, Kind.NUMBER, Kind.MARK]


def test_a_macro_s_value_joins_what_follows_it() -> None:
    assert texts("$host.example.org $port", host="mail", port="25") == ["mail.example.org", "25"]


def test_macros_are_expanded_neither_in_words_nor_in_macros() -> None:
    assert texts("a$x", x="y") == ["a$x"]
    assert kinds("$x", x="$y", y="z") == [Kind.BAD]


def test_a_token_out_of_a_macro_stands_where_the_macro_is_used() -> None:
    first, second, behind = tokens("  $x behind", x="some thing")
    assert (first.place.column, second.place.column, behind.place.column) == (3, 3, 6)


def test_places_stay_right_behind_macros_and_joined_lines() -> None:
    found = tokens('$x "a\nb" \\\n  c\nd', x="a much longer value")
    assert [(token.place.line, token.place.column) for token in found[-4:]] == [(1, 4), (3, 3), (3, 4), (4, 1)]


def test_a_macro_of_the_command_line_holds_against_the_file_s() -> None:
    macros = Macros({"x": "theirs"})
    macros.define("x", "ours")
    macros.define("y", "ours")
    assert (macros.get("x"), macros.get("y"), macros.get("z")) == ("theirs", "ours", None)


def test_after_the_end_there_is_only_the_end() -> None:
    lexer = Lexer(Source("smtpd.conf", "a"), Macros({}))
    assert [lexer.next().kind for _ in range(4)] == [Kind.WORD, Kind.END, Kind.END, Kind.END]


def test_an_included_source_is_read_first_and_ends_with_a_line() -> None:
    lexer = Lexer(Source("main", "a b"), Macros({}))
    lexer.next()
    lexer.enter(Source("other", "c"))
    found = [lexer.next() for _ in range(4)]
    assert [(token.source.path, token.text, token.kind) for token in found] == [
        ("other", "c", Kind.WORD),
        ("other", "", Kind.NEWLINE),
        ("main", "b", Kind.WORD),
        ("main", "", Kind.END),
    ]
