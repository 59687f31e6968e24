"""Many hosts published by one deploy: written and signed at once, and each by itself old or new."""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from unit.samples import SYSTEM, digest, key_file, public

from bento.adapters import signatures
from bento.adapters.folder import PublishFolder
from bento.admin import at_once
from bento.admin.content import Content
from bento.admin.deploy import Deployed, Prepared, publish_prepared
from bento.admin.inventory import Fleet, load_fleet, load_trust
from bento.admin.progress import State
from bento.admin.standing import read_published
from bento.admin.targets import targets_of, writing
from bento.admin.workspace import Workspace
from bento.models.manifest import ConfigRef, Settings
from bento.models.signed import SignedDocument
from bento.names import HostName

NAMES = [HostName(f"host-{number}") for number in range(40)]


@pytest.fixture
def fleet(fleet_root: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_STATE_HOME", str(fleet_root.parent / "state"))
    (fleet_root.parent / "publish").mkdir()
    with (fleet_root / "bento.toml").open("a") as file:
        for number, name in enumerate(NAMES):
            file.write(f'[hosts.{name}]\nkeys = ["{public(100 + number).line}"]\n')
    return load_fleet(fleet_root)


def content(fleet: Fleet, host: HostName, text: str) -> Content:
    tar = fleet.root.parent / f"{digest(text)}.tar"
    tar.write_text(text)
    config = ConfigRef(digest=digest(text), size=len(text), kind="flake", attribute=host)
    return Content(host, config, SYSTEM, (), Settings(), tar, {})


def deploy(fleet: Fleet, texts: dict[HostName, str], said: list[tuple[str, str]] | None = None) -> Deployed:
    trust, workspace = load_trust(fleet.root), Workspace(fleet.root)
    prepared = Prepared({name: content(fleet, name, text) for name, text in texts.items()}, {}, 0, ())

    def say(name: HostName, word: str, state: State = "done") -> None:
        if said is not None and state != "working":
            said.append((name, word.partition(" ")[0]))

    with workspace.locked(), writing(targets_of(fleet, trust)) as reached:
        return publish_prepared(prepared, tuple(texts), fleet, trust, reached, workspace, lambda: 1_700_000_000, say)


def test_each_of_many_hosts_gets_its_own_and_is_named_in_the_order_asked_for(fleet: Fleet) -> None:
    texts = {name: f"text of {name}" for name in NAMES}
    said: list[tuple[str, str]] = []
    done = deploy(fleet, texts, said)
    assert list(done.published) == NAMES
    assert said == [(name, "published") for name in NAMES]
    for target in targets_of(fleet, load_trust(fleet.root)):
        for name in NAMES:
            found = read_published(target, name, load_trust(fleet.root))
            assert found is not None
            assert (found[1].host, found[1].config.digest) == (name, digest(texts[name]))
            assert target.read_object(name, digest(texts[name]), 100) == texts[name].encode()
    again = deploy(fleet, {**texts, NAMES[7]: "another"})
    assert [name for name, one in again.published.items() if one.changed is not None] == [NAMES[7]]


def test_a_host_that_can_t_be_written_is_named_and_harms_no_other(fleet: Fleet) -> None:
    bad = NAMES[3], NAMES[30]
    for name in bad:
        (fleet.root.parent / "publish" / name).write_text("in the way")
    done = deploy(fleet, {name: f"text of {name}" for name in NAMES})
    assert tuple(done.failed) == bad
    assert list(done.published) == [name for name in NAMES if name not in bad]


def test_a_signing_key_that_goes_away_meanwhile_is_each_host_s_failure_and_stops_nothing(fleet: Fleet) -> None:
    deploy(fleet, {name: f"text of {name}" for name in NAMES})
    for path in fleet.root.parent.glob("signing*"):
        path.unlink()
    done = deploy(fleet, {name: f"second text of {name}" for name in NAMES})
    assert list(done.failed) == NAMES
    assert all("signing" in error.message for error in done.failed.values())


def test_what_can_t_be_remembered_as_signed_is_not_published(fleet: Fleet) -> None:
    remembered = Workspace(fleet.root).memory().path
    remembered.mkdir(parents=True)
    done = deploy(fleet, {name: f"text of {name}" for name in NAMES})
    assert list(done.failed) == NAMES
    assert all(error.message.startswith(f"can't write {remembered}") for error in done.failed.values())
    assert not list((fleet.root.parent / "publish").glob("*/release/manifest"))


def test_what_is_published_but_can_t_be_remembered_so_is_said(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = Workspace(fleet.root).memory().path
    put_manifest = PublishFolder.put_manifest

    def and_fill(self: PublishFolder, host: HostName, raw: bytes) -> None:
        put_manifest(self, host, raw)
        remembered.rename(remembered.with_name("aside"))
        remembered.mkdir()

    monkeypatch.setattr(PublishFolder, "put_manifest", and_fill)
    done = deploy(fleet, {NAMES[0]: "text"})
    assert list(done.published) == NAMES[:1]
    (said,) = (one for one in done.warnings if str(remembered) in one)
    assert said.endswith("the next deploy can't tell whether a server has lost what was published now")


def test_hosts_of_one_tree_share_one_file_however_many_are_written_at_once(fleet: Fleet) -> None:
    deploy(fleet, dict.fromkeys(NAMES, "one tree"))
    objects = {
        (fleet.root.parent / "publish" / name / "release/objects" / digest("one tree")).stat().st_ino for name in NAMES
    }
    assert len(objects) == 1


def test_a_second_thread_writing_to_the_folder_is_what_a_folder_asks_for() -> None:
    """Else the tests above write one host after the other, and show nothing."""
    assert PublishFolder.writes_at_once > 1


def test_where_a_key_is_dropped_hosts_are_asked_together_whom_they_trust_and_else_nobody_is(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Sequence[HostName]] = []
    monkeypatch.setattr(PublishFolder, "hear", lambda _, hosts: heard.append(hosts))
    monkeypatch.setattr(at_once, "_SIGNED", 30)
    deploy(fleet, {name: f"text of {name}" for name in NAMES})
    deploy(fleet, {name: f"second text of {name}" for name in NAMES})
    assert heard == []
    key_file(fleet.root.parent / "other", 2)
    trust, settings = fleet.root / "utils/trust.toml", fleet.root / "bento.toml"
    trust.write_text(trust.read_text().replace("signers = [", f'signers = ["{public(2).line}", '))
    old = f'"{fleet.root.parent}/signing"'
    new = f'"{fleet.root.parent}/other"'
    text = settings.read_text()
    settings.write_text(text.replace(old, new))
    done = deploy(load_fleet(fleet.root), {name: f"third text of {name}" for name in NAMES})
    assert heard == [NAMES[:30], NAMES[30:]]
    assert list(done.failed) == NAMES, "none of them has ever said whom it trusts"
    heard.clear()
    settings.write_text(text.replace(old, f"{old}, {new}"))
    assert not deploy(load_fleet(fleet.root), dict.fromkeys(NAMES, "fourth")).failed
    assert heard == []


def test_many_are_signed_by_one_process_and_written_while_the_next_are_signed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    written = threading.Event()
    sign_all, put_manifest = signatures.sign_all, PublishFolder.put_manifest

    def signing(lines: Sequence[bytes], keys: Sequence[Path], namespace: str) -> tuple[SignedDocument, ...]:
        assert not runs or written.wait(20), "nothing was written while the next waited to be signed"
        runs.append(len(lines))
        return sign_all(lines, keys, namespace)

    def writing_it(self: PublishFolder, host: HostName, raw: bytes) -> None:
        put_manifest(self, host, raw)
        written.set()

    monkeypatch.setattr(signatures, "sign_all", signing)
    monkeypatch.setattr(PublishFolder, "put_manifest", writing_it)
    monkeypatch.setattr(at_once, "_SIGNED", 16)
    assert not deploy(fleet, {name: f"text of {name}" for name in NAMES}).failed
    assert runs == [16, 16, 8]


def test_a_key_that_can_t_sign_stops_only_those_that_need_it(fleet: Fleet) -> None:
    """Hosts that are published need the new key only; the others need the old one, too."""
    published = NAMES[::2]
    deploy(fleet, {name: f"text of {name}" for name in published})
    (key,) = fleet.signing_keys
    shut(key)
    another = key_file(key.with_name("another"), 9)
    settings = fleet.root / "bento.toml"
    settings.write_text(settings.read_text().replace(f'"{key}"', f'"{key}", "{another}"'))
    done = deploy(load_fleet(fleet.root), {name: f"text of {name}" for name in NAMES})
    assert list(done.published) == list(published)
    assert {one.changed for one in done.published.values()} == {("signatures",)}
    assert list(done.failed) == [name for name in NAMES if name not in published]
    assert all("can't sign with" in error.message for error in done.failed.values())


def shut(key: Path) -> None:
    """Give a key a passphrase; its public half stays beside it."""
    key.with_name(f"{key.name}.pub").write_text(f"{signatures.public_half(key).line}\n")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", key], check=True)
