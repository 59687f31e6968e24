"""Generations on a real tmpfs: written whole or not at all, flipped in one step, owned by whom the manifest says."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bento_secrets.errors import BentoError, InputError, RuntimeFailed, RuntimeUnsafe
from bento_secrets.names import Digest, SecretName
from bento_secrets.runtime import Installed, Runtime, Unowned
from bento_secrets.sealing import Plaintext

DIGEST = Digest("0" * 64)


def installed(name: str, owner: str = "root", mode: str = "0400") -> Installed:
    return Installed(SecretName(name), owner, owner, mode, None, (), (), DIGEST)


def item(name: str, content: bytes = b"x") -> tuple[Installed, Plaintext]:
    return installed(name), Plaintext(content)


def modes(folder: Path) -> dict[str, tuple[int, int, int]]:
    """uid, gid, mode of each file."""
    return {
        str(path.relative_to(folder)): (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_generation_is_roots_and_the_live_link_stays(runtime: Runtime) -> None:
    old = os.umask(0o077)
    try:
        runtime.write_generation(1, [item("a", b"one"), item("b/c/d", b"two")])
    finally:
        os.umask(old)
    generation = runtime.root / "generations" / "1"
    assert modes(generation) == {"a": (0, 0, 0o400), "b/c/d": (0, 0, 0o400)}
    assert (generation / "b/c/d").read_bytes() == b"two"
    for folder in (runtime.root, generation.parent, generation, generation / "b", generation / "b/c"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o751
    assert (runtime.live(), runtime.has(1), runtime.has(2)) == (None, True, False)


def test_nothing_is_written_to_a_plain_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnsafe):
        Runtime(tmp_path).write_generation(1, [item("a")])
    assert names(tmp_path) == []


def test_the_link_flips_in_one_step_and_goes(runtime: Runtime) -> None:
    for serial in (1, 2):
        runtime.write_generation(serial, [item("a", str(serial).encode())])
    runtime.flip(1)
    assert (runtime.live(), (runtime.root / "secrets/a").read_bytes()) == (1, b"1")
    runtime.flip(2)
    assert (runtime.live(), (runtime.root / "secrets/a").read_bytes()) == (2, b"2")
    with pytest.raises(RuntimeFailed, match="release 3"):
        runtime.flip(3)
    assert runtime.live() == 2
    runtime.flip(None)
    runtime.flip(None)
    assert (runtime.live(), names(runtime.root)) == (None, ["generations"])
    (runtime.root / "secrets").symlink_to("/etc")
    assert runtime.live() is None


def test_a_reader_never_misses_the_secret_while_it_flips_or_is_exchanged(runtime: Runtime) -> None:
    watcher = (
        "import sys, pathlib\np = pathlib.Path(sys.argv[1]); print('on', flush=True)\n"
        "while not (p.parent.parent / 'stop').exists(): p.read_bytes()"
    )
    for serial in (1, 2):
        runtime.write_generation(serial, [item("a")])
    runtime.flip(1)
    path = str(runtime.root / "secrets/a")
    with subprocess.Popen(
        [sys.executable, "-c", watcher, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for number in range(300):
            runtime.flip(1 + number % 2)
            runtime.write_generation(2, [item("a", b"%d" % number)])
        (runtime.root / "stop").touch()
        _, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (0, b"")


def test_too_large_a_generation_leaves_no_trace(runtime: Runtime) -> None:
    runtime.write_generation(1, [item("a")])
    for size in (1 << 20, 900 * 1024):  # refused by Bento's count; by the kernel, which needs room for folders too
        runtime._size = 1 << 40 if size < 1 << 20 else 1 << 20
        with pytest.raises(RuntimeFailed, match="is full"):  # by the kernel it is a file that doesn't fit: named
            runtime.write_generation(2, [item("a"), item("b", bytes(size)), item("c", bytes(200 * 1024))])
        assert names(runtime.root / "generations") == ["1"]
    assert runtime.has(1)


@pytest.mark.root
def test_the_count_holds_on_ramfs_which_the_kernel_doesnt_limit(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "-o", "nosuid,nodev,noexec,mode=751", "test", str(root)], check=True)
    try:
        runtime = Runtime(root)
        runtime.ensure(64 * 1024)
        runtime.write_generation(1, [item("a", bytes(32 * 1024))])
        with pytest.raises(RuntimeFailed, match="is full"):
            runtime.write_generation(2, [item("a", bytes(33 * 1024))])
        assert names(root / "generations") == ["1"]
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_a_generation_already_there_is_kept_if_equal_and_exchanged_if_not(runtime: Runtime) -> None:
    items = [item("a", b"one"), item("b/c", b"two")]
    runtime.write_generation(1, items)
    runtime.set_owners(1, [installed("a", "65534", "0440")])
    file = runtime.root / "generations/1/a"
    before = file.stat()
    runtime.write_generation(1, items)
    assert file.stat() == before
    for other in ([item("a", b"One"), items[1]], [items[0]], [*items, item("d")]):
        runtime.write_generation(1, other)
        assert set(modes(file.parent)) == {one.name for one, _ in other}
        assert modes(file.parent)["a"] == (0, 0, 0o400)
    assert names(file.parent.parent) == ["1"]


def test_what_a_cut_run_left_is_no_generation_and_goes(runtime: Runtime) -> None:
    left = runtime.root / "generations" / ".new-7"
    left.mkdir(parents=True)
    (left / "a").write_bytes(b"half")
    assert not runtime.has(7)
    runtime.write_generation(7, [item("b")])
    assert names(left.parent) == ["7"]
    assert set(modes(left.parent / "7")) == {"b"}


def test_one_name_twice_is_refused(runtime: Runtime) -> None:
    with pytest.raises(InputError):
        runtime.write_generation(1, [item("a"), item("a")])


def test_owners_are_set_and_a_missing_one_keeps_only_its_own_secret_roots(runtime: Runtime) -> None:
    wanted = [
        installed("a", "nobody", "0440"),
        installed("b/c", "12345", "0640"),
        installed("d"),
        installed("e", "nosuch"),
    ]
    wanted[0] = replace(wanted[0], group="nogroup")
    runtime.write_generation(1, [(one, Plaintext(b"x")) for one in wanted])
    assert runtime.set_owners(1, wanted) == (Unowned(SecretName("e"), "nosuch", "nosuch"),)
    generation = runtime.root / "generations" / "1"
    assert modes(generation) == {
        "a": (65534, 65534, 0o440),
        "b/c": (12345, 12345, 0o640),
        "d": (0, 0, 0o400),
        "e": (0, 0, 0o400),
    }
    gone = [installed("a", "nosuch"), installed("b/c", "4294967295"), installed("d", "nobody")]
    gone[2] = replace(gone[2], group="nosuch")
    assert [str(one) for one in runtime.set_owners(1, gone)] == [
        "the user nosuch and the group nosuch of the secret a",
        "the user 4294967295 and the group 4294967295 of the secret b/c",
        "the group nosuch of the secret d",
    ]
    assert set(modes(generation).values()) == {(0, 0, 0o400)}
    with pytest.raises(RuntimeFailed):
        runtime.set_owners(1, [installed("absent")])
    with pytest.raises(RuntimeFailed):
        runtime.set_owners(2, [installed("a")])


def test_the_owner_reads_his_secret_and_nobody_else_reads_or_lists(runtime: Runtime) -> None:
    wanted = [installed("a/mine", "65534"), installed("a/roots")]
    runtime.write_generation(1, [(one, Plaintext(b"content")) for one in wanted])
    runtime.set_owners(1, wanted)
    runtime.flip(1)
    code = (
        "import os, sys; os.setgid(65534); os.setuid(65534); os.chdir('/'); d = os.open\n"
        "def tried(f, *a):\n    try: return f(*a)\n    except PermissionError: return 'refused'\n"
        "print(tried(lambda: open('secrets/a/mine').read()), tried(open, 'secrets/a/roots'),"
        " *(tried(os.listdir, p) for p in ('.', 'generations', 'secrets/', 'secrets/a')))"
    ).replace("os.chdir('/'); d = os.open", "pass")
    # Started in the folder: pytest's temporary folders above it are root's alone.
    done = subprocess.run([sys.executable, "-c", code], cwd=runtime.root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["content", *["refused"] * 5]


def test_a_service_never_misses_its_secret_while_owners_are_set_again(runtime: Runtime) -> None:
    """On a live set, with nothing to change: the usual case after a switch and at each install."""
    wanted = [replace(installed("a", "65534", "0440"), group="65534"), installed("b"), installed("c", "nosuch")]
    runtime.write_generation(1, [(one, Plaintext(b"content")) for one in wanted])
    runtime.set_owners(1, wanted)
    runtime.flip(1)
    watcher = (
        "import os, pathlib\nos.setgid(65534); os.setuid(65534); print('on', flush=True)\n"
        "while not os.path.exists('stop'): pathlib.Path('secrets/a').read_bytes()"
    )
    times = {name: (runtime.secrets / name).stat().st_ctime_ns for name in "abc"}
    with subprocess.Popen(
        [sys.executable, "-c", watcher], cwd=runtime.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(2000):
            runtime.set_owners(1, wanted)
        (runtime.root / "stop").touch()
        _, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (0, b"")
    assert {name: (runtime.secrets / name).stat().st_ctime_ns for name in "abc"} == times  # not touched at all


def test_pruning_keeps_what_is_named_and_what_is_live(runtime: Runtime) -> None:
    runtime.prune([])
    for serial in range(1, 6):
        runtime.write_generation(serial, [item("a/b")])
    runtime.flip(2)
    (runtime.root / "generations" / ".new-9").mkdir()
    runtime.prune([4, 77])
    assert names(runtime.root / "generations") == ["2", "4"]


def test_the_secret_that_does_not_fit_is_named(runtime: Runtime) -> None:
    runtime._size = 1 << 40
    with pytest.raises(RuntimeFailed, match=r"can't write the secret b of release 2: .* is full"):
        runtime.write_generation(2, [item("a"), item("b", bytes(1 << 20)), item("c")])
    assert names(runtime.root / "generations") == []


def test_secrets_for_users_are_a_set_of_their_own_beside_the_other_and_share_its_room(runtime: Runtime) -> None:
    for_users = Runtime(runtime.root, for_users=True)
    for_users.ensure(1 << 20)
    for_users.write_generation(1, [item("hash", b"users")])
    for_users.flip(1)
    runtime.write_generation(2, [item("hash", b"other")])
    runtime.flip(2)
    assert (for_users.live(), runtime.live()) == (1, 2)
    assert ((for_users.secrets / "hash").read_bytes(), (runtime.secrets / "hash").read_bytes()) == (b"users", b"other")
    assert modes(for_users.secrets) == {"hash": (0, 0, 0o400)}
    runtime.prune([])
    assert for_users.has(1)
    for_users.flip(None)
    for_users.prune([])
    assert not for_users.has(1)
    assert runtime.live() == 2
    for_users._size = runtime._size = 64 * 1024
    runtime.write_generation(3, [item("a", bytes(40 * 1024))])
    with pytest.raises(RuntimeFailed, match="is full"):
        for_users.write_generation(3, [item("a", bytes(24 * 1024))])


def test_content_is_compared_between_generations(runtime: Runtime) -> None:
    for serial, content in ((1, b"one"), (2, b"one"), (3, b"two")):
        runtime.write_generation(serial, [item("a/b", content), item(f"only{serial}")])
    name = SecretName("a/b")
    assert [runtime.same_content(1, other, name) for other in (2, 3, 4)] == [True, False, None]
    assert runtime.same_content(1, 2, SecretName("only1")) is None


def test_errors_carry_no_plaintext(runtime: Runtime) -> None:
    with pytest.raises(BentoError) as caught:
        runtime.write_generation(1, [item("a", b"hunter2" * 200_000)])
    assert "hunter2" not in f"{caught.value!r}{caught.value.hints}{caught.value.__cause__}"


def test_the_poll_path_loads_no_heavy_library() -> None:
    code = (
        "import sys, bento_secrets.errors, bento_secrets.names, bento_secrets.runtime, bento_secrets.links\n"
        "print([m for m in ('pyrage', 'cryptography', 'nacl', 'tomlkit', 'pydantic', 'paramiko') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
