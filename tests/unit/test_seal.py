"""Sealed octets: what goes in comes out, and nothing else does."""

from __future__ import annotations

import io
import itertools
import random
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from spool.bodies import checksum, open_small
from spool.errors import BodyDamaged, KeyMissing
from spool.seal import FRAME, TAG_SIZE, Compression, Opening, Seal, Sealing, SealKey, seal_whole
from tests.tools.scorecard import Cases
from tests.tools.sealing import FIRST, SEALED_WAYS, SECOND, WAYS, called

pytestmark = pytest.mark.reliability("7 at rest")

every_way = pytest.mark.parametrize("way", WAYS, ids=called)
every_sealed_way = pytest.mark.parametrize("way", SEALED_WAYS, ids=called)
encrypted = pytest.mark.parametrize("way", [way for way in WAYS if way.key], ids=called)

NAME = "02j3k4l5m6n7p8q9rasbtcudve"
FRAME_ON_DISK = FRAME + TAG_SIZE


def sealed(way: Sealing, content: bytes, name: str = NAME) -> tuple[Seal, bytes]:
    return seal_whole(way, name, content)


def opened(way: Sealing, seal: Seal, octets: bytes, content: bytes, name: str = NAME) -> bytes:
    """What opens, as the row of ``content`` says it must be."""
    return open_small(octets, way.opening(seal, name), len(content), checksum(content)).read()


def mail(octets: int, seed: int = 1) -> bytes:
    rng = random.Random(seed)
    return b"".join(rng.randbytes(12).hex().encode() + b" and so on\r\n" for _ in range(octets // 36 + 1))[:octets]


@every_way
@given(content=st.binary(max_size=2000), repeated=st.integers(1, 100))
def test_any_octets_come_back(way: Sealing, content: bytes, repeated: int) -> None:
    content *= repeated
    seal, octets = sealed(way, content)
    assert opened(way, seal, octets, content) == content


@every_way
@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 3 * FRAME + 7])
def test_a_body_of_any_number_of_frames_comes_back(way: Sealing, size: int) -> None:
    content = mail(size)
    seal, octets = sealed(way, content)
    assert opened(way, seal, octets, content) == content


@every_way
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 3 * FRAME), max_size=8))
def test_the_pieces_in_which_it_came_make_no_difference(way: Sealing, cuts: list[int]) -> None:
    content = mail(3 * FRAME)
    sealer = way.begin(NAME)
    bounds = [0, *sorted(cuts), len(content)]
    pieces = [sealer.update(content[start:end]) for start, end in itertools.pairwise(bounds)]
    octets = b"".join([*pieces, sealer.finish()])
    assert opened(way, sealer.seal, octets, content) == content


@every_sealed_way
def test_a_flipped_bit_is_found_or_changes_nothing(way: Sealing, cases: Cases, thorough: bool) -> None:
    content = mail(300)
    seal, octets = sealed(way, content)
    for position in range(0, len(octets) * 8, 1 if thorough else 7):
        spoilt = bytearray(octets)
        spoilt[position // 8] ^= 1 << position % 8
        cases.tried()
        if not is_found(way, seal, bytes(spoilt), content):
            cases.failed(f"bit {position} of {called(way)}")


@every_sealed_way
def test_whatever_is_cut_off_is_missed(way: Sealing, cases: Cases, thorough: bool) -> None:
    content = mail(2 * FRAME + 500)
    seal, octets = sealed(way, content)
    edges = {len(octets) - 1, FRAME_ON_DISK, 2 * FRAME_ON_DISK, FRAME_ON_DISK - 1, FRAME_ON_DISK + 1}
    lengths = {*range(0, len(octets), 97 if thorough else 7919), *edges} & set(range(len(octets)))
    for length in sorted(lengths):
        cases.tried()
        if not is_found(way, seal, octets[:length], content):
            cases.failed(f"the first {length} octets of {called(way)}")


def is_found(way: Sealing, seal: Seal, octets: bytes, content: bytes) -> bool:
    """Whether damage is found; what opens all the same must be what was sealed, and of encrypted octets nothing opens."""
    try:
        return opened(way, seal, octets, content) == content and not way.key
    except BodyDamaged:
        return True


@encrypted
@pytest.mark.parametrize(
    "spoil",
    [
        lambda octets: octets[FRAME_ON_DISK:] + octets[:FRAME_ON_DISK],
        lambda octets: octets[FRAME_ON_DISK:],
        lambda octets: octets[: 2 * FRAME_ON_DISK],
        lambda octets: octets[:FRAME_ON_DISK] + octets[:FRAME_ON_DISK] + octets[2 * FRAME_ON_DISK :],
        lambda octets: octets + octets[:FRAME_ON_DISK],
        lambda octets: octets + b"x",
        lambda octets: b"",
    ],
    ids=["swapped", "without its first", "without its last", "one twice", "more behind", "an octet more", "empty"],
)
def test_frames_stay_where_they_were(way: Sealing, spoil: Callable[[bytes], bytes]) -> None:
    content = random.Random(7).randbytes(3 * FRAME - 100)
    seal, octets = sealed(way, content)
    with pytest.raises(BodyDamaged):
        opened(way, seal, spoil(octets), content)


@encrypted
def test_a_body_does_not_open_as_that_of_another_message(way: Sealing) -> None:
    content = mail(1000)
    seal, octets = sealed(way, content)
    with pytest.raises(BodyDamaged):
        opened(way, seal, octets, content, name="another")


@encrypted
def test_a_body_does_not_open_with_the_salt_of_another(way: Sealing) -> None:
    content = mail(1000)
    _, octets = sealed(way, content)
    other, _ = sealed(way, content)
    with pytest.raises(BodyDamaged):
        opened(way, other, octets, content)


@encrypted
def test_the_same_body_is_never_sealed_alike(way: Sealing) -> None:
    content = mail(1000)
    assert len({sealed(way, content)[1] for _ in range(50)}) == 50


@encrypted
def test_nothing_of_the_body_can_be_read_in_it(way: Sealing) -> None:
    content = b"Subject: the merger\r\n\r\nsecret\r\n" * 100
    seal, octets = sealed(way, content)
    assert b"merger" not in octets
    assert FIRST.octets not in octets + seal.salt


@encrypted
def test_what_opens_one_body_opens_no_other(way: Sealing) -> None:
    content = mail(1000)
    seal, _ = sealed(way, content)
    other_seal, other = sealed(way, content, name="another")
    key_of_one = way.opening(seal, NAME)
    assert key_of_one is not None
    assert key_of_one.key != FIRST.octets
    own = way.opening(other_seal, "another")
    assert own is not None
    with pytest.raises(BodyDamaged):
        open_small(other, replace(own, key=key_of_one.key), len(content), checksum(content))


def test_another_compression_in_the_row_is_found() -> None:
    content = mail(1000)
    seal, octets = sealed(Sealing(Compression.NONE, FIRST), content)
    with pytest.raises(BodyDamaged):
        opened(Sealing(key=FIRST), replace(seal, compression=Compression.ZSTD), octets, content)


@encrypted
def test_an_older_key_still_opens(way: Sealing) -> None:
    content = mail(1000)
    seal, octets = sealed(way, content)
    assert opened(replace(way, key=SECOND, old=(FIRST,)), seal, octets, content) == content
    assert opened(Sealing(old=(SECOND, FIRST)), seal, octets, content) == content


def test_without_its_key_a_body_is_not_called_damaged() -> None:
    content = mail(1000)
    seal, _ = sealed(Sealing(key=FIRST), content)
    with pytest.raises(KeyMissing, match=f"^sealed with key {FIRST.fingerprint}, which this daemon does not have$"):
        Sealing(key=SECOND).opening(seal, NAME)


def test_a_key_is_in_no_text_about_it() -> None:
    sealing = Sealing(Compression.ZSTD, FIRST, (SECOND,))
    opening = sealing.opening(sealing.begin(NAME).seal, NAME)
    assert opening is not None
    text = f"{sealing} {FIRST!r} {opening!r}"
    assert repr(FIRST.octets)[2:10] not in text
    assert FIRST.octets.hex()[:8] not in text
    assert repr(opening.key)[2:10] not in text


def test_keys_are_told_apart_by_their_fingerprints() -> None:
    assert FIRST.fingerprint != SECOND.fingerprint
    assert len(FIRST.fingerprint) == 8


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_has_exactly_32_octets(size: int) -> None:
    with pytest.raises(ValueError, match=f"^a key of {size} octets where 32 are needed$"):
        SealKey(bytes(size))


BOMB = 64 << 20


def zstd_bomb() -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(BOMB))


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(bytes(BOMB)) + packer.flush()


@pytest.mark.parametrize(("compression", "bomb"), [(Compression.ZSTD, zstd_bomb), (Compression.GZIP, gzip_bomb)])
def test_octets_that_would_become_too_many_stop_at_the_accepted_size(
    compression: Compression, bomb: Callable[[], bytes]
) -> None:
    octets = bomb()
    tracemalloc.start()
    try:
        with pytest.raises(BodyDamaged):
            open_small(octets, Opening(compression), 1000, checksum(bytes(1000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@every_way
def test_a_large_body_is_never_in_memory_as_a_whole(way: Sealing) -> None:
    chunk = mail(FRAME)
    drained = 0
    sealer = way.begin(NAME)
    tracemalloc.start()
    try:
        for _ in range(200):
            drained += len(sealer.update(chunk))
        drained += len(sealer.finish())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert drained > 10_000
    assert peak < 1 << 20


def test_what_is_read_in_small_bites_is_the_same() -> None:
    way = Sealing(Compression.GZIP, FIRST)
    content = mail(FRAME + 100)
    seal, octets = sealed(way, content)
    opening = way.opening(seal, NAME)
    assert opening is not None
    reader = opening.opened(io.BytesIO(octets))
    bites = []
    while bite := reader.read(77):
        bites.append(bite)
    reader.end()
    assert b"".join(bites) == content
