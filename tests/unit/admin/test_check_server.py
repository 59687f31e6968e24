"""What sshd says is compared setting by setting: each that differs is told, with what follows from it."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from unit.samples import WEB, public

from bento.adapters.accounts import Account
from bento.admin.check_found import Finding, Found, Unchecked, merged
from bento.admin.check_keys import check_pins
from bento.admin.check_server import check_chroot, check_way, compare_account, compare_settings
from bento.admin.inventory import Host
from bento.models.manifest import Settings
from bento.models.trust import Server
from bento.names import HostName

GOOD = {
    "forcecommand": "internal-sftp",
    "chrootdirectory": "/home/chroot/%u",
    "disableforwarding": "yes",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "pubkeyauthentication": "yes",
    "authenticationmethods": "any",
    "maxstartups": "100:30:200",
    "persourcemaxstartups": "none",
    "usepam": "yes",
    "authorizedkeyscommand": "none",
    "authorizedkeysfile": ".ssh/authorized_keys keys/%u",
}
CHROOT = Path("/home/chroot/web")


def told(found: Iterable[Found]) -> list[tuple[str, str]]:
    return [
        (one.severity, one.message) if isinstance(one, Finding) else ("unchecked", one.what) for one in merged(found)
    ]


def test_of_good_settings_nothing_is_said() -> None:
    assert told(compare_settings(GOOD, WEB, CHROOT, 100)) == []
    with_arguments = GOOD | {"forcecommand": "internal-sftp -l INFO", "chrootdirectory": "/home/chroot/web"}
    assert told(compare_settings(with_arguments, WEB, CHROOT, 100)) == []


@pytest.mark.parametrize(
    ("change", "severity", "said"),
    [
        ({"forcecommand": "none"}, "error", "no ForceCommand"),
        ({"forcecommand": "internal-sftpd"}, "error", "ForceCommand 'internal-sftpd'"),
        ({"chrootdirectory": "none"}, "error", "no ChrootDirectory"),
        ({"chrootdirectory": "/srv/%u"}, "error", "/home/chroot/%u"),
        ({"chrootdirectory": "/home/chroot/%%u"}, "error", "/home/chroot/%u"),
        ({"disableforwarding": "no"}, "warning", "disableforwarding no"),
        ({"passwordauthentication": "yes"}, "warning", "passwordauthentication yes"),
        ({"kbdinteractiveauthentication": "yes"}, "warning", "kbdinteractiveauthentication yes"),
        ({"pubkeyauthentication": "no"}, "error", "pubkeyauthentication no"),
        ({"maxstartups": "99:30:200"}, "warning", "MaxStartups 99:30:200, fewer than the 100 hosts"),
        ({"persourcemaxstartups": "8"}, "warning", "PerSourceMaxStartups 8"),
    ],
)
def test_each_setting_that_differs_is_told(change: dict[str, str], severity: str, said: str) -> None:
    [(how_bad, message)] = told(compare_settings(GOOD | change, WEB, CHROOT, 100))
    assert how_bad == severity
    assert said in message


def test_passwords_do_no_harm_where_a_key_is_needed_in_any_case() -> None:
    change = {"passwordauthentication": "yes", "authenticationmethods": "publickey publickey,password"}
    assert told(compare_settings(GOOD | change, WEB, CHROOT, 1)) == []
    change["authenticationmethods"] = "publickey password"
    assert len(told(compare_settings(GOOD | change, WEB, CHROOT, 1))) == 1


@pytest.fixture
def account(tmp_path: Path) -> Account:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "keys").mkdir()
    return Account("web", 990, 990, str(tmp_path), locked=False, groups=frozenset({"web", "bento-hosts"}))


def host(*numbers: int) -> Host:
    keys = tuple(public(number) for number in numbers)
    return Host(WEB, keys, (), Path("/f/hosts/web"), "web", settings())


def settings() -> Settings:
    return Settings(action="switch", on_difference="report", args=())


def write_keys(account: Account, *lines: str) -> None:
    (Path(account.home) / ".ssh/authorized_keys").write_text("".join(f"{line}\n" for line in lines))


def test_keys_are_found_in_any_of_the_files_whatever_stands_around_them(account: Account) -> None:
    write_keys(account, "# the first", f'restrict,command="a b" {public(1).line} root@web')
    (Path(account.home) / "keys/web").write_text(f"{public(2).line}\n")
    assert told(compare_account(GOOD, account, host(1, 2))) == []


@pytest.mark.parametrize(
    ("lines", "change", "severity", "said"),
    [
        ([], {}, "error", "none of its keys is in"),
        ([f"#{public(1).line}", f"# {public(2).line}"], {}, "error", "none of its keys is in"),
        ([public(1).line], {}, "warning", public(2).fingerprint),
        ([public(1).line, public(2).line, public(3).line], {}, "warning", "1 keys that bento.toml doesn't give"),
        ([], {"authorizedkeyscommand": "/bin/keys"}, "unchecked", "the hosts' keys"),
        ([], {"authorizedkeysfile": "none"}, "error", "none of its keys is in"),
    ],
)
def test_who_gets_in_is_compared_with_the_host_s_keys(
    account: Account, lines: list[str], change: dict[str, str], severity: str, said: str
) -> None:
    write_keys(account, *lines)
    [(how_bad, message)] = told(compare_account(GOOD | change, account, host(1, 2)))
    assert how_bad == severity
    assert said in message


def test_a_locked_account_matters_without_pam_only(account: Account) -> None:
    write_keys(account, public(1).line)
    locked = Account(account.name, account.uid, account.gid, account.home, locked=True)
    assert told(compare_account(GOOD, locked, host(1))) == []
    [(severity, said)] = told(compare_account(GOOD | {"usepam": "no"}, locked, host(1)))
    assert severity == "error"
    assert "locked" in said


@pytest.mark.parametrize(
    ("change", "shut_out"),
    [
        ({"allowusers": "alice\nbob@10.0.0.*"}, "AllowUsers alice bob@10.0.0.*"),
        ({"allowusers": "alice\nweb@10.0.0.*"}, ""),
        ({"allowusers": "w?b"}, ""),
        ({"allowusers": "*"}, ""),
        ({"allowgroups": "wheel"}, "AllowGroups wheel"),
        ({"allowgroups": "wheel\nbento-*"}, ""),
        ({"denyusers": "web"}, "DenyUsers web"),
        ({"denyusers": "web1"}, ""),
        ({"denygroups": "bento-hosts"}, "DenyGroups bento-hosts"),
    ],
)
def test_a_host_that_sshds_own_lists_keep_out_is_told(account: Account, change: dict[str, str], shut_out: str) -> None:
    write_keys(account, public(1).line)
    wanted = [("error", f"sshd has {shut_out}: it can't log in")] if shut_out else []
    assert told(compare_account(GOOD | change, account, host(1))) == wanted


def test_a_fifo_for_keys_does_not_hang_the_check(account: Account) -> None:
    import os

    os.mkfifo(Path(account.home) / ".ssh/authorized_keys")
    assert told(compare_account(GOOD, account, host(1)))[0][0] == "error"


def test_what_differs_by_host_only_is_said_once() -> None:
    db = HostName("db")
    found: list[Found] = [
        *compare_settings(GOOD | {"disableforwarding": "no"}, WEB, CHROOT, 1),
        *compare_settings(GOOD | {"disableforwarding": "no"}, db, CHROOT.with_name("db"), 1),
    ]
    [one] = merged(found)
    assert isinstance(one, Finding)
    assert one.hosts == (WEB, db)


@pytest.mark.root
def test_a_folder_on_the_way_that_others_may_write_to_is_told_once_for_all_chroots(tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    (wide / "chroots").mkdir(parents=True)
    wide.chmod(0o1777)
    messages = [message for _, message in told(check_way(wide / "chroots")) if str(wide) in message]
    assert len(messages) == 1
    assert "(mode 1777): sshd refuses every chroot below it" in messages[0]


@pytest.mark.root
def test_a_reports_folder_that_is_a_link_is_an_error_and_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "web/release").mkdir(parents=True)
    (tmp_path / "web/reports").symlink_to("/etc")
    found: list[Any] = [one for one in told(check_chroot(tmp_path, WEB, None)) if "reports" in one[1]]
    assert found == [("error", f"{tmp_path}/web/reports is no folder")]


@pytest.mark.root
@pytest.mark.parametrize(("what", "mode"), [("", 0o700), ("release", 0o700), ("release/objects", 0o750),
                         ("release/manifest", 0o600), ("release/objects/one", 0o000)])  # fmt: skip
def test_a_release_that_its_host_cannot_read_is_told_with_what_to_type(tmp_path: Path, what: str, mode: int) -> None:
    place = tmp_path / "the hosts"
    objects = place / "web/release/objects"
    objects.mkdir(parents=True)
    for file in (objects / "one", objects.parent / "manifest"):
        file.touch()
        file.chmod(0o644)
    account = Account("web", 54321, 54321, "/nonexistent", locked=False)
    assert not [one for one in told(check_chroot(place, WEB, account)) if "read" in one[1]]
    spoilt = place / "web" / what
    spoilt.chmod(mode)
    for one in (account, None):
        [found] = [f for f in check_chroot(place, WEB, one) if isinstance(f, Finding) and "read" in f.message]
        assert (found.severity, found.message) == ("error", f"it can't read {spoilt} (mode {mode:04o})")
        subprocess.run(["sh", "-c", found.hints[0]], check=True)
        assert not [f for f in told(check_chroot(place, WEB, one)) if "read" in f[1]]
        spoilt.chmod(mode)
    os.chown(spoilt, 0, account.gid)
    spoilt.chmod(0o750)
    assert not [f for f in told(check_chroot(place, WEB, account)) if "read" in f[1]]


def test_an_account_that_is_root_s_is_an_error_and_none_is_a_warning(tmp_path: Path) -> None:
    root = Account("web", 0, 0, "/root", locked=False)
    assert told(check_chroot(tmp_path, WEB, root))[0][0] == "error"
    assert told(check_chroot(tmp_path, WEB, None))[0] == (
        "warning",
        "no account on this machine, so it can't log in here",
    )


def test_what_was_not_looked_at_is_no_finding() -> None:
    [one] = merged([Unchecked("a", "b"), Unchecked("a", "b")])
    assert one == Unchecked("a", "b")


def test_a_server_behind_the_hosts_own_proxy_is_said_to_be_unchecked() -> None:
    [one] = check_pins(Server("bento.invalid", 22, (public(9),), 1, ("no-such-proxy", "%h")))
    assert isinstance(one, Unchecked)
    assert "no-such-proxy" in one.why
