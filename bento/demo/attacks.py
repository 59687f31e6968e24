"""The demo's second act: the server falls to somebody else. Each attack is played for real, and its end checked."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bento.demo.checks import RUNTIME, Check
from bento.demo.machine import Machine
from bento.demo.stage import Stage

_REFUSED = 6  # what `bento-agent run` exits with


@dataclass(frozen=True)
class Attack:
    """`said` is part of the host's reason; `forge` makes the manifest that the attacker puts in place."""

    what: str
    said: str
    forge: Callable[[Stage], bytes]


def _edited(stage: Stage) -> bytes:
    """A newer release of his own making; a signature for it he has not."""
    raw = _manifest(stage, "alpha").read_bytes()
    line, _, armours = raw.partition(b"\n")
    fields = json.loads(line)
    fields["serial"] += 1
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n" + armours


def _older(stage: Stage) -> bytes:
    """The release before, which is still among the objects, with the admin's good signature."""
    published = _manifest(stage, "alpha")
    previous = json.loads(published.read_bytes().partition(b"\n")[0])["previous"]
    return (published.parent / "objects" / str(previous)).read_bytes()


def _of_another(stage: Stage) -> bytes:
    return _manifest(stage, "beta").read_bytes()


ATTACKS = (
    Attack("edits alpha's manifest", "not signed by one of this host's signers", _edited),
    Attack("puts an older release of alpha's back, with its good signature", "is older than", _older),
    Attack("gives alpha what was signed for beta", "the release is for the host 'beta'", _of_another),
)


def play(stage: Stage) -> list[Check]:
    """Play each attack on alpha, putting the manifest back after it; the last run finds all as it was."""
    stage.screen.title("Somebody takes over the server. He can put there what he likes, but he can't sign")
    manifest = _manifest(stage, "alpha")
    good = manifest.read_bytes()
    before = _belongings(stage.hosts["alpha"])
    checks: list[Check] = []
    for attack in ATTACKS:
        stage.screen.line(f"(the attacker {attack.what})")
        manifest.write_bytes(attack.forge(stage))
        answer = stage.agent("alpha", "run", code=_REFUSED)
        state = {row["host"]: row["state"] for row in stage.ask("status")}["alpha"]
        manifest.write_bytes(good)
        what = f"alpha: when somebody {attack.what}, it refuses, says why, keeps all it has; bento status shows it"
        seen = (attack.said in answer, _belongings(stage.hosts["alpha"]), state)
        checks.append(Check(what, seen, (True, before, "refused")))
    stage.screen.line("(the server is the admin's again, with what he had published)")
    stage.agent("alpha", "run")
    return checks


def _manifest(stage: Stage, host: str) -> Path:
    return stage.publish / host / "release/manifest"


def _belongings(machine: Machine) -> tuple[str | None, ...]:
    """What an attack must leave alone."""
    profile = machine.run(["readlink", "-e", "/nix/var/nix/profiles/system"]).out.decode().strip()
    boot = machine.path("/nix/var/boot/default").read_text("utf-8").strip()
    return machine.link("/run/current-system"), profile, boot, machine.link(f"{RUNTIME}/secrets")
