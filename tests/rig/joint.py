"""A fleet whose hosts are all in one flake, on an admin's machine with real Nix and nothing else."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unit.samples import public

from bento.demo.systems import System, flake
from rig.root import PrivateRoot
from rig.world import PROGRAMS, said

HOSTS = ("a", "b", "c", "d", "e")


@dataclass
class Joint:
    """A fleet whose hosts are all in one flake, and a record of how often Nix was called."""

    admin: PrivateRoot
    fleet: Path
    programs: Path

    def settings(self, local_args: Sequence[str] = ()) -> None:
        """bento.toml, with Nix's arguments on this machine."""
        hosts = (
            f'[hosts.{host}]\nkeys = ["{public(number).line}"]\nsource = "hosts/all"\n'
            for number, host in enumerate(HOSTS)
        )
        build = f"[build]\njobs = 1\nlocal_args = {json.dumps(list(local_args))}\n"
        (self.fleet / "bento.toml").write_text(build + "".join(hosts))

    def write(self, broken: str | None = None, **systems: System) -> None:
        """The flake; what is `broken` is the system of c."""
        text = flake({host: systems.get(host, System(host)) for host in HOSTS})
        if broken is not None:
            whole = f'    nixosConfigurations."c" = host "c" {systems.get("c", System("c")).as_nix()};\n'
            assert whole in text
            wrong = f'    nixosConfigurations."c".config.system.build.toplevel = {broken};\n'
            text = text.replace(whole, wrong)
        (self.fleet / "hosts/all/flake.nix").write_text(text)

    def bento(self, *args: str, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run bento, which must exit with `code`."""
        path = f"{self.programs}:{self.admin.env['PATH']}"
        done = self.admin.run([PROGRAMS / "bento", *args], env={"PATH": path, **(env or {})}, cwd=self.fleet)
        assert done.returncode == code, said(done)
        return done

    def build(self, *args: str, code: int = 0) -> dict[str, str]:
        """`bento build`: the systems by host."""
        found: dict[str, str] = json.loads(self.bento("build", *args, "--json", code=code).stdout)["systems"]
        return found

    def asked(self) -> list[str]:
        """Every `nix eval` so far: the names of the hosts that it evaluated."""
        log = self.programs / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return ["".join(host for host in HOSTS if f'"{host}"' in line) for line in lines if " eval " in line]


def make_joint(admin: PrivateRoot, folder: Path) -> Joint:
    """One that builds with one job, so that what happens has one order."""
    made = Joint(admin, folder / "fleet", folder / "programs")
    (made.fleet / "hosts/all").mkdir(parents=True)
    made.settings()
    made.programs.mkdir()
    real = admin.text(["sh", "-c", "command -v nix"])
    nix = made.programs / "nix"
    nix.write_text(
        f"#!/bin/sh\nprintf '%s ' \"$@\" | tr '\\n' ' ' >>{made.programs}/log\n"
        f'echo >>{made.programs}/log\nexec {real} "$@"\n'
    )
    nix.chmod(0o755)
    made.write()
    return made
