"""Many hosts published by one deploy: written and signed at once, and each by itself old or new."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from unit.samples import SYSTEM, digest, key_file, public

from bento.adapters import signatures
from bento.adapters.folder import PublishFolder
from bento.admin.content import Content
from bento.admin.deploy import Deployed, Prepared, publish_prepared
from bento.admin.inventory import Fleet, load_fleet, load_trust
from bento.admin.progress import State
from bento.admin.signing import Signer
from bento.admin.standing import read_published
from bento.admin.targets import targets_of, writing
from bento.admin.workspace import Workspace
from bento.errors import InputError
from bento.models.manifest import ConfigRef, Settings
from bento.models.signed import SignedDocument
from bento.names import HostName

SPACE = "bento-release"
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


def test_hosts_of_one_tree_share_one_file_however_many_are_written_at_once(fleet: Fleet) -> None:
    deploy(fleet, dict.fromkeys(NAMES, "one tree"))
    objects = {
        (fleet.root.parent / "publish" / name / "release/objects" / digest("one tree")).stat().st_ino for name in NAMES
    }
    assert len(objects) == 1


def test_a_second_thread_writing_to_the_folder_is_what_a_folder_asks_for() -> None:
    """Else the tests above write one host after the other, and show nothing."""
    assert PublishFolder.writes_at_once > 1


def test_what_comes_while_a_signature_is_made_is_signed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = (key_file(tmp_path / "key", 1),)
    runs: list[int] = []
    busy, go = threading.Event(), threading.Event()
    real = signatures.sign_all

    def slow(lines: Sequence[bytes], by: Sequence[Path], namespace: str) -> tuple[SignedDocument, ...]:
        runs.append(len(lines))
        busy.set()
        assert go.wait(20)
        return real(lines, by, namespace)

    monkeypatch.setattr(signatures, "sign_all", slow)
    signer = Signer()
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(signer.sign, b"first\n", keys)
        assert busy.wait(20)
        rest = [pool.submit(signer.sign, b"line %d\n" % number, keys) for number in range(9)]
        while len(signer._waiting) < len(rest):
            threading.Event().wait(0.001)
        go.set()
        signed = [first.result(), *(one.result() for one in rest)]
    assert runs == [1, 9]
    assert [one.line for one in signed] == [b"first\n", *(b"line %d\n" % number for number in range(9))]
    assert all(signatures.verified_here(one, [public(1)], SPACE) for one in signed)


def test_a_key_that_can_t_sign_stops_only_those_who_asked_for_it(tmp_path: Path) -> None:
    good, gone = (key_file(tmp_path / "key", 1),), (tmp_path / "gone",)
    signer = Signer()
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(signer.sign, b"line %d\n" % number, gone if number % 3 == 0 else good) for number in range(24)
        ]
        for number, one in enumerate(asked):
            if number % 3 == 0:
                with pytest.raises(InputError, match="gone isn't there"):
                    one.result()
            else:
                assert one.result().line == b"line %d\n" % number
