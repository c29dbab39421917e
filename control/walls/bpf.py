"""A small assembler for the filters of seccomp: rules about system calls become a program of classic BPF.

A rule refuses a call, always or when all of its tests hold. Tests look at the lower 32 bits of an argument, which is all
that the kernel reads of those that our rules are about: families and types of sockets, flags, process ids.

Guarantees: calls of another machine's kind (32 bits on a 64-bit kernel) end the process, because their numbers mean
something else; x32 ones are refused. Whatever no rule names is allowed.

Failure: none; a rule about a call that the machine does not have is left out.

seccomp(2), linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_LOAD, _EQUAL, _GREATER_OR_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

KILL: Final = 0x80000000
ALLOW: Final = 0x7FFF0000
_ERROR: Final = 0x00050000

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]. Both machines are little-endian.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

#: linux/audit.h: what the kernel calls each machine.
ARCHITECTURES: Final[Mapping[str, int]] = MappingProxyType({"x86_64": 0xC000003E, "aarch64": 0xC00000B7})
#: Bit of the numbers of x32 calls. No other number of any machine is that great.
_X32: Final = 0x40000000


@dataclass(frozen=True, slots=True)
class OneOf:
    """The argument is one of these."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The argument is none of these."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnyBit:
    """The argument has one of these bits."""

    argument: int
    bits: int


@dataclass(frozen=True, slots=True)
class NoBit:
    """The argument has none of these bits."""

    argument: int
    bits: int


Test = OneOf | NoneOf | AnyBit | NoBit


@dataclass(frozen=True, slots=True)
class Rule:
    """Refuse the call ``name`` with ``error`` when all of the tests hold."""

    name: str
    tests: tuple[Test, ...] = ()
    error: int = errno.EPERM


#: One instruction: code, jump if true, jump if false, constant.
Instruction = tuple[int, int, int, int]


def assemble(rules: Sequence[Rule], machine: str, numbers: Mapping[str, int]) -> list[Instruction]:
    """The program for a machine, whose calls have these numbers."""
    refused = _error(errno.EPERM)
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_GREATER_OR_EQUAL, 0, 1, _X32),
        (_RETURN, 0, 0, refused),
    ]
    for rule in rules:
        if rule.name in numbers:
            program += _assembled(rule, numbers[rule.name])
    return [*program, (_RETURN, 0, 0, ALLOW)]


def packed(program: Iterable[Instruction]) -> bytes:
    """As struct sock_filter."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _assembled(rule: Rule, number: int) -> list[Instruction]:
    """A block that falls through to what follows it, with the number loaded, unless it refuses."""
    tests: list[Instruction] = []
    if rule.tests:
        # From the end: each test has to know how far it is to the instructions that follow the block's refusal.
        block: list[Instruction] = [(_RETURN, 0, 0, _error(rule.error))]
        for test in reversed(rule.tests):
            block = [*_tested(test, len(block)), *block]
        tests = [*block, (_LOAD, 0, 0, _NUMBER)]
    else:
        tests = [(_RETURN, 0, 0, _error(rule.error))]
    return [(_EQUAL, 0, len(tests), number), *tests]


def _tested(test: Test, rest: int) -> list[Instruction]:
    """Go on with what follows when it holds, past the ``rest`` of the block when it does not."""
    load = (_LOAD, 0, 0, _ARGUMENTS + 8 * test.argument)
    match test:
        case AnyBit(_, bits):
            return [load, (_ANY_BIT, 0, rest, bits)]
        case NoBit(_, bits):
            return [load, (_ANY_BIT, rest, 0, bits)]
        case OneOf(_, values):
            last = len(values) - 1
            # A hit jumps over the comparisons that are left, and goes on.
            chain = [(_EQUAL, last - at, 0 if at < last else rest, value) for at, value in enumerate(values)]
            return [load, *chain]
        case NoneOf(_, values):
            last = len(values) - 1
            return [load, *((_EQUAL, last - at + rest, 0, value) for at, value in enumerate(values))]


def _error(number: int) -> int:
    return _ERROR | number
