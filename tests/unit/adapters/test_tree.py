"""The tar of a configuration: the same tree gives the same bytes, and nothing hostile unpacks."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import quick

from bento.adapters import tree
from bento.adapters.tree import MTIME, Entry, check_name, unpack, write_tar
from bento.errors import BentoError, InputError, WorkFailed
from bento.models.signed import sha256

FILES = {"flake.nix": b"{ }", "a-b": b"", "a/deep/x.nix": b"x" * 3000, "a/b": b"\x00\xff", "ü.nix": b"1"}
LONG = "/".join(["n" * 200] * 4)


def make(root: Path, files: dict[str, bytes], executable: frozenset[str] = frozenset()) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        for number in range(1, name.count("/") + 1):
            folder = "/".join(name.split("/")[:number])
            entries[folder] = Entry(folder, root / folder, is_folder=True, executable=False)
        entries[name] = Entry(name, path, is_folder=False, executable=name in executable)
    return list(entries.values())


def packed(entries: list[Entry]) -> bytes:
    out = io.BytesIO()
    digest, size = write_tar(entries, out)
    assert (digest, size) == (sha256(out.getvalue()), len(out.getvalue()))
    return out.getvalue()


def test_the_same_tree_gives_the_same_bytes_whatever_else_differs(tmp_path: Path) -> None:
    first = packed(make(tmp_path / "one", FILES))
    umask = os.umask(0o077)
    try:
        entries = make(tmp_path / "two", dict(reversed(FILES.items())))
    finally:
        os.umask(umask)
    for number, entry in enumerate(entries):
        os.utime(entry.source, (number, 10**9 + number))
        if os.geteuid() == 0:
            os.chown(entry.source, 1000 + number, 1000)
    for other in (entries, entries[::-1], entries[2:] + entries[:2]):
        assert packed(other) == first


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 10240, 3_000_000])
def test_the_bytes_are_those_that_tarfile_writes(tmp_path: Path, size: int) -> None:
    """Releases that are published go on having the digests they have."""
    near = {"n" * length: b"%d" % length for length in (98, 99, 100, 101)}  # a header has a hundred bytes for it
    files = {**FILES, **near, f"{LONG}/x": b"1", "last": os.urandom(size)}
    entries = make(tmp_path, files, frozenset({"a/b", "n" * 98}))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(entries, key=lambda entry: entry.name.encode()):
            info = tarfile.TarInfo(entry.name)
            info.mtime, info.mode = MTIME, 0o755 if entry.is_folder or entry.executable else 0o644
            data = b"" if entry.is_folder else entry.source.read_bytes()
            info.type, info.size = tarfile.DIRTYPE if entry.is_folder else tarfile.REGTYPE, len(data)
            archive.addfile(info, io.BytesIO(data))
    assert packed(entries) == out.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda entries: entries[:-1],
        lambda entries: [entries[0]._replace(executable=True), *entries[1:]],
        lambda entries: [entries[0]._replace(name="flake2.nix"), *entries[1:]],
        lambda entries: [entries[0]._replace(place=entries[-1].place), *entries[1:]],
    ],
    ids=["a file less", "executable", "name", "content"],
)
def test_another_tree_gives_other_bytes(tmp_path: Path, change: Callable[[list[Entry]], list[Entry]]) -> None:
    entries = make(tmp_path, FILES)
    assert packed(change(entries)) != packed(entries)


def test_the_tar_tells_nothing_of_the_machine_that_made_it(tmp_path: Path) -> None:
    data = packed(make(tmp_path / "src", FILES, frozenset({"a/b"})))
    assert str(tmp_path).encode() not in data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted((m.name for m in members), key=str.encode)
    for member in members:
        assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", MTIME)
        assert member.mode == (0o755 if member.isdir() or member.name == "a/b" else 0o644)


def test_unpacking_gives_back_files_modes_and_the_one_time(tmp_path: Path) -> None:
    files = {**FILES, LONG: b"long"}
    (tmp_path / "it.tar").write_bytes(packed(make(tmp_path / "src", files, frozenset({"a/b"}))))
    umask = os.umask(0o077)
    try:
        unpack(tmp_path / "it.tar", tmp_path / "out")
    finally:
        os.umask(umask)
    out = tmp_path / "out"
    assert {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()} == files
    assert (out / "a/b").stat().st_mode & 0o7777 == 0o755
    assert (out / "a-b").stat().st_mode & 0o7777 == 0o644
    for path in (out, *out.rglob("*")):
        assert path.stat().st_mtime_ns == MTIME * 10**9


names = st.from_regex(r"[a-zA-Z0-9ü ._-]{1,6}(/[a-zA-Z0-9 ._-]{1,6}){0,2}", fullmatch=True)


@quick
@given(st.dictionaries(names, st.binary(max_size=700), max_size=6))
def test_packing_what_was_unpacked_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("again")
    files = {
        name: data
        for name, data in files.items()
        if not {".", ".."} & set(name.split("/")) and not any(other.startswith(f"{name}/") for other in files)
    }
    data = packed(make(root / "src", files))
    (root / "it.tar").write_bytes(data)
    unpack(root / "it.tar", root / "out")
    entries = [
        Entry(str(path.relative_to(root / "out")), path, is_folder=path.is_dir(), executable=False)
        for path in (root / "out").rglob("*")
    ]
    assert packed(entries) == data


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(b"x" * one.size))
    return path


FOLDER = member("d", tarfile.DIRTYPE)
HOSTILE = {
    "dot-dot": [member("../evil")],
    "dot-dot inside": [FOLDER, member("d/../../evil")],
    "absolute": [member("/evil")],
    "dot": [member("./evil")],
    "empty part": [FOLDER, member("d//evil")],
    "symlink": [member("evil", tarfile.SYMTYPE, "/etc/passwd")],
    "symlink, then through it": [member("d", tarfile.SYMTYPE, ".."), member("d/evil")],
    "hard link": [member("evil", tarfile.LNKTYPE, "/etc/passwd")],
    "character device": [member("evil", tarfile.CHRTYPE)],
    "block device": [member("evil", tarfile.BLKTYPE)],
    "FIFO": [member("evil", tarfile.FIFOTYPE)],
    "the same file twice": [member("evil"), member("evil")],
    "the same folder twice": [FOLDER, FOLDER],
    "a folder over a file": [member("d"), FOLDER],
    "a file over a folder": [FOLDER, member("d")],
    "no folder entry": [member("d/evil")],
    "folder entry too late": [member("d/evil"), FOLDER],
    "a file as folder": [member("d"), member("d/evil")],
    "newline": [member("evil\nname")],
    "ESC": [member("evil\x1b[2J")],
    "DEL": [member("evil\x7f")],
    "no UTF-8": [member("evil\udcff")],
    "long part": [member("e" * 256)],
    "long path": [member("/".join(["e"] * 600))],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(
    tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = archive(tmp_path / "hostile.tar", *members)
    with pytest.raises(BentoError) as error:
        unpack(path, inner / "out")
    assert error.value.message.isprintable()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hostile.tar", "inner"]
    assert [p.name for p in inner.iterdir() if p.name != "out"] == []
    assert not Path("/evil").exists()


@pytest.mark.parametrize("what", ["no folder entry", "folder entry too late", "a file as folder"])
def test_a_file_needs_its_folder_s_entry_before_it(tmp_path: Path, what: str) -> None:
    with pytest.raises(BentoError, match="'d/evil' in the configuration's archive has no folder"):
        unpack(archive(tmp_path / "it.tar", *HOSTILE[what]), tmp_path / "out")


def test_nul_in_a_name_is_refused() -> None:
    # A tar header ends a name at NUL; a pax record doesn't.
    with pytest.raises(InputError):
        check_name("a\x00b")


def test_pax_records_can_t_smuggle_a_name(tmp_path: Path) -> None:
    for name in ("../evil", "/evil", "a\x00b", "a/../../evil"):
        info = member("harmless")
        info.pax_headers = {"path": name}
        path = archive(tmp_path / "pax.tar", info)
        with pytest.raises(BentoError):
            unpack(path, tmp_path / "out")
        assert not [p for p in tmp_path.rglob("*") if p.is_file() and p != path]
        (tmp_path / "out").rmdir() if (tmp_path / "out").exists() else None


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "LIMITS", replace(tree.LIMITS, tree_entries=5))
    unpack(archive(tmp_path / "five.tar", *(member(f"f{n}") for n in range(5))), tmp_path / "five")
    with pytest.raises(BentoError, match="more files or bytes"):
        unpack(archive(tmp_path / "six.tar", *(member(f"f{n}") for n in range(6))), tmp_path / "six")


def test_too_many_bytes_are_refused_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "LIMITS", replace(tree.LIMITS, tree_bytes=1000, config=10_000))
    with pytest.raises(BentoError, match="more files or bytes"):
        unpack(archive(tmp_path / "big.tar", member("a", size=600), member("b", size=600)), tmp_path / "big")
    with pytest.raises(InputError, match=r"huge: with it the configuration is larger"):
        packed(make(tmp_path / "src", {"huge": b"x" * 20_000}))


def test_a_file_that_is_mostly_holes_is_refused(tmp_path: Path) -> None:
    """A sparse file is small in the archive, and would be huge on the disk."""
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(10**9)
    subprocess.run(["tar", "--sparse", "-C", tmp_path, "-cf", tmp_path / "it.tar", "holes"], check=True)
    assert (tmp_path / "it.tar").stat().st_size < 100_000
    with pytest.raises(BentoError, match="neither file nor folder"):
        unpack(tmp_path / "it.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def header(name: str, kind: bytes, size: int = 0, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """One raw block."""
    return member(name, kind, size=size).tobuf(form)


def record(kind: bytes, data: bytes) -> bytes:
    """A pax header with its data."""
    return header("x", kind, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def entry(word: str, value: str) -> bytes:
    """A line of pax data, which begins with its own length."""
    line = f" {word}={value}\n".encode()
    return next(b"%d" % size + line for size in range(len(line), len(line) + 9) if len(b"%d" % size + line) == size)


def with_size(block: bytes, size: int) -> bytes:
    """A header that says another size, in the spelling that can be negative; its checksum is right."""
    changed = bytearray(block)
    changed[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


F, END = header("f", tarfile.REGTYPE), bytes(2 * tarfile.BLOCKSIZE)
NAME = entry("path", "long")
MISLEADING = {
    "a chain of records": record(b"x", NAME) * 3000 + F,
    "a chain of records for all files": record(b"g", NAME) * 3000 + F,
    "a chain of GNU's long names": record(b"L", b"long\0") * 3000 + F,
    # a megabyte that tarfile would hold once for each file: with 5,000 of them 18 GB
    "many words for all files": record(b"g", b"".join(entry(f"k{n}", "v") for n in range(100_000))) + F * 3,
    "many words for one file": record(b"x", b"".join(entry(f"k{n}", "v") for n in range(100_000))) + F,
    "a name and another word": record(b"x", NAME + entry("size", "512")) + F,
    "another size": record(b"x", entry("size", "0")) + header("f", tarfile.REGTYPE, 512) + header("g", b"g", 0),
    "a map of holes": record(b"x", entry("GNU.sparse.map", "0,0")) + F,
    "a word that lies about its length": record(b"x", b"99 path=long\n") + F,
    "a negative size": F + with_size(header("g", tarfile.REGTYPE), -1024) + bytes(1024),
    "a negative size of a record": F + with_size(header("g", b"x"), -512),
    "a huge size of a record": with_size(header("g", b"x"), 2**62),
    # tarfile goes on right after the folder, a reader of sizes after what it is said to hold
    "a folder that holds more headers": header("d", tarfile.DIRTYPE, 1024) + record(b"g", NAME) + F,
}


@pytest.mark.parametrize("raw", MISLEADING.values(), ids=MISLEADING)
def test_headers_that_mislead_or_cost_are_refused_before_anything_is_written(
    tmp_path: Path, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree.tarfile, "open", lambda *_, **__: pytest.fail("tarfile got to see it"))
    (tmp_path / "it.tar").write_bytes(raw + END)
    with pytest.raises(WorkFailed):
        unpack(tmp_path / "it.tar", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["it.tar"]


def test_raw_headers_of_files_and_of_a_long_name_are_taken(tmp_path: Path) -> None:
    """The control of the above."""
    (tmp_path / "it.tar").write_bytes(record(b"x", NAME) + F + F + header("d", tarfile.DIRTYPE) + END)
    unpack(tmp_path / "it.tar", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["d", "f", "long"]


def test_a_hundred_thousand_entries_are_refused_before_the_first_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_write_member", lambda *_: pytest.fail("one was written"))
    with (tmp_path / "it.tar").open("wb") as out:
        out.writelines(header(f"f{number}", tarfile.REGTYPE) for number in range(100_000))
        out.write(END)
    with pytest.raises(WorkFailed, match="more files or bytes"):
        unpack(tmp_path / "it.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_alike_but_for_case_or_spelling_stay_two_files(tmp_path: Path) -> None:
    """As on the admin's file system; neither is written over the other."""
    names = ["README", "readme", "caf\u00e9", "cafe\u0301"]
    entries = make(tmp_path / "src", {name: name.encode() for name in names})
    (tmp_path / "it.tar").write_bytes(packed(entries))
    unpack(tmp_path / "it.tar", tmp_path / "out")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {name: name for name in names}


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 1024])
def test_a_truncated_archive_is_damaged(tmp_path: Path, keep: int) -> None:
    whole = archive(tmp_path / "it.tar", member("a", size=2000))
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(BentoError, match="damaged"):
        unpack(tmp_path / "cut.tar", tmp_path / "out")
    assert not (tmp_path / "out/a").exists() or (tmp_path / "out/a").stat().st_size < 2000


def test_a_compressed_archive_or_garbage_is_damaged(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "it.tgz", "w:gz") as tar:
        tar.addfile(member("a"))
    (tmp_path / "garbage").write_bytes(os.urandom(4096))
    for number, name in enumerate(("it.tgz", "garbage")):
        with pytest.raises(BentoError, match="damaged"):
            unpack(tmp_path / name, tmp_path / f"out{number}")


@quick
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=8))
def test_an_archive_with_some_bytes_changed_unpacks_inside_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, data: bytes
) -> None:
    root = tmp_path_factory.mktemp("flip")
    whole = archive(root / "it.tar", FOLDER, member("d/x", size=600), member("e"))
    raw = bytearray(whole.read_bytes())
    raw[at : at + len(data)] = data
    whole.write_bytes(raw)
    with suppress(BentoError):
        unpack(whole, root / "out")
    assert {p.name for p in root.iterdir()} <= {"it.tar", "out"}
    assert not [p for p in root.rglob("*") if p.is_symlink()]


def test_what_changed_or_went_away_meanwhile_is_named(tmp_path: Path) -> None:
    entries = make(tmp_path, {"here": b"", "gone": b""})
    (tmp_path / "gone").unlink()
    with pytest.raises(InputError, match=r"gone: No such file"):
        packed(entries)


@pytest.mark.parametrize("name", ["a", "a/b", "ü", "a b", ".gitignore", "-x", "x" * 255, "..."])
def test_ordinary_names_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "..", "a/..", "a\n", "\x00", "ü" * 128, "\udcff"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        check_name(name)


def test_where_nothing_can_be_unpacked_is_an_error_and_what_is_there_stays(tmp_path: Path) -> None:
    with (tmp_path / "it.tar").open("wb") as out:
        write_tar(make(tmp_path / "tree", {"flake.nix": b"{ }"}), out)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    for place in (tmp_path / "taken", tmp_path / "missing/out", tmp_path / "it.tar/out"):
        with pytest.raises(WorkFailed, match="can't unpack"):
            unpack(tmp_path / "it.tar", place)
    assert (tmp_path / "taken/file").exists()
