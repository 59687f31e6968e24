"""`bento check`, keys: can releases be signed so that hosts take them, and is the server the pinned one?"""

import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from bento.adapters import signatures
from bento.adapters.process import require, run
from bento.admin.check_found import Finding, Found, Unchecked, error_of
from bento.admin.inventory import TRUST, Fleet
from bento.admin.signing import check_signers
from bento.errors import BentoError, EnvironmentFailed, InputError
from bento.models.trust import Server, Trust
from bento_secrets.ssh_keys import SshPublicKey

_NAMESPACE = "bento-check"  # a signature made here is good for nothing else
_LINE = b"bento check\n"
_OTHERS_READ = 0o077


def check_signing(fleet: Fleet, trust: Trust) -> Iterator[Found]:
    """Whether each signing key is there, is one that hosts accept, and signs. Nobody is asked for a passphrase."""
    require("ssh-keygen")
    try:
        check_signers(fleet.signing_keys, trust)
    except InputError as error:
        yield error_of("keys", error)
    for key in fleet.signing_keys:
        if key.is_file():
            yield from _signs(key)
        if key.is_relative_to(fleet.root / "hosts") or key.is_relative_to(fleet.root / "utils"):
            hint = f"move it: mv {quote(str(key))} ~/.ssh/ and name it so in bento.local.toml"
            yield Finding("error", "keys", f"the signing key {key} lies where hosts' configurations are", (hint,))


def _signs(key: Path) -> Iterator[Found]:
    try:
        public = signatures.public_half(key)
        if public.kind.startswith("sk-"):
            why = "a token would have to be touched"
            yield Unchecked(f"whether {key} signs", why, ("it does if this works: bento deploy",))
            return
        told = run(["ssh-keygen", "-y", "-P", "", "-f", str(key)], timeout=60)
        if key.suffix == ".pub" or told.code != 0:
            signatures.refuse_open(key)
            # With a passphrase, or elsewhere: ssh-keygen would ask on the terminal. The agent tells without asking.
            if public.line not in _in_agent():
                private = key.with_suffix("") if key.suffix == ".pub" else key
                yield Finding(
                    "warning",
                    "keys",
                    f"the signing key {key} can't be used without asking: it has a passphrase, or is in no ssh-agent",
                    (f"for this session: ssh-add {quote(str(private))}",),
                )
            return
        if SshPublicKey.parse(told.out.decode("utf-8", "replace")).blob != public.blob:
            hint = f"write it anew: ssh-keygen -y -f {quote(str(key))} > {quote(f'{key}.pub')}"
            yield Finding("error", "keys", f"{key}.pub is not the public half of {key}", (hint,))
            return
        signatures.sign(_LINE, [key], _NAMESPACE)
    except BentoError as error:
        yield error_of("keys", error)


def _in_agent() -> str:
    try:
        return run(["ssh-add", "-L"], timeout=20).out.decode("utf-8", "replace")
    except EnvironmentFailed:
        return ""


def check_identities(fleet: Fleet) -> Iterator[Found]:
    """The admin's own identities: there, and nobody else's to read. They are not opened."""
    for file in fleet.identity_files:
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
        except OSError as error:
            hint = "name another in bento.local.toml: [secrets] identities"
            yield Finding("warning", "keys", f"the identity {file} can't be read: {error.strerror}", (hint,))
            continue
        if mode & _OTHERS_READ:
            said = f"the identity {file} may be read by others (mode {mode:o})"
            yield Finding("error", "keys", said, (f"chmod 600 {quote(str(file))}",))
    if not fleet.identity_files and fleet.admins:
        said = "bento.toml names admin recipients, and nothing here that opens what is sealed to them"
        hint = 'if you hold one: [secrets] identities = ["FILE"] in bento.local.toml'
        yield Finding("note", "keys", said, (hint,))


def check_pins(server: Server) -> Iterator[Found]:
    """Whether a server shows a key that hosts accept, and whether it has each that is pinned."""
    from bento.adapters.server_keys import shown_keys  # paramiko: every other command does without

    where = server.where
    if server.proxy_command:
        why = f"hosts reach it through {server.proxy_command[0]}"
        yield Unchecked(f"the host key of {where}", why, ("where a host is: bento-agent run",))
        return
    try:
        kinds = tuple(dict.fromkeys(key.kind for key in server.host_keys))
        shown = shown_keys(server.address, server.port, server.timeout, kinds)
    except EnvironmentFailed as error:
        hints = (f"from where hosts reach it: ssh-keyscan -p {server.port} {server.address}",)
        yield Unchecked(f"the host key of {where}", error.message, hints)
        return
    pinned = {key.blob: key for key in server.host_keys}
    if not any(key.blob in pinned for key in shown):
        seen = ", ".join(key.fingerprint for key in shown) or "none of a kind that is pinned"
        yield Finding(
            "error",
            "server",
            f"{where} shows the host key {seen}, and {TRUST} pins another: every host would turn away",
            (
                f"if the server is the right one and was renewed, pin its key: host_keys in {TRUST}",
                "then bring it to hosts before the old key goes: bento deploy",
            ),
        )
        return
    for blob, key in pinned.items():
        if blob not in {one.blob for one in shown}:
            said = f"{where} doesn't show the pinned key {key.fingerprint}: it is an old one, or not in use yet"
            hint = f"if it is old, take it out of host_keys in {TRUST}: whoever has it can pose as the server"
            yield Finding("note", "server", said, (hint,))
