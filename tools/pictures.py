#!/usr/bin/env python3
"""Draw docs/status.svg and docs/deploy.svg: what the commands show, for a fleet that is made up.

The rows and words come from the commands' own code; only the facts are invented. `--check` compares instead of writing.
"""

import re
import sys
import time
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bento.admin.inventory import Host
from bento.admin.status import HostStatus
from bento.cli.render import table
from bento.cli.status import _HEADS, _rows
from bento.core.host_state import HostState, State
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings
from bento.models.report import Outcome, Report, SecretReport
from bento.models.signed import sha256
from bento.names import HostName, SecretName, Serial, SystemPath
from bento_secrets.ssh_keys import SshPublicKey

_LETTERS = {"db": "4k", "router": "ly", "laptop": "8d", "office": "pz", "web": "cj"}  # how store paths begin
DOCS = Path(__file__).parents[1] / "docs"
NOW = int(time.time())
_KEY = SshPublicKey.parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOHz+U0YtjINc54dZiJNclfmEFifF7RXCFlNlTbuZBji")

# Text alone: no font is fetched from anywhere, nor anything else.
_FONT = re.compile(r"\s*@font-face \{.*?\}\n|\s*<!--.*?-->\n", re.DOTALL)


def system(letter: str, host: str) -> SystemPath:
    """A store path that begins with a letter of one's choice."""
    return SystemPath.parse(f"/nix/store/{letter}{'4q7hzvl2n0i9xdk5'[:15]}{letter * 16}-nixos-system-{host}")


def row(
    name: str, state: State, *, seen: int, outcome: Outcome = "succeeded", reason: str = "", secrets: int = 2
) -> HostStatus:
    """A host that was seen so many seconds ago; where it waits, it runs another system than what is published."""
    host = HostName(name)
    pending = state in ("rebuild pending", "rolled back", "reboot needed")
    new, old = (system(letter, name) for letter in _LETTERS[name])
    running = old if pending else new
    refs = tuple(
        SecretRef(
            name=SecretName.parse(f"app/{number}"),
            digest=sha256(str(number).encode()),
            size=1,
            recipient="",
            owner="root",
            group="root",
            mode="0400",
            path=None,
            restart=(),
            reload=(),
        )
        for number in range(secrets)
    )
    manifest = Manifest(
        fleet="acme",
        host=host,
        serial=Serial(NOW),
        created=NOW - 900,
        previous=None,
        config=ConfigRef(digest=sha256(b""), size=0, kind="flake", attribute=name),
        system=new,
        secrets=refs,
        settings=Settings(),
    )
    report = Report(
        fleet="acme",
        host=host,
        counter=1,
        time=NOW - seen,
        serial=None if state == "rebuild pending" else manifest.serial,
        digest=None,
        outcome=outcome,
        reason=reason,
        old_system=old,
        new_system=new,
        running=running,
        secrets=()
        if state in ("rebuild pending", "rolled back")
        else tuple(SecretReport(name=x.name, digest=x.digest, state="installed") for x in refs),
        log_tail="",
    )
    described = Host(host, (_KEY,), (), Path("hosts") / name, name, Settings())
    return HostStatus(described, manifest, HostState(state, report, running, NOW - seen), ())


def status() -> str:
    """`bento status`."""
    console = Console(record=True, width=132, file=StringIO(), highlight=False)
    console.print(Text("$ bento status", "bold"))
    console.print(
        table(
            _HEADS,
            _rows(
                (
                    row(
                        "db", "rolled back", seen=160, outcome="rolled-back", reason="units failed: postgresql.service"
                    ),
                    row("laptop", "rebuild pending", seen=3 * 86400, secrets=1),
                    row("office", "up to date", seen=70, secrets=3),
                    row(
                        "router",
                        "reboot needed",
                        seen=620,
                        outcome="reboot-needed",
                        reason="this change takes effect at the next boot",
                        secrets=1,
                    ),
                    row("web", "up to date", seen=110),
                )
            ),
        )
    )
    return svg(console, "status")


def deploy() -> str:
    """`bento deploy` after a change of one host and of one secret. The lines are its own (tests/transcripts)."""
    console = Console(record=True, width=132, file=StringIO(), highlight=False)
    for typed, answer in (
        (
            "printf hunter2 | bento secret add db - --name db/password --replace",
            ("sealed db/password for db", "next: bento deploy"),
        ),
        (
            "bento deploy",
            (
                "web: published 1795408276 (configuration)",
                "db: published 1795408276 (secrets)",
                "built 1, published 2, unchanged 1, failed 0",
            ),
        ),
    ):
        console.print(Text(f"$ {typed}", "bold"))
        for line in answer:
            console.print(Text(line))
    return svg(console, "deploy")


def svg(console: Console, name: str) -> str:
    """What a console has recorded, the same each time."""
    made = console.export_svg(title="", unique_id=f"bento-{name}")
    return "\n".join(line.rstrip() for line in _FONT.sub("\n", made).splitlines()).strip() + "\n"


def main() -> None:
    for name, text in (("status", status()), ("deploy", deploy())):
        path = DOCS / f"{name}.svg"
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{name}.svg isn't what the commands show: run `make pictures`")


main()
