"""Quotas of `bento server apply`: set once where the file system keeps them, and said where it can't be."""

from dataclasses import replace
from pathlib import Path

import pytest
from unit.samples import WEB, public

from bento.admin.server_quotas import Quotas, quotas
from bento.core.server_wish import ServerWish
from bento.errors import WorkFailed
from bento.names import HostName

PLAIN = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


@pytest.fixture
def wish(tmp_path: Path) -> ServerWish:
    hosts = {WEB: (public(1),), HostName("db"): (public(2),)}
    return ServerWish(tmp_path / "srv/hosts", hosts, (), 10, 5)


@pytest.fixture
def setquota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recorder in setquota's place, and nothing else on the PATH but a shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "setquota"
    program.write_text(f'#!/bin/sh\n{{ echo "$@"; /bin/cat; }} >>{tmp_path}/log\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return program


def looked_at(wish: ServerWish, tmp_path: Path, *mounts: str) -> Quotas:
    (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in (PLAIN, *mounts)))
    return quotas(wish, tmp_path / "mountinfo", tmp_path / "etc/quotas")


def test_where_the_file_system_keeps_none_that_is_said_with_its_place(
    wish: ServerWish, setquota: Path, tmp_path: Path
) -> None:
    found = looked_at(wish, tmp_path, f"21 20 8:2 / {tmp_path} rw - ext4 /dev/sdb1 rw,noquota,grpquota")
    assert found.do is None
    assert found.lacking[0].startswith(f"the file system at {tmp_path} keeps no quotas")
    assert "usrquota" in found.lacking[1]


@pytest.mark.parametrize("option", ["usrquota", "quota", "uquota", "usrjquota=aquota.user"])
def test_without_the_program_the_package_is_named(
    wish: ServerWish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = looked_at(wish, tmp_path, f"21 20 8:2 / {tmp_path} rw - ext4 /dev/sdb1 rw,{option}")
    assert found.do is None
    assert "setquota is not installed" in found.lacking[0]


def test_every_host_gets_its_limit_once_and_anew_when_the_limit_or_the_hosts_change(
    wish: ServerWish, setquota: Path, tmp_path: Path
) -> None:
    place = tmp_path / "srv"
    mounts = (
        f"21 20 8:2 / {place} rw - ext4 /dev/sdb1 rw,usrquota",
        f"22 20 8:3 / {place}/hosts-of-others rw - ext4 /dev/sdc1 rw",
    )
    found = looked_at(wish, tmp_path, *mounts)
    assert found.shown == f"limit each of 2 hosts to 10 MiB and 5 files: setquota --user --batch {place}"
    assert not (tmp_path / "log").exists()
    assert found.do is not None
    found.do()
    assert (tmp_path / "log").read_text() == f"--user --batch {place}\ndb 0 10240 0 5\nweb 0 10240 0 5\n"
    assert looked_at(wish, tmp_path, *mounts) == Quotas()
    assert looked_at(replace(wish, quota=11), tmp_path, *mounts).do is not None
    assert looked_at(replace(wish, hosts={WEB: (public(1),)}), tmp_path, *mounts).do is not None


def test_what_setquota_says_is_told_and_it_is_tried_again(wish: ServerWish, setquota: Path, tmp_path: Path) -> None:
    setquota.write_text("#!/bin/sh\necho 'setquota: quotas are off' >&2; exit 1\n")
    mount = f"21 20 8:2 / {tmp_path} rw - ext4 /dev/sdb1 rw,usrquota"
    found = looked_at(wish, tmp_path, mount)
    assert found.do is not None
    with pytest.raises(WorkFailed, match="quotas are off") as error:
        found.do()
    assert f"quotaon --user {tmp_path}" in error.value.hints[0]
    assert looked_at(wish, tmp_path, mount).do is not None
