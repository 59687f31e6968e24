"""`bento check`: everything that can be known before a host suffers. It changes nothing, and opens no secret."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from bento.adapters.folder import PublishFolder
from bento.admin.check_fleet import check_git, check_roots, check_sealed, check_sources
from bento.admin.check_found import Finding, Found, Unchecked, error_of, guarded, merged
from bento.admin.check_keys import check_identities, check_pins, check_signing
from bento.admin.check_machine import PUBLISH_ROOM, STORE_ROOM, check_memory, check_nix, check_room
from bento.admin.check_server import check_server
from bento.admin.deploy import collect_secrets
from bento.admin.inventory import Fleet, Host, load_fleet, load_trust
from bento.admin.server import serves_here, wish_of
from bento.admin.targets import targets_of
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento.models.trust import Trust
from bento.names import HostName
from bento_secrets.check import check as check_copies

_NIX_STORE = Path("/nix/store")


@dataclass(frozen=True)
class Checked:
    """What was found about `hosts`, and what wasn't looked at; worst first."""

    hosts: tuple[HostName, ...]
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]

    def count(self, severity: str) -> int:
        """How many findings are of that severity."""
        return sum(one.severity == severity for one in self.findings)


def check(root: Path, choose: Callable[[Fleet], tuple[HostName, ...]], now: int) -> Checked:
    """Look at everything, for the hosts that `choose` takes of the fleet. `now` is UTC seconds.

    What a command would fail with is a finding here; InputError only comes from `choose`.
    """
    hosts: tuple[HostName, ...] = ()
    found: list[Found] = [*check_roots(root), *check_sealed(root), *check_git(root)]
    try:
        fleet = load_fleet(root)
    except InputError as error:
        found.append(error_of("fleet", error))
        found.append(Unchecked("all that follows from bento.toml", "it can't be read"))
    else:
        hosts = choose(fleet)
        found += _of_fleet(fleet, [fleet.hosts[name] for name in hosts], now)
    found += check_memory()
    together = list(merged(found))
    order = ("error", "warning", "note")
    findings = [one for one in together if isinstance(one, Finding)]
    return Checked(
        hosts,
        tuple(sorted(findings, key=lambda one: order.index(one.severity))),
        tuple(one for one in together if isinstance(one, Unchecked)),
    )


def _of_fleet(fleet: Fleet, hosts: Sequence[Host], now: int) -> Iterator[Found]:
    if not hosts:
        hint = "add one: bento host add NAME --key-file FILE"
        yield Finding("note", "fleet", "the fleet has no hosts", (hint,))
    yield from check_sources(fleet, hosts)
    yield from guarded("secrets", _secrets(fleet, hosts, now))
    yield from check_identities(fleet)
    try:
        trust = load_trust(fleet.root)
    except InputError as error:
        yield error_of("keys", error)
        yield Unchecked("signing keys and the server's host keys", "utils/trust.toml can't be read")
    else:
        yield from _trust(fleet, trust)
    yield from guarded("machine", check_nix(_kinds(hosts)))
    hint = "make room: nix-collect-garbage --delete-older-than 30d"
    yield from guarded("machine", check_room(_NIX_STORE, STORE_ROOM, "the Nix store", hint))
    yield from _published(fleet, hosts)
    if hosts:
        hint = "evaluate them: bento build dry-build"
        yield Unchecked("whether the configurations evaluate", "that can take minutes", (hint,))
        why = "only the fleet's own files were searched for it, as text"
        yield Unchecked("whether a module from elsewhere sets boot.initrd.secrets", why, (_evaluate(hosts[0], fleet),))


def _kinds(hosts: Sequence[Host]) -> frozenset[str]:
    """What the hosts' sources are, where they are anything."""
    files = {"flake": "flake.nix", "channel": "configuration.nix"}
    kinds = (next((kind for kind, file in files.items() if (host.source / file).is_file()), None) for host in hosts)
    return frozenset(kind for kind in kinds if kind is not None)


def _evaluate(host: Host, fleet: Fleet) -> str:
    """The command that tells one host's boot.initrd.secrets."""
    source = host.source.relative_to(fleet.root) if host.source.is_relative_to(fleet.root) else host.source
    if (host.source / "flake.nix").is_file():
        return f"nix eval 'path:{source}#nixosConfigurations.\"{host.attribute}\".config.boot.initrd.secrets'"
    config = f"-I nixos-config={source}/configuration.nix"
    return f"nix-instantiate --eval --strict '<nixpkgs/nixos>' -A config.boot.initrd.secrets {config}"


def _secrets(fleet: Fleet, hosts: Sequence[Host], now: int) -> Iterator[Found]:
    """The store's own check, and what a deploy would refuse besides."""
    chosen = {host.name for host in hosts}
    state, copies = fleet.store.survey()
    told: set[HostName] = set()
    for one in check_copies(state.declarations, state.lock, copies, fleet.members, fleet.admins, now):
        theirs = tuple(name for name in one.hosts if name in chosen)
        if theirs or not one.hosts:
            yield Finding("error" if one.breaks else "warning", "secrets", one.message, one.hints)
            told.update(theirs if one.breaks else ())
    _, failed, _ = collect_secrets(fleet, list(hosts), now)
    for name, error in failed.items():
        if name not in told:
            yield error_of("secrets", error, (name,))


def _trust(fleet: Fleet, trust: Trust) -> Iterator[Found]:
    yield from guarded("keys", check_signing(fleet, trust))
    for server in trust.servers:
        yield from guarded("server", check_pins(server))
    yield from guarded("server", _logins(fleet, trust))


def _logins(fleet: Fleet, trust: Trust) -> Iterator[Found]:
    """Whether this admin gets in where releases go by SFTP. Nothing is read or written there."""
    for target in targets_of(fleet, trust):
        if isinstance(target, PublishFolder):
            continue
        try:
            with target.opened():
                pass
        except EnvironmentFailed as error:
            yield Unchecked(f"whether releases can be published to {target.name}", error.message, error.hints)
        except BentoError as error:
            yield error_of("server", error)


def _published(fleet: Fleet, hosts: Sequence[Host]) -> Iterator[Found]:
    """The server's side, where it is this machine."""
    try:
        places = fleet.publish_to
    except BentoError as error:
        yield error_of("server", error)
        return
    here = [to for to in places if isinstance(to, Path)]
    for folder in here:
        yield from _publish_folder(folder, fleet, hosts)
    hint = "on that machine, as root, with the fleet there: bento check"
    what = "chroots, accounts and sshd's settings"
    if not here and serves_here(fleet):
        yield from _server(wish_of(fleet).folder, fleet, hosts)
        if len(places) > 1:
            yield Unchecked(f"{what} of the other servers", "they are other machines", (hint,))
        return
    for to in places:
        if not isinstance(to, Path):
            yield Unchecked(what, f"releases go to {to}, another machine", (hint,))


def _publish_folder(folder: Path, fleet: Fleet, hosts: Sequence[Host]) -> Iterator[Found]:
    if not folder.is_dir():
        hints = (f"make it: mkdir -p {quote(str(folder))}", "or name another in bento.toml: [publish] to")
        yield Finding("error", "server", f"the publish folder {folder} isn't there", hints)
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        hint = f"deploy as its owner: ls -ld {quote(str(folder))}"
        yield Finding("warning", "server", f"this user can't publish: he may not write to {folder}", (hint,))
    yield from _server(folder, fleet, hosts)


def _server(folder: Path, fleet: Fleet, hosts: Sequence[Host]) -> Iterator[Found]:
    yield from check_server(folder, hosts, len(fleet.hosts), fleet.file.server.publishers)
    yield from guarded(
        "machine", check_room(folder, PUBLISH_ROOM, "releases", f"see what is there: du -sh {quote(str(folder))}/*")
    )
