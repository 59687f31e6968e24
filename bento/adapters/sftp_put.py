"""Writing files over SFTP, each whole or not at all."""

import secrets
from collections.abc import Sequence
from functools import partial

from bento.adapters import protocol, sftp_files
from bento.adapters.protocol import Answer, SaidNo
from bento.adapters.wire import Wire

_FILES = 32  # open at once: the server may have few descriptors
_WRITES = 64  # pieces of one file under way


def put(wire: Wire, files: Sequence[tuple[str, bytes]], later: Sequence[tuple[str, bytes]] = ()) -> list[str]:
    """Write files by their paths, on the server's disk where it can see to that. Raises SaidNo, ServerAway.

    Those that go `later` are only laid ready: the result is where, in the same folders, for `show`.
    """
    ready: list[str] = []
    for start in range(0, len(files) or 1, _FILES):
        some = files[start : start + _FILES]
        ready = _put(wire, some, later if start + _FILES >= len(files) else ())
    return ready


def show(wire: Wire, ready: Sequence[tuple[str, str]]) -> None:
    """Rename files that were laid ready to what they are to be called. Raises SaidNo, ServerAway."""
    try:
        for renamed in [rename(wire, name, path) for name, path in ready]:
            protocol.done(renamed)
    except SaidNo:
        drop(wire, [name for name, _ in ready])
        raise


def drop(wire: Wire, names: Sequence[str]) -> None:
    """Remove files; what can't be removed stays, for the next time. Nobody waits for it."""
    wire.ask_all([(protocol.REMOVE, protocol.text(name.encode("utf-8", "surrogateescape"))) for name in names])


def _put(wire: Wire, files: Sequence[tuple[str, bytes]], later: Sequence[tuple[str, bytes]]) -> list[str]:
    """In three round trips: open temporary files; write, sync and close them; then, if all went well, rename."""
    every = [*files, *later]
    names = [temporary(path) for path, _ in every]
    try:
        handles = _create(wire, names)
        writes = [
            sftp_files.begin_write(wire, handle, data, _WRITES, partial(_settled, wire, handle))
            for handle, (_, data) in zip(handles, every, strict=True)
        ]
        for finish in writes:
            finish()
    except SaidNo:
        drop(wire, names)
        raise
    ready = names[len(files) :]
    try:
        show(wire, [(name, path) for name, (path, _) in zip(names, files, strict=False)])
    except SaidNo:
        drop(wire, ready)
        raise
    return ready


def _create(wire: Wire, paths: Sequence[str]) -> list[bytes]:
    """New files, 0644; their handles. Raises SaidNo, and then none is open."""
    flags = protocol.FLAG_WRITE | protocol.FLAG_CREATE | protocol.FLAG_EXCLUSIVE
    how = protocol.u32(flags) + protocol.mode_only(0o644)
    handles: list[bytes] = []
    failed: SaidNo | None = None
    for answer in [wire.ask(protocol.OPEN, protocol.text(path), how) for path in paths]:
        try:
            handles.append(protocol.text(protocol.expect(answer, protocol.HANDLE).text()))
        except SaidNo as error:
            failed = failed or error
    if failed is not None:
        for handle in handles:
            wire.ask(protocol.CLOSE, handle)
        raise failed
    return handles


def _settled(wire: Wire, handle: bytes) -> list[Answer]:
    """The mode whatever the umask there, and the content on the disk where the server can do that."""
    asked = [wire.ask(protocol.FSETSTAT, handle, protocol.mode_only(0o644))]
    if b"fsync@openssh.com" in wire.extensions:
        asked.append(wire.extended("fsync@openssh.com", handle))
    return asked


def rename(wire: Wire, old: str, new: str) -> Answer:
    """Put a file in another's place, if there is one."""
    return wire.extended("posix-rename@openssh.com", protocol.text(old), protocol.text(new))


def temporary(path: str) -> str:
    """A name beside `path` that is nobody's."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
