"""`bento check`, the server: chroots, accounts and sshd's settings, compared with what they should be.

The comparisons are functions of what was read, so that whatever sets a server up can use them too.
"""

import grp
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from bento.adapters.accounts import Account, find_sshd, read_account, sshd_settings
from bento.admin.check_found import Finding, Found, Unchecked
from bento.admin.inventory import Host
from bento.core.server_wish import PUBLISHER
from bento.errors import EnvironmentFailed
from bento.names import HostName
from bento_secrets.ssh_keys import SshPublicKey

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_REPORTS_MODE = 0o2770
_KEY = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk)-[a-z0-9@.-]+) (AAAA[A-Za-z0-9+/=]+)")
_KEYS_FILE = 1024 * 1024  # bytes of an authorized_keys that are looked at
_APPLY = "on the server: sudo bento server apply --dry-run && sudo bento server apply"
_BLOCK = "or set it for the hosts in sshd_config (see The server in README.md), then: sshd -t && systemctl reload ssh"
# sshd -T prints these in lower case, with defaults filled in.
_WANTED = (
    ("disableforwarding", "yes", "warning", "hosts can use the server to reach other machines"),
    ("passwordauthentication", "no", "warning", "a guessed password would do to log in as a host"),
    ("kbdinteractiveauthentication", "no", "warning", "a guessed password would do to log in as a host"),
    ("pubkeyauthentication", "yes", "error", "no host can log in with its key"),
)
# Of whoever publishes: he sees the hosts' folders (what comes with them is `chrootdirectory`), and runs nothing.
_WANTED_OF_PUBLISHER = (
    ("forcecommand", "internal-sftp", "error"),
    ("authenticationmethods", "publickey", "warning"),
    ("disableforwarding", "yes", "warning"),
)


def check_server(
    folder: Path, hosts: Sequence[Host], fleet_size: int, publishers: Sequence[SshPublicKey] = ()
) -> Iterator[Found]:
    """The server's side on this machine, for these hosts. `folder` holds the chroots, `publishers` fill them."""
    yield from check_way(folder)
    accounts = {host.name: read_account(host.name) for host in hosts}
    for host in hosts:
        yield from check_chroot(folder, host.name, accounts[host.name], PUBLISHER if publishers else "root")
    there = [host for host in hosts if accounts[host.name] is not None]
    sshd = find_sshd()
    if sshd is None or os.geteuid() != 0:
        why = "there is no sshd on this machine" if sshd is None else "only root may ask sshd for them"
        hint = "on the machine that hosts log in to, as root, with the fleet there: bento check"
        yield Unchecked("sshd's settings and the hosts' keys in their accounts", why, (hint,))
        return
    for host in there:
        account = accounts[host.name]
        try:
            said = sshd_settings(sshd, host.name)
        except EnvironmentFailed as error:
            yield Unchecked("sshd's settings and the hosts' keys in their accounts", error.message, error.hints)
            return
        if account is not None:
            yield from compare_settings(said, host.name, folder / host.name, fleet_size)
            yield from compare_account(said, account, host)
    if publishers:
        yield from _check_publisher(sshd, folder, publishers)


def _check_publisher(sshd: str, folder: Path, publishers: Sequence[SshPublicKey]) -> Iterator[Found]:
    account = read_account(PUBLISHER)
    if account is None:
        yield Finding("error", "server", f"there is no account {PUBLISHER}: nobody can publish without root", (_APPLY,))
        return
    try:
        said = sshd_settings(sshd, PUBLISHER)
    except EnvironmentFailed as error:
        yield Unchecked(f"sshd's settings for {PUBLISHER}", error.message, error.hints)
        return
    yield from compare_publisher(said, folder)
    yield from compare_publishers_keys(said, account, publishers)


def compare_publisher(said: Mapping[str, str], folder: Path) -> Iterator[Found]:
    """What sshd has in force for the account that publishes, against what it must be."""
    wanted = said.get("chrootdirectory", "none")
    if wanted == "none" or not _same_folder(_expanded(wanted, PUBLISHER, ""), folder):
        finding = f"sshd has ChrootDirectory {wanted} for {PUBLISHER}, not {folder}: he could reach more than releases"
        yield Finding("error", "server", finding, (_APPLY,))
    for keyword, value, severity in _WANTED_OF_PUBLISHER:
        found = said.get(keyword, "none")
        if found.split(" ")[0] != value:
            finding = f"sshd has {keyword} {found} for {PUBLISHER}, not {value}: he could do more than publish"
            yield Finding("error" if severity == "error" else "warning", "server", finding, (_APPLY,))


def compare_publishers_keys(
    said: Mapping[str, str], account: Account, publishers: Sequence[SshPublicKey]
) -> Iterator[Found]:
    """Whether those that bento.toml names can publish, and nobody else."""
    place, found = _keys_of(said, account)
    wanted = {key.line.split()[1] for key in publishers}
    for key in publishers:
        if key.line.split()[1] not in found:
            finding = f"the publisher's key {key.fingerprint} is not in {place}: it can't publish"
            yield Finding("error", "server", finding, (_APPLY,))
    if others := len(found - wanted):
        finding = f"{place} has {others} keys that bento.toml doesn't name: whoever has them can withhold releases"
        hints = (_APPLY, "or name them in bento.toml: [server] publishers")
        yield Finding("warning", "server", finding, hints)


def check_way(folder: Path) -> Iterator[Found]:
    """The folders above the chroots: sshd refuses a chroot unless each is root's and nobody else may write to it."""
    for one in (folder, *folder.parents):
        if (wrong := _not_roots(one)) is not None:
            yield Finding(
                "error",
                "server",
                f"{one} {wrong}: sshd refuses every chroot below it",
                # What lies above may be shared by all, as /tmp is: that is no place for chroots, and not to be changed.
                (f"chown root:root {_word(one)} && chmod go-w {_word(one)}",)
                if one == folder
                else ("publish elsewhere, for example to /home/chroot: [publish] to in bento.toml",),
            )


def check_chroot(folder: Path, host: HostName, account: Account | None, publisher: str = "root") -> Iterator[Found]:
    """A host's account and its folders: HOST and release/ closed to it, reports/ open to it and to nobody else."""
    yield from _check_account(host, account)
    home, release, reports = folder / host, folder / host / "release", folder / host / "reports"
    if not home.exists():
        yield Finding("note", "server", "nothing is published yet", ("publish: bento deploy",), (host,))
        return
    if (wrong := _not_roots(home)) is not None:
        hint = f"chown root:root {_word(home)} && chmod 755 {_word(home)}"
        yield Finding("error", "server", f"{home} {wrong}: sshd refuses it as a chroot", (hint,), (host,))
    mode = _mode(release)
    owner = None if mode is None else release.lstat().st_uid
    if mode is not None and (not stat.S_ISDIR(mode) or mode & _OTHERS_WRITE or (account and owner == account.uid)):
        hint = f"chown {publisher}:{publisher} {_word(release)} && chmod 755 {_word(release)}"
        yield Finding("error", "server", f"{release} is not the publisher's alone", (hint,), (host,))
    yield from _check_readable(release, host, account)
    yield from _check_reports(reports, host, account)


def _check_readable(release: Path, host: HostName, account: Account | None) -> Iterator[Found]:
    """What a release is fetched from, which a deploy makes for all to read. The first that the host can't is told."""
    objects = release / "objects"
    try:
        files = [release / "manifest", *sorted(objects.iterdir())]
    except OSError:  # not there yet, or not this user's to see
        files = [release / "manifest"]
    wanted = [(one, 0o1) for one in (release.parent, release, objects)] + [(one, 0o4) for one in files]
    for path, bit in wanted:
        try:
            status = path.lstat()
        except OSError:
            continue
        if not status.st_mode & bit << _shift(status, account):
            said = f"it can't read {path} (mode {stat.S_IMODE(status.st_mode):04o})"
            hint = f"chmod a+rx {_word(release.parent)} && chmod -R a+rX {_word(release)}"
            yield Finding("error", "server", said, (hint,), (host,))
            return


def _shift(status: os.stat_result, account: Account | None) -> int:
    """Where in a mode stands what it lets an account do. Without one, what it lets everybody."""
    if account is not None and status.st_uid == account.uid:
        return 6
    return 3 if account is not None and _is_in(account, status.st_gid) else 0


def _is_in(account: Account, group: int) -> bool:
    try:
        return group == account.gid or grp.getgrgid(group).gr_name in account.groups
    except KeyError:
        return False


def _check_account(host: HostName, account: Account | None) -> Iterator[Found]:
    if account is None:
        said = "no account on this machine, so it can't log in here"
        yield Finding("warning", "server", said, (_APPLY,), (host,))
    elif account.uid == 0:
        said = "its account on this machine is root's: a host must be nobody here"
        yield Finding("error", "server", said, ("give the host another name in bento.toml",), (host,))


def _check_reports(reports: Path, host: HostName, account: Account | None) -> Iterator[Found]:
    mode = _mode(reports)
    if mode is None:
        if account is not None:
            yield Finding("note", "server", f"{reports} isn't there yet", ("make it: bento deploy",), (host,))
        return
    word = _word(reports)
    if not stat.S_ISDIR(mode):
        yield Finding("error", "server", f"{reports} is no folder", (f"rm {word} && bento deploy",), (host,))
        return
    if account is not None and reports.lstat().st_gid != account.gid:
        hint = f"chgrp {account.gid} {word} && chmod 2770 {word}"
        said = f"{reports} is not its account's group's: it can't report"
        yield Finding("error", "server", said, (hint,), (host,))
    if stat.S_IMODE(mode) != _REPORTS_MODE:
        others = stat.S_IMODE(mode) & stat.S_IRWXO
        said = f"{reports} has mode {stat.S_IMODE(mode):04o}, not {_REPORTS_MODE:04o}"
        hints = (f"chmod 2770 {word}",)
        yield Finding("error" if others else "warning", "server", said, hints, (host,))


def compare_settings(said: Mapping[str, str], host: HostName, chroot: Path, fleet_size: int) -> Iterator[Found]:
    """What sshd has in force for a host (`sshd_settings`), against what it must be."""
    if said.get("forcecommand", "none").split(" ")[0] != "internal-sftp":
        command = said.get("forcecommand", "none")
        said_ = "no ForceCommand" if command == "none" else f"the ForceCommand '{command}'"
        yield _of_sshd("error", f"sshd has {said_}, not internal-sftp: a host could run programs on the server", host)
    wanted = said.get("chrootdirectory", "none")
    if wanted == "none":
        yield _of_sshd("error", "sshd has no ChrootDirectory: a host could read other hosts' files", host)
    elif not _same_folder(_expanded(wanted, host, ""), chroot):
        pattern = f"{chroot.parent}/%u"
        yield _of_sshd("error", f"sshd has ChrootDirectory {wanted}, and releases are published to {pattern}", host)
    by_key_only = all("publickey" in one.split(",") for one in said.get("authenticationmethods", "any").split())
    for keyword, value, severity, why in _WANTED:
        if said.get(keyword, value) != value and not (by_key_only and value == "no"):
            finding = f"sshd has {keyword} {said[keyword]}, not {value}: {why}"
            yield _of_sshd("error" if severity == "error" else "warning", finding, host)
    yield from _compare_startups(said, fleet_size)


def _of_sshd(severity: str, message: str, host: HostName) -> Finding:
    return Finding("error" if severity == "error" else "warning", "server", message, (_APPLY, _BLOCK), (host,))


def _compare_startups(said: Mapping[str, str], fleet_size: int) -> Iterator[Found]:
    """Hosts that poll in the same second are dropped by chance from the first number on."""
    for keyword, name in (("maxstartups", "MaxStartups"), ("persourcemaxstartups", "PerSourceMaxStartups")):
        first = said.get(keyword, "none").split(":")[0]
        if first.isdecimal() and int(first) < fleet_size:
            yield Finding(
                "warning",
                "server",
                f"sshd has {name} {said[keyword]}, fewer than the {fleet_size} hosts that may come at once",
                (f"in sshd_config, outside of any Match: {name} {max(100, 2 * fleet_size)}",),
            )


def compare_account(said: Mapping[str, str], account: Account, host: Host) -> Iterator[Found]:
    """Whether a host gets in with its keys, and nobody else with others."""
    if account.locked and said.get("usepam") == "no":
        finding = "its account is locked, and sshd without PAM refuses locked accounts"
        yield Finding("error", "server", finding, (f"usermod --password '*' {host.name}",), (host.name,))
    for keyword in _shut_out_by(said, account):
        finding = f"sshd has {keyword} {' '.join(said[keyword.lower()].split())}: it can't log in"
        yield _of_sshd("error", finding, host.name)
    if said.get("authorizedkeyscommand", "none") != "none":
        why = f"sshd asks {said['authorizedkeyscommand']} for them"
        yield Unchecked("the hosts' keys in their accounts", why)
        return
    place, found = _keys_of(said, account)
    missing = [key for key in host.keys if key.line.split()[1] not in found]
    if len(missing) == len(host.keys):
        yield Finding(
            "error", "server", f"none of its keys is in {place}: it can't log in", _let_in(missing, place), (host.name,)
        )
    elif missing:
        shown = ", ".join(key.fingerprint for key in missing)
        finding = f"its key {shown} is not in {place}: it can't log in with that one"
        yield Finding("warning", "server", finding, _let_in(missing, place), (host.name,))
    others = len(found - {key.line.split()[1] for key in host.keys})
    if others:
        finding = (
            f"{place} has {others} keys that bento.toml doesn't give this host: whoever has them reads its release"
        )
        hints = (f"see its keys: bento host show {host.name}", f"take the others out of {place}")
        yield Finding("warning", "server", finding, hints, (host.name,))


def _shut_out_by(said: Mapping[str, str], account: Account) -> Iterator[str]:
    """The lists of sshd's that keep an account out: each is of patterns, a user's may go on with @HOST."""
    for kind, names in (("Users", {account.name}), ("Groups", account.groups)):
        for keyword in (f"Allow{kind}", f"Deny{kind}"):
            patterns = [
                one.partition("@")[0] if kind == "Users" else one for one in said.get(keyword.lower(), "").split()
            ]
            named = any(fnmatchcase(name, one) for name in names for one in patterns)
            if patterns and named is keyword.startswith("Deny"):
                yield keyword


def _keys_of(said: Mapping[str, str], account: Account) -> tuple[Path, frozenset[str]]:
    """The file that an account's keys go to, and those that sshd finds for it, as base64."""
    files = [_expanded(one, account.name, account.home) for one in said.get("authorizedkeysfile", "").split()]
    found = frozenset(blob for file in files for blob in _read_keys(Path(account.home) / file))
    return Path(account.home) / (files[0] if files else ".ssh/authorized_keys"), found


def _let_in(keys: Sequence[SshPublicKey], place: Path) -> tuple[str, ...]:
    return tuple(f"echo '{key.line}' >> {_word(place)}" for key in keys)


def _read_keys(file: Path) -> Iterable[str]:
    """The keys of an authorized_keys, as base64. A FIFO there must not hang the check."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as handle:
            text = handle.read(_KEYS_FILE).decode("utf-8", "replace")
    except OSError:
        return ()
    return [key[2] for line in text.splitlines() if not line.startswith("#") and (key := _KEY.search(line))]


def _expanded(pattern: str, user: str, home: str) -> str:
    values = {"%u": user, "%h": home, "%%": "%"}
    return re.sub(r"%[uh%]", lambda token: values[token[0]], pattern)


def _same_folder(one: str, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _not_roots(folder: Path) -> str | None:
    """What is wrong with a folder on the way to a chroot, as sshd sees it; nothing if it isn't there yet."""
    try:
        status = folder.stat()
    except OSError:
        return None
    if status.st_uid != 0:
        return "is not root's"
    if status.st_mode & _OTHERS_WRITE:
        return f"can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except OSError:
        return None


def _word(path: Path) -> str:
    return shlex.quote(str(path))
