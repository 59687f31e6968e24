"""The signed layout: a line and its armours come apart exactly as they were put together, and nothing else does."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import complaint_of, quick

from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.signed import SignedDocument, canonical, split

BEGIN, END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
ARMOUR = BEGIN + b"QUJD\n" + END
LINE = b'{"a":1}\n'
bodies = st.binary(max_size=60).map(lambda data: data.hex().encode() + b"\n")
lines = st.binary(max_size=60).map(lambda data: data.replace(b"\n", b" ") + b"\n")
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@quick
@given(lines, st.lists(bodies, min_size=1, max_size=8))
def test_one_to_eight_armours_come_apart_as_they_were_joined(line: bytes, inner: list[bytes]) -> None:
    document = SignedDocument(line, tuple(BEGIN + body + END for body in inner))
    again = split(document.raw, "it")
    assert again == document
    assert again.raw == document.raw
    assert again.line_digest == hashlib.sha256(line).hexdigest()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no newline",
        LINE,
        LINE + b"\n" + ARMOUR,
        LINE + b"garbage",
        LINE + ARMOUR + b"\n",
        LINE + ARMOUR + b"garbage\n",
        LINE + b" " + ARMOUR,
        LINE + LINE + ARMOUR,
        LINE + BEGIN + b"QUJD\n",
        LINE + ARMOUR[:-1],
        LINE + ARMOUR.replace(b"\n", b"\r\n"),
        LINE + ARMOUR * 9,
        LINE + BEGIN + b"A" * LIMITS.armour + b"\n" + END,
    ],
)
def test_anything_else_after_the_line_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError, match="the thing"):
        split(raw, "the thing")


def test_eight_armours_are_the_most() -> None:
    assert len(split(LINE + ARMOUR * 8, "it").armours) == 8
    with pytest.raises(InputError, match="more than 8"):
        split(LINE + ARMOUR * 9, "it")


@quick
@given(st.binary(max_size=200) | st.lists(st.sampled_from([BEGIN, END, LINE, b"x", b"\n"])).map(b"".join))
def test_any_bytes_come_apart_into_themselves_or_give_an_input_error(raw: bytes) -> None:
    assert complaint_of(split, raw, "it") or split(raw, "it").raw == raw


@quick
@given(plain)
def test_the_canonical_form_is_one_ascii_line_that_reads_back(value: object) -> None:
    line = canonical(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert json.loads(line) == value
    assert canonical(json.loads(line)) == line


def test_the_canonical_form_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1}) == b'{"a":2,"b":1}\n'
