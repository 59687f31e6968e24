"""What is fuzzed: every parser of what somebody else may have written, each with what must hold for any bytes at all.

A parser gives a value or a BentoError, never another exception; the error's sentence can be shown on a terminal; and
what it takes says what was written, nothing else. `fuzz.py` throws bytes at these, a unit test the seeds.
"""

import io
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from bento.adapters.tree import unpack
from bento.errors import BentoError
from bento.models.fleet import parse_fleet
from bento.models.manifest import parse_manifest
from bento.models.report import parse_heartbeat, parse_report
from bento.models.signed import split
from bento.models.strict import Source
from bento.models.trust import parse_trust
from bento.names import Digest, HostName, SecretName, SystemPath, TagName, Target
from bento_secrets.declared import parse_declarations
from bento_secrets.lock import parse_lock, render_lock
from bento_secrets.names import parse_account, parse_link_path, parse_mode, parse_unit
from bento_secrets.templates import parse_template

SEEDS = Path(__file__).parent / "seeds"
FEWEST_SEEDS = 3
LONGEST_SENTENCE = 2000
LONGEST_WORD = 100

Fuzzed = Callable[[bytes], bool]  # whether the bytes were taken; raises what is a bug


def _bearable(error: BentoError) -> bool:
    for sentence in (error.message, *error.hints):
        assert all(char.isprintable() for char in sentence), f"not for a terminal: {sentence!r}"
        assert len(sentence) < LONGEST_SENTENCE, "too long a sentence"
    return False


def _text(data: bytes) -> str | None:
    """Files are decoded before they are parsed; what isn't UTF-8 is refused there."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def manifest(data: bytes) -> bool:
    """A manifest's line, as it comes after its signature was found good."""
    try:
        assert parse_manifest(data).line == data
    except BentoError as error:
        return _bearable(error)
    return True


def report(data: bytes) -> bool:
    """A report's line."""
    try:
        assert parse_report(data).line == data
    except BentoError as error:
        return _bearable(error)
    return True


def heartbeat(data: bytes) -> bool:
    """A heartbeat's line."""
    try:
        assert parse_heartbeat(data).line == data
    except BentoError as error:
        return _bearable(error)
    return True


def armour(data: bytes) -> bool:
    """A line with its signatures, taken apart before any of it is believed."""
    try:
        document = split(data, "the manifest")
    except BentoError as error:
        return _bearable(error)
    assert document.raw == data
    assert document.line.count(b"\n") == 1
    return True


def tar(data: bytes) -> bool:
    """A configuration's archive: nothing is left of a bad one, and of a good one plain files and folders only."""
    with tempfile.TemporaryDirectory(prefix="bento-fuzz-", dir="/dev/shm") as folder:
        archive, into = Path(folder, "archive"), Path(folder, "into")
        archive.write_bytes(data)
        try:
            unpack(archive, into)
        except BentoError as error:
            assert sorted(path.name for path in Path(folder).iterdir()) == ["archive"], "something was left"
            return _bearable(error)
        for path in into.rglob("*"):
            assert path.is_dir() or path.is_file()
            assert not path.is_symlink()
        assert sorted(path.name for path in Path(folder).iterdir()) == ["archive", "into"]
    return True


def trust(data: bytes) -> bool:
    """trust.toml, which comes to a host in its configuration."""
    text = _text(data)
    if text is None:
        return False
    try:
        parsed = parse_trust(text, "trust.toml")
    except BentoError as error:
        return _bearable(error)
    assert parsed.fleet in text
    assert parsed.signers
    return True


def lock(data: bytes) -> bool:
    """secrets.lock, which a merge or a person may have edited."""
    text = _text(data)
    if text is None:
        return False
    try:
        copies = parse_lock(text)
    except BentoError as error:
        return _bearable(error)
    assert parse_lock(render_lock(copies)) == copies
    return True


def declared(data: bytes) -> bool:
    """secrets.toml."""
    text = _text(data)
    if text is None:
        return False
    try:
        parse_declarations(text)
    except BentoError as error:
        return _bearable(error)
    return True


def fleet(data: bytes) -> bool:
    """bento.toml."""
    text = _text(data)
    if text is None:
        return False
    try:
        parse_fleet(Source("bento.toml", text))
    except BentoError as error:
        return _bearable(error)
    return True


def template(data: bytes) -> bool:
    """A template's text, from a signed manifest."""
    text = _text(data)
    if text is None:
        return False
    try:
        parse_template(text, "the template x")
    except BentoError as error:
        return _bearable(error)
    return True


def names(data: bytes) -> bool:
    """Every kind of name: what one is taken for is the text itself, without a way out of its folder."""
    text = _text(data)
    if text is None:
        return False
    parsers: tuple[Callable[[str], str], ...] = (
        *(HostName.parse, TagName.parse, SecretName.parse, Target.parse, Digest.parse, SystemPath.parse),
        *(parse_account, parse_mode, parse_unit, parse_link_path),
    )
    taken = False
    for parse in parsers:
        try:
            name = parse(text)
        except BentoError as error:
            _bearable(error)
            continue
        assert str(name) == (text.zfill(4) if parse is parse_mode else text)
        assert text.isprintable()
        assert text.isascii() or parse is parse_link_path
        assert not {"..", "."} & set(text.split("/"))
        taken = True
    return taken


TARGETS: dict[str, Fuzzed] = {
    one.__name__: one
    for one in (manifest, report, heartbeat, armour, tar, trust, lock, declared, fleet, template, names)
}


def seeds(name: str) -> list[bytes]:
    """Where the fuzzing of a target begins. Tar files are made here, since the repository holds no binaries."""
    found = [path.read_bytes() for path in sorted((SEEDS / name).glob("*"))] if name != "tar" else _tar_seeds()
    assert len(found) >= FEWEST_SEEDS, f"{name} has {len(found)} seeds: fuzzing from nothing finds nothing"
    return found


def words(name: str) -> list[bytes]:
    """The words of a target's seeds, for the fuzzer to play with: it finds no key of a format by chance."""
    found = {word for seed in seeds(name) for word in re.findall(rb"[A-Za-z0-9_./+-]+|[^\sA-Za-z0-9]+", seed)}
    return sorted(word for word in found if len(word) <= LONGEST_WORD and name != "tar")


def _tar_seeds() -> list[bytes]:
    import tarfile

    def made(form: int, *members: tuple[str, bytes, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for name, kind, data in members:
                info = tarfile.TarInfo(name)
                info.type, info.size, info.linkname = kind, len(data), "target" if kind == tarfile.SYMTYPE else ""
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    file, folder = tarfile.REGTYPE, tarfile.DIRTYPE
    return [
        made(tarfile.PAX_FORMAT, ("flake.nix", file, b"{ outputs = _: { }; }\n")),
        made(tarfile.PAX_FORMAT, ("a", folder, b""), ("a/b", folder, b""), ("a/b/ü" + "x" * 120, file, b"long")),
        made(tarfile.GNU_FORMAT, ("a", folder, b""), ("a/" + "y" * 150, file, b"long")),
        made(tarfile.USTAR_FORMAT, ("../up", file, b"out")),
        made(tarfile.PAX_FORMAT, ("link", tarfile.SYMTYPE, b"")),
    ]
