"""age's text form of a sealed file: strict PEM with one label (age-encryption.org/v1, "ASCII armor")."""

import base64
import binascii

BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
_END = b"-----END AGE ENCRYPTED FILE-----"
_COLUMNS = 64


def dearmor(data: bytes) -> bytes:
    """The binary file: `data` itself unless it is armoured; ValueError where the armour is damaged or not canonical."""
    if not data.lstrip().startswith(BEGIN):
        return data
    first, *body, last = [line.removesuffix(b"\r") for line in data.strip().split(b"\n")]
    if first != BEGIN or last != _END or not body:
        raise ValueError("its first or last line is damaged")
    if any(len(line) != _COLUMNS for line in body[:-1]) or not 0 < len(body[-1]) <= _COLUMNS:
        raise ValueError(f"its lines are not {_COLUMNS} characters long")
    text = b"".join(body)
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("it is not base64") from None
    if base64.b64encode(content) != text:
        raise ValueError("its base64 is not canonical")
    return content


def arm(data: bytes) -> bytes:
    """The text form of a binary file."""
    text = base64.b64encode(data)
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    return b"\n".join([BEGIN, *lines, _END, b""])
