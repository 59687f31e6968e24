"""`bento init`: make a fleet folder, each file saying what may stand in it."""

import os
import shlex
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
import tomlkit

from bento.adapters.process import run
from bento.adapters.signatures import public_half
from bento.admin.discover import NOTHING, Found, find_hosts
from bento.admin.edit import as_written
from bento.admin.inventory import LOCAL, MAIN, TRUST
from bento.errors import EnvironmentFailed, InputError
from bento.models.targets import SftpPlace, parse_target
from bento.models.trust import parse_address, parse_fleet_name, parse_trust
from bento_secrets.durable import write_atomic
from bento_secrets.ssh_keys import SshPublicKey
from bento_secrets.store import SecretStore

SERVER_KEY = Path("/etc/ssh/ssh_host_ed25519_key.pub")

_BENTO_TOML = """\
# The admin's side of the fleet. It never leaves this folder: hosts know utils/trust.toml and their own folder only.
# What differs from admin to admin goes into bento.local.toml, whose keys win.

[publish]
to = {publish}     # a folder here that holds the hosts' chroots, or "sftp://user@server/folder"; a list: mirrors

[secrets]
admins = []                # age or ssh recipients that may open secrets too; empty: nobody but the host
# identities = ["~/.ssh/id_ed25519"]   # what opens them: better in bento.local.toml

[build]
jobs = 2                   # hosts built at once
mode = {mode}{mode_pad}# or "dry-build": deploy only evaluates, and each host builds for itself
args = []                  # Nix arguments for both sides, for example ["--fallback"]
local_args = []            # only here
remote_args = []           # only on the hosts

[defaults]                 # holds for every host; a host's own setting wins
{source}action = "switch"          # or "boot": take effect at the next boot
on_difference = "report"   # or "refuse", when a host builds another system than this machine did
evaluate = "host"          # or "server": a host too small to evaluate fetches the system that was built here
reboot = "never"           # or "when-needed": for a new kernel, or when nothing else leads back to the old system
# reboot_window = "02:00-05:00"   # only then, by the host's own clock
# reboot_notice = 5               # minutes that people who are logged in get
# reboot_kexec = true             # by kexec, past firmware and boot loader, where it can
# self_update = ["nixpkgs"]       # inputs of its flake that a host may update by itself while nothing new is published

# [server]                   # what `bento server apply` makes of the SFTP server (NixOS: nix/server.nix)
# publishers = ["ssh-ed25519 AAAA… admin"]   # keys that may publish there without being root

# A host, as `bento host add` writes it:
# [hosts.example]
# keys = ["ssh-ed25519 AAAA… root@example"]   # all may log in; secrets are sealed to the first
# tags = ["web"]
# attribute = "example"      # its nixosConfigurations name, if that isn't the host's own
# source = "../my-flake"     # its configuration's folder, if that isn't hosts/NAME: any folder
"""

_LOCAL_TOML = """\
# This admin's own settings, over bento.toml. Not in git.

[signing]
keys = [{key}]   # a private key, or a .pub file whose private half an ssh-agent or a token holds
"""

_TRUST_TOML = """\
# What every host knows of its fleet. A host runs and installs only what one of `signers` has signed for it, and talks
# only to a server that proves one of `host_keys`.
format = 1
fleet = "{fleet}"
signers = [{signer}]
revoked = []               # signers that count no more, even while they stand above

[[servers]]
address = {address}{address_note}
port = {port}
host_keys = [{server_key}]{key_note}
timeout = {timeout}               # seconds
"""

_EXAMPLE = """\
# An example: copy this folder to hosts/NAME, put the machine's own configuration here, and run
#   bento host add NAME --key-file NAME.pub
{ config, lib, pkgs, ... }:
{
  imports = [ ./hardware-configuration.nix ];
  networking.hostName = "example";
  system.stateVersion = "26.05";

  # Bento's agent, from wherever you have Bento (docs/nixos.md), with the link: ln -s ../../utils hosts/NAME/utils
  # imports = [ /path/to/bento/nix/agent.nix ];
  # services.bento = { enable = true; trustFile = ./utils/trust.toml; };

  # A secret that was added with `bento secret add example FILE --name db-password` lies here, outside the Nix store:
  # services.something.passwordFile = "/run/bento/secrets/db-password";
}
"""

GITIGNORE = f"/{LOCAL}\nresult\nresult-*\n.direnv/\n"


@dataclass(frozen=True)
class Answers:
    """What the person named; None means: find or make it.

    `source` is a flake's folder, as typed, whose hosts are to be the fleet's; `timeout` is in seconds.
    """

    fleet: str | None = None
    publish: str = "/home/chroot"
    address: str | None = None
    port: int = 22
    server_key: SshPublicKey | None = None
    signing_key: Path | None = None
    source: str | None = None
    timeout: int = 20
    dry_build: bool = False
    example: bool = True


@dataclass(frozen=True)
class Made:
    """`todo` are sentences on what the person has to fill in; `found` are the hosts of the source."""

    root: Path
    fleet: str
    signing_key: Path
    key_is_new: bool
    todo: tuple[str, ...]
    found: Found = NOTHING


def init(root: Path, answers: Answers) -> Made:
    """Make a fleet in `root`. Raises InputError where there is one already or a file is in the way.

    All that can be refused is, before anything is written: a new signing key too.
    """
    root = root.absolute()
    fleet = fleet_name(answers.fleet, root)
    check_place(root)
    if answers.address is not None:
        answers = replace(answers, address=_checked(answers.address))
    answers, server_key = _server(answers)
    found = NOTHING
    if answers.source is not None:
        found = find_hosts(Path(os.path.realpath(Path(answers.source).expanduser())), root)
    key, is_new = _signing_key(fleet, answers.signing_key)
    try:
        _write(root, fleet, answers, server_key, key, public_half(key))
    except BaseException as error:
        if is_new:  # nothing knows it yet
            for path in (key, key.with_name(key.name + ".pub")):
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise EnvironmentFailed(
                f"can't make the fleet in {root}: {error.strerror}",
                f"make it in a folder of yours: bento init ~/{fleet}",
            ) from None
        raise
    todo = []
    if answers.address is None:
        todo.append(f"{TRUST}: check `address`, by which hosts reach the server")
    if server_key is None:
        todo.append(f"{TRUST}: put the server's host key into `host_keys` (its /etc/ssh/ssh_host_ed25519_key.pub)")
    return Made(root, fleet, key, is_new, (*todo, *found.warnings), found)


def check_place(root: Path) -> None:
    """Raise InputError where no fleet can be made in `root`, an absolute path."""
    for name in (MAIN, LOCAL, TRUST, "secrets/secrets.toml"):
        if (root / name).exists():
            look = f"bento --dir {shlex.quote(str(root))} status"
            raise InputError(f"{root} is a fleet already: it has {name}", f"look at it: {look}")
    if (root / "flake.nix").exists():
        beside = shlex.quote(str(root.with_name(f"{root.name}-fleet")))
        raise InputError(
            f"{root} has a flake.nix: Nix would copy the whole folder, with secrets/, into its store",
            f"make the fleet beside it: bento init {shlex.quote(str(beside))} --source {shlex.quote(str(root))}",
        )


def _checked(address: str) -> str:
    try:
        return parse_address(address)
    except InputError as error:
        raise InputError(error.message, "give one such as bento.example.org or 192.0.2.1: --address HOST") from None


def _server(answers: Answers) -> tuple[Answers, SshPublicKey | None]:
    """Where the hosts' server is, and its key: the one that is published to, else this machine. Raises InputError."""
    target = parse_target(answers.publish)
    if not isinstance(target, SftpPlace):
        return answers, answers.server_key or _own_server_key()
    if answers.address is None:
        answers = replace(answers, address=target.address, port=target.port)
    return answers, answers.server_key


def fleet_name(named: str | None, root: Path) -> str:
    """The fleet's name: its folder's, if none is given. Raises InputError."""
    try:
        return parse_fleet_name(named or root.name)
    except InputError as error:
        if named:
            raise
        raise InputError(error.message, *error.hints, "the folder may be called otherwise: --fleet NAME") from None


def _own_server_key() -> SshPublicKey | None:
    """This machine's SSH host key: by default the publish folder is served from here."""
    try:
        return SshPublicKey.parse(SERVER_KEY.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, InputError):
        return None


def _signing_key(fleet: str, named: Path | None) -> tuple[Path, bool]:
    if named is not None:
        named = named.expanduser().absolute()
        if not named.is_file():
            raise InputError(
                f"the signing key {named} isn't there", f"make one: ssh-keygen -t ed25519 -f {shlex.quote(str(named))}"
            )
        return named, False
    key = platformdirs.user_config_path("bento") / f"{fleet}_signing_ed25519"
    if key.exists():
        return key, False
    try:
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EnvironmentFailed(
            f"can't make {key.parent}: {error.strerror}", "name a key that you have: bento init DIR --signing-key FILE"
        ) from None
    comment = f"signing key of the fleet {fleet}"
    done = run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
    if done.code != 0:
        raise EnvironmentFailed(
            f"can't make a signing key: {done.words()}",
            "make one yourself and name it: bento init DIR --signing-key FILE",
        )
    return key, True


def _write(
    root: Path, fleet: str, answers: Answers, server_key: SshPublicKey | None, key: Path, signer: SshPublicKey
) -> None:
    trust = _TRUST_TOML.format(
        fleet=fleet,
        signer=_quoted(f"{signer.line} {signer.comment}".strip()),
        address=_quoted(answers.address or socket.gethostname()),
        address_note="" if answers.address else "   # by which hosts reach the server: check it",
        port=answers.port,
        server_key=f'"{server_key.line}"' if server_key else "",
        key_note="" if server_key else "   # the line of the server's /etc/ssh/ssh_host_ed25519_key.pub",
        timeout=answers.timeout,
    )
    _check(trust, server_key)
    example = answers.example and answers.source is None
    for folder in ("hosts/example" if example else "hosts", "utils"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    SecretStore(root / "secrets").create()
    _write_new(root / TRUST, trust)
    if example:
        _write_new(root / "hosts/example/configuration.nix", _EXAMPLE)
    _write_new(root / ".gitignore", GITIGNORE)
    _write_new(root / LOCAL, _LOCAL_TOML.format(key=_quoted(_short(key))))
    # Last: with it the folder is a fleet.
    _write_new(root / MAIN, _settings(root, answers))


def _settings(root: Path, answers: Answers) -> str:
    mode = '"dry-build"' if answers.dry_build else '"build"'
    source = ""
    if answers.source is not None:
        folder = _quoted(as_written(answers.source, root))
        source = f"source = {folder}   # the flake that has the hosts; one that lies elsewhere has its own\n"
    return _BENTO_TOML.format(
        publish=_quoted(answers.publish), mode=mode, mode_pad=" " * (20 - len(mode)), source=source
    )


def _quoted(text: str) -> str:
    """A text as TOML writes it."""
    return tomlkit.string(text).as_string()


def _check(trust: str, server_key: SshPublicKey | None) -> None:
    """Refuse answers that would make a trust file which nothing can read; a missing server key is asked for later."""
    if server_key is not None:
        parse_trust(trust, TRUST)


def _write_new(path: Path, text: str) -> None:
    if not path.exists():
        write_atomic(path, text.encode(), 0o644)


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
