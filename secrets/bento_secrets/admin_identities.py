"""An admin's identities: age identity files, SSH keys, plugins. Passphrases are asked for, once each, and not kept.

Never used on a host, which has its SSH host key and nobody to ask (identities.load_ssh_identity).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ed25519

from bento_secrets import age, armor, plugins
from bento_secrets.errors import InputError
from bento_secrets.identities import (
    Identity,
    Locked,
    SshPrivateKey,
    identity_of_ssh,
    native_ssh,
    read_private,
    read_ssh_private,
    ssh_public,
)
from bento_secrets.limits import LIMITS
from bento_secrets.recipients import Recipient
from bento_secrets.ssh_keys import SshPublicKey

Ask = Callable[[str], str]

_VERSION = b"age-encryption.org/v1\n"
_SCRYPT = re.compile(rb"-> scrypt [A-Za-z0-9+/]{22} ([1-9][0-9]?)\n")


class AdminIdentity:
    """What opens files sealed to an admin. `label` says which it is, without anything secret.

    `recipient` is what it opens where that can be known: not for a plugin, and not for age's own `ssh-ed25519` stanza,
    to which Bento never seals. `ssh` is the key it came from, if it came from one.
    """

    __slots__ = ("_native", "label", "recipient", "ssh")

    def __init__(
        self, native: age.NativeIdentity, label: str, recipient: Recipient | None, ssh: SshPublicKey | None = None
    ) -> None:
        self._native = native
        self.label = label
        self.recipient = recipient
        self.ssh = ssh

    @property
    def native(self) -> age.NativeIdentity:
        """For the age library."""
        return self._native

    def __repr__(self) -> str:
        return f"<AdminIdentity {self.label}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity stays in the process that read it")


def load_admin_identities(files: Sequence[Path], ask: Ask) -> tuple[AdminIdentity, ...]:
    """The identities in `files`, plugins last, so that no token is asked for what another identity opens.

    `ask` gets a prompt and gives a passphrase; it is called once a protected file. An ssh-ed25519 key gives two: as
    Bento and ssh-to-age derive it, and for age's own stanza, which agenix uses. InputError naming file and line;
    PluginFailed if a plugin isn't installed.
    """
    found: list[AdminIdentity] = []
    by_plugin: dict[str, list[str]] = {}
    for path in _each_once(files):
        content = read_private(path)
        if content.lstrip().startswith(b"-----BEGIN ") and not content.lstrip().startswith(armor.BEGIN):
            found += _of_ssh(_unlocked(path, content, ask))
        else:
            found += _of_age_file(path, _without_passphrase(path, content, ask), by_plugin)
    for plugin, texts in by_plugin.items():
        native = plugins.native_identity(plugin, list(dict.fromkeys(texts)))
        found.append(AdminIdentity(native, f"age-plugin-{plugin}", None))
    if len(found) > LIMITS.MAX_IDENTITIES:
        raise InputError(
            f"{len(found)} identities are more than Bento tries (at most {LIMITS.MAX_IDENTITIES})", "name fewer files"
        )
    return tuple(found)


def _each_once(files: Sequence[Path]) -> list[Path]:
    """As they were named, `~` expanded."""
    named: dict[Path, Path] = {}
    for file in files:
        named.setdefault(file.expanduser().resolve(), file.expanduser())
    return list(named.values())


def _unlocked(path: Path, content: bytes, ask: Ask) -> SshPrivateKey:
    try:
        return read_ssh_private(path, content, None)
    except Locked:
        return read_ssh_private(path, content, _answer(path, ask))


def _answer(path: Path, ask: Ask) -> str:
    passphrase = ask(f"passphrase of {path}")
    if not passphrase:
        raise InputError(f"{path} needs its passphrase, and none was given", "run the command again, and type it")
    return passphrase


def _of_ssh(key: SshPrivateKey) -> list[AdminIdentity]:
    identity, public = identity_of_ssh(key), ssh_public(key)
    label = f"{public.kind} {public.fingerprint}"
    found = [AdminIdentity(identity.native, label, identity.recipient, public)]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        found.append(AdminIdentity(native_ssh(key), f"{label} (age's own stanza)", None, public))
    return found


def _of_age_file(path: Path, content: bytes, by_plugin: dict[str, list[str]]) -> list[AdminIdentity]:
    """The X25519 identities of an age identity file; those of plugins go to `by_plugin`."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is neither an age identity file nor an SSH private key", f"see what it is: file {path}"
        ) from None
    found: list[AdminIdentity] = []
    before = sum(map(len, by_plugin.values()))
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("AGE-PLUGIN-"):
            by_plugin.setdefault(_plugin(path, number, line), []).append(line)
        else:
            found.append(_of_line(path, number, line))
    if not found and sum(map(len, by_plugin.values())) == before:
        raise InputError(f"{path} holds no identity", f"make one: age-keygen -o {path}.new")
    return found


def _of_line(path: Path, number: int, line: str) -> AdminIdentity:
    """Never quotes the line, which may be a damaged identity."""
    if line.startswith(("age1", "ssh-", "ecdsa-", "sk-")):
        raise InputError(
            f"{path}, line {number}: this is a public half, and the private one is needed",
            "name the file that age-keygen or ssh-keygen made beside it",
        )
    try:
        identity = Identity.from_age(line)
    except InputError:
        raise InputError(
            f"{path}, line {number}: this is no age identity that Bento knows",
            "each line is a comment, AGE-SECRET-KEY-1… or AGE-PLUGIN-NAME-1…",
        ) from None
    return AdminIdentity(identity.native, identity.recipient.text, identity.recipient)


def _plugin(path: Path, number: int, line: str) -> str:
    try:
        return plugins.plugin_of_identity(line)
    except ValueError:
        raise InputError(
            f"{path}, line {number}: this plugin identity is damaged", "copy the line again, as its plugin printed it"
        ) from None


def _without_passphrase(path: Path, content: bytes, ask: Ask) -> bytes:
    """An identity file's text, which `age -p` may have encrypted."""
    try:
        binary = armor.dearmor(content)
    except ValueError as error:
        raise InputError(f"{path} is a damaged age file: {error}", f"try it: age -d {path}") from None
    if not binary.startswith(_VERSION):
        return content
    header = _SCRYPT.match(binary, len(_VERSION))
    if header is None:
        raise InputError(
            f"{path} is encrypted, but not with a passphrase",
            f"protect it with one instead: age -d -i OTHER {path} | age -p -o {path}.new",
        )
    if int(header[1]) > LIMITS.MAX_SCRYPT:
        raise InputError(
            f"{path} costs too much to open: its work factor is 2^{int(header[1])} (at most 2^{LIMITS.MAX_SCRYPT})",
            f"encrypt it again, which takes age's default of 2^18: age -d {path} | age -p -o {path}.new",
        )
    passphrase = _answer(path, ask)
    try:
        return age.decrypt_with_passphrase(binary, passphrase)
    except ValueError:
        raise InputError(
            f"the passphrase of {path} is wrong, or the file is damaged", f"try it: age -d {path}"
        ) from None
