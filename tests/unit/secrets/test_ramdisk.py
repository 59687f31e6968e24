"""Which mounts may hold plaintext: the rule on tables, and on real mounts."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_secrets.errors import RuntimeUnsafe
from bento_secrets.ramdisk import has_swap, parse_mountinfo, unsafe_reason
from bento_secrets.runtime import Runtime

RUN = "25 30 0:23 / /run rw,nosuid,nodev - tmpfs tmpfs rw,size=2467k,mode=755"
GOOD = "40 25 0:39 / /run/bento rw,nosuid,nodev,noexec,relatime shared:7 - tmpfs bento rw,size=1024k,mode=751,noswap"
PLAIN = GOOD.replace(",noswap", "")
SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def reason(*lines: str, device: tuple[int, int] = (0, 39), swap: bool = True) -> str | None:
    return unsafe_reason("/run/bento", device, parse_mountinfo("\n".join(lines)), swap=swap)


def test_a_mount_that_never_swaps_is_safe() -> None:
    assert reason(RUN, GOOD) is None
    assert reason(RUN, PLAIN, swap=False) is None
    assert reason(RUN, GOOD.replace(" - tmpfs bento rw,size=1024k,mode=751,noswap", " - ramfs bento rw")) is None
    assert reason(RUN, GOOD, GOOD.replace("40 25", "41 40")) is None  # bound on itself, as systemd's sandbox does


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([RUN], "no mount of its own"),
        ([RUN, GOOD.replace("/run/bento", "/run/bento2")], "no mount of its own"),
        ([RUN, GOOD.replace("/run/bento", "/run/bento/secrets")], "no mount of its own"),
        ([RUN, GOOD, GOOD.replace("0:39", "0:77")], "no mount of its own"),
        ([RUN, GOOD.replace(" / /run", " /sub /run")], "shares"),
        ([RUN.replace("0:23", "0:39"), GOOD], "shares"),
        ([RUN, PLAIN], "without noswap"),
        ([RUN, GOOD.replace("nosuid,", "")], "without nosuid"),
        ([RUN, GOOD.replace("nodev,", "")], "without nodev"),
        ([RUN, GOOD.replace("noexec,", "")], "without noexec"),
        ([RUN, GOOD.replace("size=1024k,", "")], "size limit"),
        ([RUN, GOOD.replace("size=1024k,", "size=0k,")], "size limit"),
        ([RUN, GOOD.replace("- tmpfs bento", "- ext4 /dev/sda1")], "on ext4"),
        ([RUN, GOOD.replace("- tmpfs bento", "- fuse.evil\x1b bento")], "something else"),
        ([], "no mount of its own"),
    ],
)
def test_every_other_mount_is_refused_with_its_reason(lines: list[str], why: str) -> None:
    assert why in (reason(*lines) or "accepted")


def test_escaped_paths_and_odd_lines_are_understood() -> None:
    text = GOOD.replace("/run/bento", "/run/my\\040bento\\134x") + "\nnonsense\n\n"
    assert [mount.path for mount in parse_mountinfo(text)] == ["/run/my bento\\x"]
    assert len(parse_mountinfo(Path("/proc/self/mountinfo").read_text())) > 3


@given(st.text(max_size=60))
def test_one_line_of_swap_is_swap(line: str) -> None:
    assert not has_swap(SWAPS)
    assert not has_swap("")
    assert has_swap(f"{SWAPS}/dev/zram0 partition 1 0 -2\n{line}")


@contextmanager
def mounted(path: Path, kind: str, options: str) -> Iterator[None]:
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, "test", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_plain_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnsafe, match="no mount of its own") as caught:
        Runtime(tmp_path).check()
    assert caught.value.exit_code == 2
    with pytest.raises(RuntimeUnsafe, match="can't be used"):
        Runtime(tmp_path / "absent").check()


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("tmpfs", "nodev,noexec,size=64k,noswap,mode=751", "without nosuid"),
        ("tmpfs", "nosuid,nodev,noexec,noswap,mode=751", "size limit"),
        ("tmpfs", "nosuid,nodev,noexec,noswap,size=64k,mode=1777", "others may write"),
        ("tmpfs", "nosuid,nodev,noexec,noswap,size=64k,mode=751,uid=65534", "another user"),
        ("tmpfs", "nosuid,nodev,noexec,noswap,size=64k,mode=751", None),
        ("ramfs", "nosuid,nodev,noexec,mode=751", None),
    ],
)
def test_a_real_mount_is_judged(tmp_path: Path, kind: str, options: str, why: str | None) -> None:
    with mounted(tmp_path / "run", kind, options):
        if why is None:
            Runtime(tmp_path / "run").check()
            return
        for work in (Runtime(tmp_path / "run").check, lambda: Runtime(tmp_path / "run").ensure(65536)):
            with pytest.raises(RuntimeUnsafe, match=why):
                work()


@pytest.mark.root
def test_a_folder_of_a_parents_tmpfs_and_a_bind_of_it_are_refused(tmp_path: Path) -> None:
    with mounted(tmp_path / "run", "tmpfs", "nosuid,nodev,noexec,noswap,size=64k,mode=751"):
        bento = tmp_path / "run" / "bento"
        bento.mkdir()
        with pytest.raises(RuntimeUnsafe, match="no mount of its own"):
            Runtime(bento).check()
        for source in (bento, bento.parent):
            subprocess.run(["mount", "--bind", str(source), str(bento)], check=True)
            with pytest.raises(RuntimeUnsafe, match="shares"):
                Runtime(bento).check()
            subprocess.run(["umount", str(bento)], check=True)


@pytest.mark.root
def test_ensure_mounts_once_and_refuses_files_that_were_there(tmp_path: Path) -> None:
    root = tmp_path / "run"
    Runtime(root).ensure(1 << 20)
    try:
        Runtime(root).ensure(1 << 20)
        here = [mount for mount in parse_mountinfo(Path("/proc/self/mountinfo").read_text()) if mount.path == str(root)]
        assert len(here) == 1
        assert {"noswap", "size=1024k"} <= here[0].super_options
        assert (root.stat().st_mode & 0o777) == 0o751
    finally:
        subprocess.run(["umount", str(root)], check=True)
    (root / "left").write_bytes(b"")
    with pytest.raises(RuntimeUnsafe, match="has files in it"):
        Runtime(root).ensure(1 << 20)
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(RuntimeUnsafe, match="symlink"):
        Runtime(tmp_path / "link").ensure(1 << 20)


@pytest.mark.root
def test_where_the_kernel_knows_no_noswap_ensure_still_mounts_what_never_swaps(tmp_path: Path) -> None:
    """In a user namespace, where noswap is EINVAL."""
    code = (
        "from pathlib import Path; from bento_secrets.runtime import Runtime; import sys\n"
        f"run = {str(tmp_path / 'run')!r}\n"
        "Runtime(Path(run)).ensure(1 << 20)\n"
        "print([l.split(' - ')[1].split()[0] for l in open('/proc/self/mountinfo') if l.split()[4] == run])"
    )
    done = subprocess.run(["unshare", "-Urm", sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['ramfs']"
