"""Promise 6: a reader sees the old release or the new one, never a mixture; at length, over real sshd.

The pulls are the agent's own: poll, verify, trust rules, fetch. What follows them on a host has its own tests.
"""

import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from bento.adapters.folder import PublishFolder
from bento.adapters.sftp import NotThere, Session
from bento.admin.content import Content
from bento.admin.history import KEEP_RELEASES, KEEP_SECONDS
from bento.admin.memory import Memory
from bento.admin.shares import Shares
from bento.agent import run as agent_run
from bento.agent.host import Host, open_host
from bento.agent.link import connected
from bento.errors import BentoError, EnvironmentFailed
from bento.models.agent_settings import parse_agent_settings
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings
from bento.models.signed import sha256
from bento.models.trust import Trust, parse_trust
from bento.names import Digest, HostName, SecretName, SystemPath
from rig.cuts import EVERY
from rig.publishing import publish
from rig.world import Machine, World

PULLS, SERIALS, OVERLAPS = (200, 20, 50) if EVERY else (50, 5, 12)
LINES, NAIVE_LINES = 20_000, 5_000  # each with its number: long enough for a reader to come in the middle
SYSTEM = SystemPath.parse("/nix/store/" + "a" * 32 + "-nixos-system-web")


def text_of(number: int, lines: int = LINES) -> bytes:
    """A configuration's whole text, which says its number all over."""
    return f"configuration {number:06}\n".encode() * lines


def tar_of(number: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("configuration.nix")
        member.size = len(text_of(number))
        tar.addfile(member, io.BytesIO(text_of(number)))
    return out.getvalue()


def numbers_in(config: bytes, secret: bytes) -> set[bytes]:
    """Which numbers a host holds, of its configuration and its secret: one, unless they are mixed."""
    return {line.rpartition(b" ")[2] for line in config.splitlines()} | {secret.strip()}


@dataclass
class Publisher:
    """Publishes number after number for one host: each a configuration and a secret that say the same."""

    folder: PublishFolder
    host: HostName
    trust: Trust
    key: Path
    work: Path
    clock: Iterator[int] = field(default_factory=lambda: count(int(time.time()), 3600))  # old objects do get collected
    number: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)

    def once(self) -> None:
        self.number += 1
        data, sealed = tar_of(self.number), f"{self.number:06}".encode()
        tar = self.work / f"{self.number}.tar"
        tar.write_bytes(data)
        content = Content(
            host=self.host,
            config=ConfigRef(digest=sha256(data), size=len(data), kind="channel", attribute=None),
            system=SYSTEM,
            secrets=(_secret(sealed),),
            settings=Settings(),
            tar=tar,
            ciphertexts={sha256(sealed): sealed},
        )
        with self.folder.locked():
            began = time.monotonic()
            memory = Memory(self.work / "memory")
            publish([self.folder], content, self.trust, (self.key,), next(self.clock), memory, Shares())
            self.spans.append((began, time.monotonic()))
        tar.unlink()


def _secret(sealed: bytes) -> SecretRef:
    return SecretRef(
        name=SecretName.parse("number"),
        digest=sha256(sealed),
        size=len(sealed),
        recipient="age17044m9wgakla6pzftf4srtl3h5mcsr85jysgt5fg23zpnta8sfdqhzn452",
        owner="root",
        group="root",
        mode="0400",
        path=None,
        restart=(),
        reload=(),
    )


@pytest.fixture
def machine(world: World) -> Machine:
    return world.add("alpha", kind="channel")


@pytest.fixture
def publisher(world: World, machine: Machine, tmp_path: Path) -> Publisher:
    trust = parse_trust((world.fleet / "utils/trust.toml").read_text(), "trust.toml")
    folder = PublishFolder(world.sshd.publish)
    work = tmp_path / "work"
    work.mkdir()
    made = Publisher(folder, HostName(machine.name), trust, world.folder / "signing", work)
    made.once()
    return made


def puller(machine: Machine, state: Path) -> Host:
    """The agent of the host, with a state of its own: nothing fetched yet, nothing seen."""
    settings = machine.config.read_text().replace(f'state = "{machine.state}"', f'state = "{state}"')
    return open_host(parse_agent_settings(settings, "agent.toml"), lambda: int(time.time()), lambda _line: None)


def pull(host: Host) -> Manifest:
    """One pull by the agent's own code. Raises EnvironmentFailed where the release went while it was being fetched."""
    polled = agent_run._poll(host, None)
    assert isinstance(polled, tuple), polled
    return polled[0]


def held(host: Host, manifest: Manifest) -> set[bytes]:
    """What a pulled release says of itself."""

    def read(digest: Digest) -> bytes:
        return (host.state.objects / digest).read_bytes()

    with tarfile.open(fileobj=io.BytesIO(read(manifest.config.digest))) as tar:
        member = tar.extractfile("configuration.nix")
        assert member is not None
        return numbers_in(member.read(), read(manifest.secrets[0].digest))


@contextmanager
def in_a_loop(work: Callable[[], object]) -> Iterator[None]:
    """Do `work` again and again on a thread while the block runs; its error is the block's."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            work()
            stop.wait(0.02)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(loop)
        try:
            yield
        finally:
            stop.set()
            running.result()


def overlapping(pulls: list[tuple[float, float]], publishes: list[tuple[float, float]]) -> int:
    return sum(any(began < end and start < ended for start, end in publishes) for began, ended in pulls)


def naive_publish(folder: Path, number: int) -> None:
    """What a copy of folders does: file after file, each in its place."""
    for name, data in (("config", text_of(number, NAIVE_LINES)), ("secret", f"{number:06}".encode())):
        with (folder / name).open("wb") as file:
            for at in range(0, len(data), 65536):
                file.write(data[at : at + 65536])
                file.flush()


def naive_pull(host: Host) -> bool:
    """Whether a reader of the copied folder gets a mixture."""
    try:
        with connected(host) as session:
            copied = session.read("naive/config", 10**6), session.read("naive/secret", 100)
    except BentoError:
        return False  # a file that shrinks while it is read: broken, but no mixture
    return len(numbers_in(*copied)) != 1


def test_no_pull_is_a_mixture_while_releases_come_and_go(
    publisher: Publisher, machine: Machine, tmp_path: Path
) -> None:
    """The control, pulled from a folder that is copied beside it in the same moments, does mix."""
    chroot = publisher.folder.root / machine.name
    naive = chroot / "naive"
    naive.mkdir()
    naive_publish(naive, publisher.number)
    spans: list[tuple[float, float]] = []
    seen: list[set[bytes]] = []
    serials: set[int] = set()
    mixed = 0

    def both() -> None:
        publisher.once()
        naive_publish(naive, publisher.number)

    with in_a_loop(both):
        for number in range(PULLS):
            host = puller(machine, tmp_path / f"state-{number % 2}-{number}")
            began = time.monotonic()
            try:
                manifest = pull(host)
            except EnvironmentFailed as error:
                if "isn't whole on the server" not in error.message:
                    raise
                continue  # a busy machine: it took so long that its release was collected, and says so
            spans.append((began, time.monotonic()))
            serials.add(manifest.serial)
            seen.append(held(host, manifest))
            mixed += naive_pull(host)
        for number in range(PULLS, 10 * PULLS):  # the control takes its luck
            if mixed:
                break
            mixed += naive_pull(puller(machine, tmp_path / f"state-{number}"))
    wrong = [numbers for numbers in seen if len(numbers) != 1]
    overlaps = overlapping(spans, publisher.spans)
    figures = f"{PULLS} pulls, {len(serials)} serials, {overlaps} overlaps, {len(wrong)} mixed; the copy: {mixed} mixed"
    print(figures)  # noqa: T201
    assert wrong == []
    assert len(seen) > PULLS / 2
    assert len(serials) >= SERIALS
    assert overlaps >= OVERLAPS
    assert mixed > 0, "the control saw no mixture, so the test above shows nothing"


def test_a_release_collected_in_mid_pull_is_fetched_anew_and_whole(
    publisher: Publisher, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the agent's two reads, so many releases follow, a day apart each, that the one it reads is collected."""
    publisher.clock = count(int(time.time()), KEEP_SECONDS + 1)
    host = puller(machine, tmp_path / "state")
    fetch_one, moments = Session.stream, iter([True])

    def late(self: Session, path: str, limit: int, sink: Callable[[bytes], object]) -> None:
        if path.startswith("release/objects/") and next(moments, False):
            for _ in range(KEEP_RELEASES + 1):
                publisher.once()
        fetch_one(self, path, limit, sink)

    monkeypatch.setattr(Session, "stream", late)
    with pytest.raises(EnvironmentFailed, match="isn't whole on the server") as caught:
        pull(host)
    assert isinstance(caught.value.__context__, NotThere)
    manifest = pull(host)
    assert held(host, manifest) == {f"{publisher.number:06}".encode()}
