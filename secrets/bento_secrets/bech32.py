"""Bech32 (BIP 173, without its 90-character limit), as age writes recipients and identities."""

from functools import reduce
from operator import xor

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6  # characters
# For each five bits that leave the checksum: what comes in. A large fleet's recipients are derived at every command.
_TABLE = tuple(
    reduce(xor, (generator for bit, generator in enumerate(_GENERATOR) if top >> bit & 1), 0) for top in range(32)
)


def encode(prefix: str, data: bytes) -> str:
    """`prefix`, "1", `data` in groups of five bits, six characters of checksum; all lower case."""
    groups = _regroup(data, 8, 5, pad=True)
    polymod = _polymod(_expand(prefix) + groups + [0] * _CHECKSUM) ^ 1
    groups += [(polymod >> 5 * (5 - i)) & 31 for i in range(_CHECKSUM)]
    return prefix + "1" + "".join(_CHARSET[group] for group in groups)


def decode(text: str) -> tuple[str, bytes]:
    """Prefix (lower case) and data of an all-lower or all-upper string; ValueError if it isn't canonical Bech32."""
    if text not in (text.lower(), text.upper()):
        raise ValueError("mixed case")
    prefix, separator, payload = text.lower().rpartition("1")
    if not separator or not prefix or len(payload) < _CHECKSUM or not prefix.isascii() or not prefix.isprintable():
        raise ValueError("not bech32")
    if not set(payload) <= set(_CHARSET):
        raise ValueError("a character that bech32 doesn't use")
    groups = [_CHARSET.index(character) for character in payload]
    if _polymod(_expand(prefix) + groups) != 1:
        raise ValueError("wrong checksum")
    return prefix, bytes(_regroup(groups[:-_CHECKSUM], 5, 8, pad=False))


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode()
    return [code >> 5 for code in codes] + [0] + [code & 31 for code in codes]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value ^ _TABLE[checksum >> 25]
    return checksum


def _regroup(values: bytes | list[int], width: int, wanted: int, *, pad: bool) -> list[int]:
    buffer, bits, groups = 0, 0, []
    for value in values:
        buffer = buffer << width | value
        bits += width
        while bits >= wanted:
            bits -= wanted
            groups.append(buffer >> bits)
            buffer &= (1 << bits) - 1
    if pad and bits:
        groups.append(buffer << (wanted - bits))
    elif not pad and (bits >= width or buffer):
        raise ValueError("left-over bits")
    return groups
