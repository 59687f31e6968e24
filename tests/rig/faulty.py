"""A lone host with two published releases, quick enough to be broken a thousand times.

The agent's run is real, and so are the signatures, the secrets, the tmpfs and every file. Stand-ins: Nix (the
configuration names the system that it "builds"), systemd, and the server, which is a folder: what a link does to a
transfer is another test's (test_sftp_cuts.py).
"""

import io
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from unit.samples import secret

from bento.adapters import nix, signatures
from bento.adapters.folder import PublishFolder
from bento.adapters.sftp import NotThere
from bento.admin.content import Content
from bento.admin.memory import Memory
from bento.admin.publish import Published
from bento.admin.shares import Shares
from bento.agent import fetch, link, recover, run, take
from bento.agent.host import Host
from bento.agent.install import flip, open_generation, stored_manifest
from bento.agent.install import link as make_links
from bento.core import journal as rules
from bento.errors import EnvironmentFailed
from bento.models.manifest import ConfigRef, Manifest, Settings, parse_manifest
from bento.models.report import Report, parse_report
from bento.models.signed import sha256, split
from bento.models.trust import NAMESPACE_RELEASE, NAMESPACE_REPORT, Trust, parse_trust
from bento.names import HostName, Serial, SystemPath
from bento_secrets.identities import load_ssh_identity
from bento_secrets.sealing import Plaintext, seal
from rig.inject import state
from rig.keys import make_ssh_key
from rig.lone import LoneHost
from rig.publishing import publish

NOW = 1_700_000_000
MARKER = f"plain-{secrets.token_hex(24)}"  # in each secret: wherever else it is seen, that is a leak
_NIX_BUILD = """\
#!/bin/sh
for one; do case $one in nixos-config=*) file=${{one#*=}} ;; esac; done
ln -sfn {folder}/systems/$(cat "$file") "$2"
"""
# The states that a fault is put into, and the functions that are one while they run.
_STATES: tuple[tuple[Any, str, str], ...] = (
    (fetch, "fetch", "fetch"),
    (run, "_keep", "fetch"),
    (take, "open_generation", "secrets"),
    (take, "_system", "build"),
    (take, "unpack", "unpack"),
    (take, "begin", "switch"),
    (take, "switch", "switch"),
    (take, "reachable_within", "confirm"),
    (take, "check_health", "confirm"),
    (take, "commit", "commit"),
    (take, "roll_back", "rollback"),
    (recover, "prepare_roll_back", "rollback"),
    (recover, "prepare_commit", "commit"),
    (recover, "reinstall", "secrets"),
    (take, "make_report", "report"),
    (recover, "make_report", "report"),
    (run, "deliver", "report"),
    (run, "_send", "report"),
    (take, "prune", "prune"),
)


class Folder:
    """What LoneHost needs of a server."""

    def __init__(self, folder: Path) -> None:
        self.publish = folder / "publish"
        self.publish.mkdir()
        self.key = make_ssh_key(folder / "signing")
        self.host_key_line = " ".join(self.key.line.split()[:2])
        self.address, self.port = "127.0.0.1", 22

    def add_host(self, name: str, _lines: list[str]) -> None:
        for part in ("release", "reports"):
            (self.publish / name / part).mkdir(parents=True)


class FolderSession:
    """The host's side of that server. Its errors are a server's: never an OSError."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, limit: int) -> bytes:
        data: list[bytes] = []
        self.stream(path, limit, data.append)
        return b"".join(data)

    def stream(self, path: str, limit: int, sink: Callable[[bytes], object]) -> None:
        try:
            data = (self._root / path).read_bytes()
        except FileNotFoundError:
            raise NotThere(f"no {path}") from None
        assert len(data) <= limit
        sink(data)

    def put(self, path: str, data: bytes) -> None:
        place = self._root / path
        try:
            place.with_suffix(".part").write_bytes(data)
            place.with_suffix(".part").replace(place)
        except OSError as error:
            raise EnvironmentFailed(f"the server doesn't take {path}: {error.strerror}") from None


class FaultyHost(LoneHost):
    """Release `old` is installed, `new` is published. `rewind` brings all of it back there.

    `same`: the new release changes the secret only.
    """

    def __init__(self, folder: Path, *, same: bool = False) -> None:
        self.server = Folder(folder)
        super().__init__(folder, "lone", self.server)  # of Sshd it uses these words only
        self.same = same
        self._script("bin/nix-build", _NIX_BUILD.format(folder=folder))
        self.confirm = 'commands = [{ run = ["true"], timeout = 20 }]'
        self.made: Host
        self.serials: dict[str, Serial] = {}

    @property
    def reports_folder(self) -> Path:
        """Where what it reports arrives."""
        return self.server.publish / self.name / "reports"

    def trust(self) -> Trust:
        """What it trusts."""
        return parse_trust((self.folder / "trust.toml").read_text(), "trust.toml")

    def publish(self, word: str, target: Path | None = None) -> Published:
        """Publish release `old` or `new`."""
        tar = self._packed(word)
        data, sealed = tar.read_bytes(), self._sealed(word)
        content = Content(
            host=HostName(self.name),
            config=ConfigRef(digest=sha256(data), size=len(data), kind="channel", attribute=None),
            system=None,
            secrets=(secret("token", digest=sha256(sealed), size=len(sealed)),),
            settings=Settings(),
            tar=tar,
            ciphertexts={sha256(sealed): sealed},
        )
        folder = PublishFolder(self.server.publish if target is None else target)
        memory = Memory(folder.root / ".publisher/memory")
        with folder.locked():
            return publish([folder], content, self.trust(), (self.server.key.path,), NOW, memory, Shares())

    def _packed(self, word: str) -> Path:
        """Packed once: a fault must not hit the test's own work."""
        tar = self.folder / f"{word}.tar"
        if not tar.exists():
            with tarfile.open(tar, "w") as out:
                for name, text in (("configuration.nix", "old" if self.same else word), ("more", "more\n")):
                    member = tarfile.TarInfo(name)
                    member.size = len(text)
                    out.addfile(member, io.BytesIO(text.encode()))
        return tar

    def _sealed(self, word: str) -> bytes:
        """Sealed once: else each publication would be another."""
        kept = self.folder / f"{word}.age"
        if not kept.exists():
            content = Plaintext(f"content {word} {MARKER}".encode())
            kept.write_bytes(seal(content, [load_ssh_identity(self.key.path).recipient]))
        return kept.read_bytes()

    def prepare(self) -> None:
        """Have the first release installed by a run of the agent, and the second published."""
        shutil.rmtree(self.server.publish / self.name)
        for place in ("current-system", "profile"):
            (self.folder / place).symlink_to(self.system("old"))
        (self.folder / "default").write_text(self.system("old") + "\n")
        self.made = self.host()
        self.serials["old"] = self.publish("old").serial
        shutil.copytree(self.server.publish, self.folder / "published-old")
        done = run.run(self.made)
        assert done.outcome == "succeeded", done
        shutil.copytree(self.made.state.root, self.folder / "state-old", symlinks=True)
        self.serials["new"] = self.publish("new").serial

    def rewind(self) -> Host:
        """As after `prepare`."""
        shutil.rmtree(self.made.state.root)
        shutil.copytree(self.folder / "state-old", self.made.state.root, symlinks=True)
        return self.start()

    def start(self) -> Host:
        """As after `prepare`, but for the state folder."""
        for place in ("current-system", "profile"):
            self.point(place, "old")
        (self.folder / "default").write_text(self.system("old") + "\n")
        for path in (*self.folder.glob("fault-*"), *self.reports_folder.iterdir(), *self.folder.glob("actions")):
            path.unlink()
        self.lose_memory()
        open_generation(self.made, stored_manifest(self.made, self.serials["old"]))
        flip(self.made, self.serials["old"])
        make_links(self.made, self.serials["old"])
        return self.made

    def point(self, place: str, word: str) -> None:
        """Have a link point to a system."""
        (self.folder / place).unlink(missing_ok=True)
        (self.folder / place).symlink_to(self.system(word))

    def lose_memory(self) -> None:
        """What a reboot does to the tmpfs."""
        for path in self.runtime.root.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def reboot(self) -> None:
        """Start the boot default, with its secrets as its activation asks for them."""
        self.lose_memory()
        self.point("current-system", Path(self.default()).name)
        recover.reinstall(self.made, self.made.running())

    # What is looked at afterwards.

    def word(self, serial: int | None) -> str:
        """The release of this serial."""
        return {made: word for word, made in self.serials.items()}[Serial(serial or 0)]

    def word_of(self, manifest: Manifest) -> str:
        """The release with this one's secret: a publication that was cut may have used up a serial."""
        return next(word for word in ("old", "new") if sha256(self._sealed(word)) == manifest.secrets[0].digest)

    def in_force(self) -> tuple[str, str, str, str]:
        """Running system, profile, boot default and live secret, in a word each."""
        running, profile = self.made.running() or "", self.made.profile() or ""
        return Path(running).name, Path(profile).name, Path(self.default()).name, self.content().decode().split()[1]

    def all_of(self, word: str) -> tuple[str, str, str, str]:
        """What `in_force` must be with a release."""
        system = "old" if self.same else word
        return system, system, system, word

    def check_boot(self) -> str:
        """What a reboot now would start is whole: the system with its own secret. That release's word."""
        journal, default = self.made.state.journal(), self.default()
        serial = rules.serial_for(journal, default, self.made.state.serials())
        assert serial is not None
        manifest = stored_manifest(self.made, serial)
        for one in manifest.secrets:
            assert sha256((self.made.state.objects / one.digest).read_bytes()) == one.digest
        word = self.word(serial)
        assert default == self.system("old" if self.same else word), (default, word)
        return word

    def reports(self) -> list[Report]:
        """What arrived, oldest first: signed by this host, and readable."""
        found = []
        for path in sorted(self.reports_folder.glob("*.report")):
            document = split(path.read_bytes(), "a report")
            signer = signatures.public_half(self.key.path)
            assert signatures.verified_here(document, (signer,), NAMESPACE_REPORT)
            found.append(parse_report(document.line))
        return found


def published(trust: Trust, folder: Path, name: str) -> Manifest:
    """The release that a reader sees: verified, and whole."""
    release = folder / name / "release"
    document = split((release / "manifest").read_bytes(), "the manifest")
    assert signatures.verified_here(document, trust.signers, NAMESPACE_RELEASE)
    manifest = parse_manifest(document.line)
    for digest in (manifest.config.digest, *(one.digest for one in manifest.secrets)):
        assert sha256((release / "objects" / digest).read_bytes()) == digest
    return manifest


@contextmanager
def breakable(host: FaultyHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With its stand-ins in place, its tmpfs mounted and its states written into traces."""

    @contextmanager
    def connected(_host: Host, _within: float | None = None) -> Iterator[FolderSession]:
        yield FolderSession(host.server.publish / host.name)

    monkeypatch.setattr(link, "connected", connected)
    monkeypatch.setattr(nix, "system_path", lambda path, _words: SystemPath(path))
    stack = ["poll"]
    for module, name, word in _STATES:
        monkeypatch.setattr(module, name, _marking(getattr(module, name), word, stack))
    with host.mounted(monkeypatch):
        host.prepare()
        yield


def _marking(function: Callable[..., Any], word: str, stack: list[str]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        stack.append(word)
        state(word)
        try:
            return function(*args, **kwargs)
        finally:
            stack.pop()
            state(stack[-1])

    return call
