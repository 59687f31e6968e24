"""`bento check` against a real server, real accounts and real keys: silent when all is well, and it sees each fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bento.demo.systems import System
from rig import make_ssh_key
from rig.desk import tree
from rig.world import Machine, World, said

Fault = Callable[["Place"], None]


class Place:
    """A fleet with a host whose server is this very machine, as the admin's root sees it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.web: Machine = world.add("web")
        # Below /tmp no chroot can be: so the server's folders are seen where its own sshd sees them.
        world.admin.run(["mkdir", "/run/sshd", "/run/rig", "/run/publish"], check=True)
        for source, target in (
            (world.sshd.publish, "/run/publish"),
            (world.sshd.folder, "/run/rig"),
            (world.sshd.folder / "sshd_config", "/etc/ssh/sshd_config"),
        ):
            world.admin.run(["mount", "--bind", str(source), target], check=True)
        text = self.settings.read_text().replace(str(world.sshd.publish), "/run/publish")
        self.settings.write_text(text)
        world.bento("secret", "add", self.web.name, "-", "--name", "token", stdin=b"sealed")
        world.bento("deploy")

    @property
    def settings(self) -> Path:
        return self.world.fleet / "bento.toml"

    @property
    def chroot(self) -> Path:
        return self.world.sshd.publish / self.web.name

    def check(self, *args: str) -> tuple[int, dict[str, Any]]:
        done = self.world.try_bento("check", "--json", *args)
        assert done.stderr == b"", done.stderr
        return done.returncode, json.loads(done.stdout)


def worst(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Severity and sentence of what isn't a note."""
    return [(one["severity"], one["message"]) for one in found["findings"] if one["severity"] != "note"]


@pytest.fixture
def place(world: World) -> Place:
    return Place(world)


def test_a_fleet_in_order_has_no_finding_and_nothing_is_changed_by_looking(place: Place) -> None:
    folders = [place.world.fleet, place.world.sshd.publish, place.world.folder / "signing"]
    before = [tree(folder) if folder.is_dir() else folder.read_bytes() for folder in folders]
    code, found = place.check()
    assert (code, worst(found)) == (0, [])
    assert found["hosts"] == [place.web.name]
    assert [one["what"] for one in found["unchecked"]] == [
        "whether the configurations evaluate",
        "whether a module from elsewhere sets boot.initrd.secrets",
    ]
    assert [tree(folder) if folder.is_dir() else folder.read_bytes() for folder in folders] == before


def sshd_line(old: str, new: str) -> Fault:
    def change(place: Place) -> None:
        config = place.world.sshd.folder / "sshd_config"
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new))

    return change


def mode(path: str, bits: int) -> Fault:
    return lambda place: (place.world.sshd.publish / path.replace("web", place.web.name)).chmod(bits)


def no_key(place: Place) -> None:
    place.world.sshd.remove_host(place.web.name)


def extra_key(place: Place) -> None:
    file = place.world.sshd.folder / "authorized" / place.web.name
    file.write_text(f"{file.read_text()}\n{place.world.sshd.host_key_line} x\n")


def second_key(place: Place) -> None:
    keys = (place.web.folder / "key", make_ssh_key(place.world.folder / "second").path)
    place.world.bento("host", "rekey", place.web.name, *(f"--key-file={key}.pub" for key in keys))


def another_server(place: Place) -> None:
    place.world.sshd.restart(new_host_key=True)


def another_signer(place: Place) -> None:
    key = make_ssh_key(place.world.folder / "other").path
    (place.world.fleet / "bento.local.toml").write_text(f'[signing]\nkeys = ["{key}"]\n')


def typo(place: Place) -> None:
    place.settings.write_text(place.settings.read_text() + "\n[bulid]\n")


def another_copy(place: Place) -> None:
    (place.world.fleet / "secrets" / place.web.name / "token.age").write_bytes(b"age-encryption.org/v1\n")


def no_build_users(place: Place) -> None:
    """As Debian's nix-bin alone leaves it: Nix's default group of build users isn't there."""
    env = place.world.admin.env
    env["NIX_CONFIG"] = env["NIX_CONFIG"].replace("build-users-group =", "build-users-group = no-such-builders")


# What is broken, and the error or warning that must be there.
FAULTS: dict[str, tuple[Fault, str, str]] = {
    "a chroot that its group may write to": (mode("web", 0o775), "error", "can be written to by others (mode 0775)"),
    "a publish folder that others may write to": (mode(".", 0o757), "error", "sshd refuses every chroot below it"),
    "a release folder that is the host's": (mode("web/release", 0o777), "error", "is not the publisher's alone"),
    "a reports folder that others may read": (mode("web/reports", 0o2775), "error", "mode 2775, not 2770"),
    "a reports folder without its group": (mode("web/reports", 0o770), "warning", "mode 0770, not 2770"),
    "no ForceCommand": (sshd_line("ForceCommand internal-sftp", ""), "error", "no ForceCommand, not internal-sftp"),
    "no ChrootDirectory": (sshd_line("ChrootDirectory /run/publish/%u", ""), "error", "no ChrootDirectory"),
    "another ChrootDirectory": (
        sshd_line("ChrootDirectory /run/publish/%u", "ChrootDirectory /srv/%u"),
        "error",
        "releases are published to /run/publish/%u",
    ),
    "forwarding": (sshd_line("DisableForwarding yes", ""), "warning", "disableforwarding no, not yes"),
    "passwords": (sshd_line("AuthenticationMethods publickey", ""), "warning", "passwordauthentication"),
    "no key of the host in its account": (no_key, "error", "none of its keys is in /run/rig/authorized/"),
    "somebody else's key in its account": (extra_key, "warning", "1 keys that bento.toml doesn't give this host"),
    "a second key that may not log in": (second_key, "warning", "can't log in with that one"),
    "another key of the server": (another_server, "error", "utils/trust.toml pins another: every host would turn away"),
    "another signing key": (another_signer, "error", "is not among the signers"),
    "no build users": (no_build_users, "error", "build users' group, no-such-builders, isn't there"),
    "a typo in bento.toml": (typo, "error", "unknown key 'bulid'"),
    "a sealed copy that isn't the lock's": (another_copy, "error", "isn't the file that secrets.lock names"),
}


@pytest.mark.parametrize(("fault", "severity", "said"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_seen(place: Place, fault: Fault, severity: str, said: str) -> None:
    fault(place)
    code, found = place.check()
    mine = [one for one in worst(found) if said in one[1]]
    assert mine, found
    assert {one[0] for one in mine} == {severity}
    assert code == (1 if any(one[0] == "error" for one in worst(found)) else 0)
    hints = [hint for one in found["findings"] if said in one["message"] for hint in one["hints"]]
    assert hints


def test_a_build_without_build_users_fails_with_the_hint_that_the_check_gives(place: Place) -> None:
    place.web.write(System("not built yet"))
    no_build_users(place)
    done = place.world.try_bento("build")
    assert done.returncode == 1, said(done)
    hints = [line for line in done.stderr.decode().splitlines() if line.startswith("hint: ")]
    _, found = place.check()
    (mine,) = [one for one in found["findings"] if "no-such-builders" in one["message"]]
    assert hints == [f"hint: {hint}" for hint in mine["hints"]]
