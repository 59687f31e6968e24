"""Keys, releases and reports as the unit tests use them, and what builds them."""

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import settings
from hypothesis import strategies as st

from bento.core.journal import Journal, Point
from bento.core.trust_rules import Floor
from bento.errors import InputError
from bento.models.manifest import ConfigRef, Manifest, SecretRef, Settings
from bento.models.report import Report
from bento.models.signed import sha256
from bento.names import Digest, HostName, SecretName, Serial, SystemPath
from bento_secrets.ssh_keys import SshPublicKey

quick = settings(deadline=None, max_examples=60)

FLEET = "acme"
WEB = HostName("web")
ESC = "\x1b[31m"
SYSTEM = SystemPath.parse("/nix/store/" + "a" * 32 + "-nixos-system-web")
OTHER_SYSTEM = SystemPath.parse("/nix/store/" + "b" * 32 + "-nixos-system-web")


def private(number: int) -> Ed25519PrivateKey:
    """A throw-away key, the same for the same number."""
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def public(number: int) -> SshPublicKey:
    """Its public half."""
    return SshPublicKey.parse(
        private(number).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    )


def key_file(path: Path, number: int, *, pub: bool = False) -> Path:
    """Its private half in OpenSSH's format; with `pub` also the file beside it."""
    path.write_bytes(private(number).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    if pub:
        path.with_name(path.name + ".pub").write_text(f"{public(number).line} key{number}\n")
    return path


def complaint_of(function: Callable[..., object], *args: object) -> str | None:
    """What `function` refuses its arguments with; None if it takes them. Anything but an InputError goes through."""
    try:
        function(*args)
    except InputError as error:
        return error.message
    return None


def digest(text: str) -> Digest:
    return sha256(text.encode())


def secret(name: str = "db", **changes: Any) -> SecretRef:
    fields: dict[str, Any] = {
        "name": name,
        "digest": digest(name),
        "size": 200,
        "recipient": "age1x",
        "owner": "root",
        "group": "root",
        "mode": "0400",
        "path": None,
        "restart": (),
        "reload": (),
    }
    return SecretRef(**{**fields, **changes})


def manifest(serial: int = 1000, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "fleet": FLEET,
        "host": WEB,
        "serial": serial,
        "created": serial,
        "previous": None,
        "config": ConfigRef(digest=digest("config"), size=10240, kind="flake", attribute="web"),
        "system": SYSTEM,
        "secrets": (),
        "settings": Settings(),
    }
    return Manifest(**{**fields, **changes})


def report(counter: int = 1, **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "fleet": FLEET,
        "host": WEB,
        "counter": counter,
        "time": 2000 + counter,
        "serial": 1000,
        "digest": sha256(manifest().line),
        "outcome": "succeeded",
        "reason": "installed",
        "old_system": OTHER_SYSTEM,
        "new_system": SYSTEM,
        "running": SYSTEM,
        "secrets": (),
        "log_tail": "",
    }
    return Report(**{**fields, **changes})


FLOOR = Floor(Serial(5), digest("line"), "failed", 2)
JOURNAL = Journal(
    "switching", Point("/a", Serial(1)), Point("/a", Serial(1)), Point("/b", Serial(2)), "/a", {"/a": Serial(1)}
)

digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(Digest)
serials = st.integers(1, 2**53 - 1).map(Serial)
hosts = st.from_regex(r"[a-z_][a-z0-9_-]{0,8}x", fullmatch=True).map(HostName)
systems = st.from_regex(r"/nix/store/[0-9a-df-np-sv-z]{32}-[a-z0-9.-]{1,9}", fullmatch=True).map(SystemPath)
seconds = st.integers(0, 2**53 - 1)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,8}){0,3}", fullmatch=True)
units = st.lists(st.sampled_from(["a.service", "b@x.service", "c.timer"]), max_size=3).map(tuple)
secret_refs = st.builds(
    SecretRef,
    name=names.map(SecretName),
    digest=digests,
    size=st.integers(1, 1000),
    recipient=st.text(max_size=20),
    owner=st.sampled_from(["root", "nginx", "1000"]),
    group=st.sampled_from(["root", "0"]),
    mode=st.sampled_from(["0400", "0440"]),
    path=st.none() | st.just("/etc/app/key"),
    restart=units,
    reload=units,
)
manifests = st.builds(
    Manifest,
    fleet=st.text(min_size=1, max_size=64),
    host=hosts,
    serial=serials,
    created=seconds,
    previous=st.none() | digests,
    config=st.builds(
        ConfigRef,
        digest=digests,
        size=st.integers(0, 10**6),
        kind=st.sampled_from(["flake", "channel"]),
        attribute=st.none() | st.just("web"),
    ),
    system=st.none() | systems,
    secrets=st.lists(secret_refs, max_size=4, unique_by=lambda one: one.name.lower()).map(tuple),
    settings=st.builds(Settings, action=st.sampled_from(["switch", "boot"]), args=st.just(("--fallback",))),
)

_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2
_VERSION_3 = 0x20080522


@contextmanager
def bound_by_modes() -> Iterator[None]:
    """File modes hold for this thread, even if it is root's: two capabilities are laid down meanwhile."""
    if os.geteuid() != 0 or platform.system() != "Linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    before = data[0]
    data[0] = before & ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        data[0] = before
        libc.capset(header, data)
