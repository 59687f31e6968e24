"""A host that moves the inputs of its flake on by itself, with real Nix, a real sshd, and inputs that are folders."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from bento.agent import self_update as self_updating
from bento.agent import take
from bento.agent.host import Host
from bento.agent.install import stored_manifest
from bento.agent.recover import recover
from bento.agent.self_update import _Found, self_update
from bento.agent.turn import AgentBusy
from bento.core.trust_rules import Floor
from bento.demo.systems import System, flake
from bento.models.signed import sha256
from bento.names import Serial
from rig.cuts import kill_at, stride
from rig.lone import LoneHost
from rig.releases import add, hook
from rig.world import World, said

STRIDE = stride(5)  # between two system calls that a run is cut at: see `make cuts`
_LATER = 25 * 3600  # seconds; more than the host waits between two tries


class Home:
    """One host that may update the input `a`, but not `b`; both decide what its system is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.web = world.add("web")
        self.input("a", 'v = "1";')
        self.input("b", 'v = "1";')
        self.write('message = "${a.v} ${b.v}";')
        self.lock()
        self.setting('self_update = ["a"]')
        add(world, self.web, "token", b"secret")

    def folder(self, name: str) -> Path:
        return self.world.folder / f"input-{name}"

    def input(self, name: str, outputs: str) -> None:
        """What an input gives from now on."""
        self.folder(name).mkdir(exist_ok=True)
        (self.folder(name) / "flake.nix").write_text(f"{{ outputs = {{ self }}: {{ {outputs} }}; }}\n")

    def write(self, fields: str) -> None:
        """The host's flake; `fields` are those of its system."""
        text = flake({self.web.name: System(message="FIELDS")}).replace('message = "FIELDS";', fields)
        urls = "".join(f'  inputs.{name}.url = "path:{self.folder(name)}";\n' for name in "ab")
        text = text.replace("{ self }", "{ self, a, b }").replace("{\n", f"{{\n{urls}", 1)
        (self.web.source / "flake.nix").write_text(text)

    def lock(self) -> None:
        self.world.admin.run(["nix", "flake", "lock", f"path:{self.web.source}"], check=True)

    def setting(self, line: str) -> None:
        """A line of the host's table in bento.toml."""
        toml = self.world.fleet / "bento.toml"
        head = f"[hosts.{self.web.name}]\n"
        toml.write_text(toml.read_text().replace(head, f"{head}{line}\n"))

    def deploy(self) -> None:
        self.world.bento("deploy")
        self.web.run()

    def next_day(self) -> None:
        """The last try was yesterday."""
        path = self.web.state / "self-update.json"
        record = json.loads(path.read_text())
        record["at"] -= _LATER
        path.write_text(json.dumps(record, separators=(",", ":"), sort_keys=True))

    @property
    def message(self) -> str:
        return self.web.root.text(["cat", "/run/current-system/etc/message"]).strip()

    def reports(self) -> list[str]:
        """The outcomes on the server, oldest first."""
        folder = self.world.sshd.publish / self.web.name / "reports"
        return [json.loads(path.read_bytes().split(b"\n")[0])["outcome"] for path in sorted(folder.glob("*.report"))]

    def whole(self) -> bool:
        """Running, profile and boot default are one, and the release's secret is live."""
        root = self.web.root
        return root.running() == root.profile() == root.boot_default() and self.web.secret("token") == b"secret"


@pytest.fixture
def home(world: World) -> Home:
    return Home(world)


def files(*folders: Path) -> Mapping[str, bytes]:
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def release(home: Home) -> Mapping[str, bytes]:
    """All that the admin signed: on the server, as the host keeps it, and in the fleet."""
    server = home.world.sshd.publish / home.web.name / "release"
    return files(server, home.web.state / "objects", home.web.state / "manifests", home.web.source)


def test_with_nothing_new_the_named_input_is_updated_reported_and_no_file_of_the_release_changes(home: Home) -> None:
    home.deploy()
    assert "nothing new" in home.web.run()  # nothing moved: not a word of it
    assert home.reports() == ["succeeded"]
    before, serial = release(home), home.web.facts()["committed"]
    home.input("a", 'v = "2";')
    home.input("b", 'v = "2";')
    assert "nothing new" in home.web.run()  # not twice a day
    home.next_day()

    assert "auto-updated: a sha256-" in home.web.run()

    assert home.message == "2 1"
    assert home.whole()
    assert release(home) == before
    report = home.world.report(home.web)
    assert (report["outcome"], report["serial"], report["running"]) == ("auto-updated", serial, home.web.root.running())
    assert report["old_system"] != report["new_system"] == report["running"]
    row = home.world.status(home.web)
    assert (row["state"], row["extra_runs"], row["secrets"]) == ("auto updated", 0, {"installed": 1, "expected": 1})
    facts = home.web.facts()
    assert (facts["committed"], facts["secrets"], facts["state"]) == (serial, serial, "up to date")
    assert list((home.web.state / "config").iterdir()) == []

    running = home.web.root.running()
    home.next_day()
    assert "nothing new" in home.web.run()
    assert home.reports() == ["succeeded", "auto-updated"]
    assert (home.web.root.running(), home.world.status(home.web)["state"]) == (running, "auto updated")
    row = json.loads(home.world.bento("diff", "--json"))["hosts"][home.web.name]
    assert (row["same"], row["system"], row["differences"]) == (True, running, [])


def test_a_new_configuration_wins_and_a_new_secret_keeps_what_the_host_has_made_of_the_same_one(home: Home) -> None:
    home.deploy()
    home.input("a", 'v = "2";')
    home.web.run()
    assert home.message == "2 1"
    updated = home.web.root.running()

    add(home.world, home.web, "another", b"x")
    home.deploy()
    assert (home.web.root.running(), home.web.secret("another")) == (updated, b"x")
    assert home.world.status(home.web)["state"] == "up to date"

    home.write('message = "${a.v} ${b.v} by the admin";')
    home.deploy()
    assert home.message == "1 1 by the admin"
    assert home.whole()
    assert list((home.web.state / "self-update").iterdir()) == []
    home.next_day()
    assert "auto-updated" in home.web.run()
    assert home.message == "2 1 by the admin"

    toml = home.world.fleet / "bento.toml"  # without the setting its own inputs come back, and stay
    toml.write_text(toml.read_text().replace('self_update = ["a"]\n', ""))
    home.deploy()
    assert home.message == "1 1 by the admin"
    home.next_day()
    assert "nothing new" in home.web.run()
    assert home.message == "1 1 by the admin"


def test_an_update_that_has_to_be_undone_is_reported_and_left_until_the_inputs_or_the_release_change(
    home: Home,
) -> None:
    home.write('message = a.v; behaviour = a.behaviour or "ok";')
    home.deploy()
    running, serial = home.web.root.running(), home.web.facts()["committed"]
    home.input("a", 'v = "2"; behaviour = "fail-after";')

    assert "updating a: the switch ended with exit 2" in home.web.run(5)

    assert (home.web.root.running(), home.message) == (running, "1")
    assert home.whole()
    assert (home.web.facts()["committed"], home.web.facts()["state"]) == (serial, "up to date")
    assert home.world.status(home.web)["state"] == "rolled back"
    switches = home.web.root.switches()
    home.next_day()
    assert "it is left until they move again" in home.web.run()
    assert (home.web.root.switches(), home.reports()) == (switches, ["succeeded", "rolled-back"])

    add(home.world, home.web, "another", b"x")  # a new release may be what was missing
    home.deploy()
    home.next_day()
    home.web.run(5)
    home.input("a", 'v = "3";')
    home.next_day()
    home.web.run()
    assert (home.message, home.whole()) == ("3", True)
    assert home.world.status(home.web)["state"] == "auto updated"


def test_an_input_that_is_gone_is_reported_and_that_it_is_there_again_too(home: Home) -> None:
    home.deploy()
    (home.folder("a") / "flake.nix").unlink()
    assert "updating a: the update failed" in home.web.run(1)
    assert home.world.status(home.web)["state"] == "failing"
    home.input("a", 'v = "1";')
    home.next_day()
    assert "there is nothing to update any more" in home.web.run()
    assert home.world.status(home.web)["state"] == "up to date"
    home.next_day()
    assert "nothing new" in home.web.run()
    assert home.reports() == ["succeeded", "failed", "succeeded"]


def test_a_person_can_have_an_update_tried_again_or_wait(home: Home) -> None:
    home.write('message = a.v; behaviour = a.behaviour or "ok";')
    home.deploy()
    home.input("a", 'v = "2"; behaviour = "units-failed";')
    home.web.agent("suspend", "--for", "1d")
    assert "nothing new" in home.web.run()
    home.web.agent("resume")
    assert "updating a" in home.web.run(4)
    assert home.world.status(home.web)["state"] == "degraded"
    home.input("a", 'v = "3"; behaviour = "fail-after";')
    home.next_day()
    home.web.run(5)
    assert "will be looked for" in said(home.web.agent("retry"))
    home.web.run(5)
    assert home.reports()[-2:] == ["rolled-back", "rolled-back"]


def test_a_run_that_is_killed_in_the_middle_of_the_switch_is_undone_and_reported(home: Home) -> None:
    home.write('message = a.v; behaviour = a.behaviour or "ok";')
    home.deploy()
    running, floor = home.web.root.running(), (home.web.state / "floor.json").read_bytes()
    home.input("a", 'v = "2"; behaviour = "hook";')
    hook(home.web, f"kill -9 $(head -n1 {home.web.state}/lock)", "install")

    home.web.run(-9)
    deadline = time.monotonic() + 120
    while home.message != "2" and time.monotonic() < deadline:  # what it had started goes on without it
        time.sleep(0.02)

    home.web.run(5)
    assert (home.web.root.running(), home.message, home.whole()) == (running, "1", True)
    assert (home.web.state / "floor.json").read_bytes() == floor
    assert home.reports() == ["succeeded", "rolled-back"]
    assert "nothing new" in home.web.run()
    home.next_day()
    assert "it is left" in home.web.run()


# Cut at each system call: a host in this process, whose inputs have something new.


def updatable(lone: LoneHost) -> Host:
    """With its first release installed, which lets it update an input; the second never came."""
    lone.settings = {"self_update": ("a",)}
    lone.config = {"kind": "flake", "attribute": "web"}
    host = lone.fresh()
    (host.state.manifests / "2").unlink()
    line = stored_manifest(host, Serial(1)).line
    host.state.write_floor(Floor(Serial(1), sha256(line), "finished"))
    return host


def found(lone: LoneHost) -> _Found:
    return _Found("build", lone.system("new"), b"held", b"moved")


def outcomes(host: Host) -> list[str]:
    return [json.loads(path.read_bytes().split(b"\n")[0])["outcome"] for path in host.state.spooled()]


@pytest.mark.parametrize("way", ["forward", "back"])
def test_an_update_cut_anywhere_leaves_one_whole_system_the_release_and_an_honest_report(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(self_updating, "_look", lambda *_: found(lone))
    number, recovered = 1 - STRIDE, []
    while True:
        number += STRIDE
        host = updatable(lone)
        if way == "back":
            lone.fault("new", "test", "exit 2", when="after")
        floor = host.state.floor()
        if not kill_at(number, lambda: self_update(lone.host())):
            break
        journal = host.state.journal()
        if journal.phase != "idle":
            recovered.append(recover(host, journal).outcome)
        assert host.state.journal().phase == "idle"
        ended = "new" if host.running() == lone.system("new") else "old"
        assert way == "forward" or ended == "old"
        assert host.running() == host.profile() == lone.default() == lone.system(ended)
        assert lone.content() == b"content 1"
        assert (host.state.floor(), host.state.journal().committed.serial) == (floor, 1)
        tried = host.state.tried()
        switched = lone.actions() != []
        if switched:
            assert tried is not None
            assert tried.switched == sha256(b"moved")
            assert host.state.lock_of(lone.system("new")) == b"moved"
        if journal.phase != "idle":
            assert outcomes(host)[-1] == {"old": "rolled-back", "new": "auto-updated"}[ended]
    assert outcomes(host) == ["auto-updated" if way == "forward" else "rolled-back"]
    assert number > 40
    assert set(recovered) == ({"rolled-back", "auto-updated"} if way == "forward" else {"rolled-back"})


@pytest.mark.parametrize("trouble", ["busy", "away", "beside"])
def test_an_update_that_was_not_to_blame_is_tried_again(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(self_updating, "_look", lambda *_: found(lone))
    host = updatable(lone)
    if trouble == "busy":
        (lone.folder / "busy").touch()
        with pytest.raises(AgentBusy):
            self_update(host)
        assert host.state.tried() is None
        assert outcomes(host) == []
    elif trouble == "away":
        monkeypatch.setattr(take, "PROBE_AGAIN", 0.0)
        monkeypatch.setattr(take, "reachable_within", lambda *_: False)
        taken = self_update(host)
        assert taken is not None
        assert taken.outcome == "unconfirmed"
        tried = host.state.tried()
        assert tried is not None
        assert (tried.switched, tried.failed) == (None, True)
    else:
        (lone.folder / "current-system").unlink()
        (lone.folder / "current-system").symlink_to(lone.system("new"))  # somebody tries something there
        assert self_update(host) is None
        assert host.state.tried() is None
    assert (host.profile(), lone.content()) == (lone.system("old"), b"content 1")
