"""`bento demo`: the whole cycle with the real commands, on two throw-away hosts, then a table of what was checked."""

import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from bento.adapters.signatures import allowed_signers
from bento.demo import attacks, checks
from bento.demo.checks import Check
from bento.demo.machine import HOME
from bento.demo.needs import find_programs
from bento.demo.screen import Screen
from bento.demo.stage import HOSTS, PUBLISH, Stage, set_stage, temporary_folder
from bento.demo.systems import System, write_configuration, write_flake
from bento.models.trust import NAMESPACE_RELEASE, parse_trust

_UNIT = "app.service"
_STOPS = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Plaintexts:
    """The secrets of this play, new each time so that a search for them means something."""

    token: bytes
    new_token: bytes
    shared: bytes

    @classmethod
    def make(cls) -> "Plaintexts":
        """Three that were never used before."""
        return cls(*(f"{word}-{secrets.token_hex(16)}".encode() for word in ("token", "token", "passphrase")))


def play(*, keep: bool) -> int:
    """Play it all. Returns 0 if every check holds, else 1. `keep` leaves the folder and prints where it is.

    Raises EnvironmentFailed where something is missing, before anything is made; WorkFailed where a command fails.
    """
    path = find_programs()
    began = time.monotonic()
    screen = Screen()
    with _stoppable():
        stack = ExitStack()
        try:
            folder = stack.enter_context(temporary_folder(keep=keep))
            if keep:
                stack.callback(screen.line, f"left there to look at: {folder}")
            code = _act(set_stage(stack, folder, path, screen))
        finally:
            with _undisturbed():
                stack.close()
    screen.line(f"{time.monotonic() - began:.0f} s; {'the folder is' if keep else 'nothing is'} left behind")
    return code


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP stop the play as Ctrl-C does: with everything tidied up."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _STOPS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not cut the tidying up short."""
    signals = (signal.SIGINT, *_STOPS)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _act(stage: Stage) -> int:
    plaintexts = Plaintexts.make()
    _introduce(stage)
    _make_fleet(stage)
    _add_secrets(stage, plaintexts)
    _first_release(stage)
    found = _replace_secret(stage, plaintexts)
    found += _deploy_again(stage)
    found += attacks.play(stage)
    _look(stage)
    found = [*_state(stage, plaintexts), *found, *checks.by_hand(stage)]
    found += checks.no_plaintext(stage, [plaintexts.token, plaintexts.new_token, plaintexts.shared])
    stage.screen.title("What was checked")
    return checks.report(found, stage.screen)


def _introduce(stage: Stage) -> None:
    stage.screen.say(
        "This plays Bento's whole cycle with the real commands: an admin, and two hosts that pull: alpha is a flake "
        "host, beta a channel host. Each has a /nix, a /run and a home of its own, gone in the end."
    )
    stage.screen.say(
        "Three things are stand-ins. The systems are NixOS-shaped: real Nix builds them, but without nixpkgs, and "
        "switching to one moves links and starts nothing. The SFTP server is an embedded one, on loopback, for the "
        "demo and the tests only. A recorder stands in for systemctl. The rest is real: Nix, SSH keys and signatures, "
        "sealing, and the RAM disks that plaintext lies on."
    )


def _make_fleet(stage: Stage) -> None:
    stage.screen.title("The admin makes a fleet of two hosts")
    server = ["--address", "127.0.0.1", "--port", str(stage.port), "--server-key", stage.server_key]
    stage.type(stage.admin, ["bento", "init", "acme", *server, "--publish-to", str(PUBLISH)])
    stage.screen.typed("admin", "cd acme")
    for name in HOSTS:
        stage.bento("host", "add", name, "--key-file", f"../{name}.pub", "--tag", "demo")
    write_flake(stage.fleet / "hosts/alpha", {"alpha": System(message="hello from alpha")})
    stage.screen.line("(writes hosts/alpha/flake.nix)")
    write_configuration(stage.fleet / "hosts/beta", System(message="hello from beta"))
    stage.screen.line("(writes hosts/beta/configuration.nix)")


def _add_secrets(stage: Stage, plaintexts: Plaintexts) -> None:
    stage.screen.title("Secrets are sealed to the hosts that need them, and to nobody else")
    typed = "(types it, then Ctrl-D)"
    alone = ["alpha", "-", "--name", "app/token", "--restart", _UNIT]
    stage.bento("secret", "add", *alone, stdin=plaintexts.token, then=typed)
    shared = ["@demo", "-", "--name", "backup", "--mode", "0440"]
    stage.bento("secret", "add", *shared, stdin=plaintexts.shared, then=typed)
    stage.bento("secret", "list")


def _first_release(stage: Stage) -> None:
    stage.screen.title("Deploy builds, signs and publishes; it opens no secret and reaches no host")
    stage.bento("deploy")
    stage.screen.say("(The embedded server lets hosts in without accounts.)")
    stage.bento("status")
    stage.screen.title("Each host pulls: verifies, opens its secrets into RAM, builds, switches, reports")
    stage.equip_hosts()
    stage.screen.line("(writes agent.toml and trust.toml on both, as their NixOS configuration would)")
    for name in HOSTS:
        stage.agent(name, "run")
    stage.bento("status")


def _replace_secret(stage: Stage, plaintexts: Plaintexts) -> list[Check]:
    stage.screen.title("A secret is replaced: installed without a rebuild, and the unit that uses it restarted")
    switches, asked = stage.switches("alpha"), stage.recorded("alpha")
    replace = ["alpha", "-", "--name", "app/token", "--replace"]
    stage.bento("secret", "add", *replace, stdin=plaintexts.new_token, then="(types the new one, then Ctrl-D)")
    deployed = stage.bento("deploy")
    ran = stage.agent("alpha", "run")
    new = stage.recorded("alpha")[len(asked) :]
    for line in new:
        stage.screen.say(f"(What the recorder in systemctl's place was asked: {line})")
    idle = stage.agent("beta", "run")
    return [
        Check("admin: the deploy after it built nothing", "built 0, published 1, unchanged 1" in deployed, wanted=True),
        Check("alpha: says that it was installed without a rebuild", "installed without a rebuild" in ran, wanted=True),
        Check("alpha: no system was switched for it", stage.switches("alpha"), switches),
        Check(f"alpha: systemctl was asked for just: try-restart -- {_UNIT}", new, (f"try-restart -- {_UNIT}",)),
        Check("beta: has nothing to do, and says so", "nothing new" in idle, wanted=True),
    ]


def _deploy_again(stage: Stage) -> list[Check]:
    stage.screen.title("With nothing changed, deploy builds and writes nothing")
    watched = (stage.publish, stage.admin.folder / "nix/store", stage.fleet)
    before = checks.snapshot(*watched)
    said = stage.bento("deploy")
    after = checks.snapshot(*watched)
    written = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return [
        Check("admin: a deploy with nothing changed says so", "built 0, published 0, unchanged 2" in said, wanted=True),
        Check("admin: it writes nothing in the publish folder, the Nix store and the fleet", written, []),
    ]


def _look(stage: Stage) -> None:
    stage.screen.title("The admin and the host each see where they are")
    stage.bento("status")
    stage.agent("alpha", "status")
    stage.screen.title("Anybody can verify a release by hand, with OpenSSH alone")
    trust = parse_trust((stage.fleet / "utils/trust.toml").read_text("utf-8"))
    (stage.admin.home / "allowed_signers").write_bytes(allowed_signers(trust.signers, NAMESPACE_RELEASE))
    stage.screen.line(f"(writes {HOME}/allowed_signers from the signers in utils/trust.toml)")
    stage.screen.typed("admin", f"cd {PUBLISH}/alpha/release")
    stage.shell(stage.admin, checks.VERIFY, PUBLISH / "alpha/release")


def _state(stage: Stage, plaintexts: Plaintexts) -> list[Check]:
    alpha, beta = stage.hosts["alpha"], stage.hosts["beta"]
    return [
        checks.secret(alpha, "app/token", plaintexts.new_token, "0400"),
        checks.secret(alpha, "backup", plaintexts.shared, "0440"),
        checks.secret(beta, "backup", plaintexts.shared, "0440"),
        checks.in_ram(alpha),
        checks.in_ram(beta),
        checks.system(stage, "alpha"),
        checks.system(stage, "beta"),
        *checks.up_to_date(stage),
    ]
