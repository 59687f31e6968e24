"""SSHSIG by `ssh-keygen -Y`: works with key files, ssh-agent and FIDO tokens alike."""

import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

from bento.adapters.files import read_capped
from bento.adapters.process import Done, run
from bento.adapters.stamps import Stamp, stamp_of
from bento.errors import EnvironmentFailed, InputError
from bento.models.limits import LIMITS
from bento.models.signed import ARMOUR_BEGIN, SignedDocument
from bento_secrets.durable import write_all
from bento_secrets.ssh_keys import SshPublicKey

_TIMEOUT = 120  # seconds: a FIDO token waits for a touch
_MEMORY = "/dev/shm"  # noqa: S108 — a folder of its own is made in it, 0700
_VERIFY = ("ssh-keygen", "-Y", "verify", "-q", "-I", "admin")
_NOT_SIGNED = 255  # ssh-keygen's code for every kind of bad signature


def sign(line: bytes, keys: Sequence[Path], namespace: str) -> SignedDocument:
    """`line` with one armour per key. Raises InputError where a key can't sign."""
    return sign_all([line], keys, namespace)[0]


def sign_all(lines: Sequence[bytes], keys: Sequence[Path], namespace: str) -> tuple[SignedDocument, ...]:
    """Each line with one armour per key, by one process per key, which asks for each signature after the other.

    Raises InputError where a key can't sign; then nothing is signed.
    """
    by_key = [_armours(lines, key, namespace) for key in keys]
    return tuple(
        SignedDocument(line, tuple(armours[number] for armours in by_key)) for number, line in enumerate(lines)
    )


def _armours(lines: Sequence[bytes], key: Path, namespace: str) -> list[bytes]:
    if not key.is_file():
        raise InputError(f"the signing key {key} isn't there", 'name it in bento.local.toml: [signing] keys = ["…"]')
    argv, timeout = ["ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(key)], _TIMEOUT * len(lines)
    if len(lines) == 1:
        done = run(argv, stdin=lines[0], timeout=timeout)
        found = [done.out]
    else:
        done, found = _by_files(argv, lines, timeout)
    if done.code != 0 or not all(one.startswith(ARMOUR_BEGIN) for one in found):
        refuse_open(key)
        raise InputError(
            f"can't sign with {key}: {done.words() or 'ssh-keygen gave no signature'}",
            "a key with a passphrase must be in the ssh-agent: ssh-add " + quote(str(key)),
        )
    return found


def refuse_open(key: Path) -> None:
    """Raise InputError for a private key of this user's that others may read: OpenSSH takes none, in a dozen lines."""
    status = key.stat()
    if key.suffix != ".pub" and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        why = f"others may read it (mode {stat.S_IMODE(status.st_mode):04o}), and ssh-keygen takes none such"
        raise InputError(
            f"can't sign with {key}: {why}",
            f"chmod 600 {quote(str(key))}",
        )


def _by_files(argv: Sequence[str], lines: Sequence[bytes], timeout: float) -> tuple[Done, list[bytes]]:
    """ssh-keygen puts each signature beside its file: in memory where that can be, and in this user's folder alone."""
    try:
        with TemporaryDirectory(prefix="bento-sign-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
            files = [f"{folder}/{number}" for number in range(len(lines))]
            for file, line in zip(files, lines, strict=True):
                _write(file, line)
            done = run([*argv, *files], timeout=timeout)
            if done.code != 0:
                return done, []
            return done, [read_capped(f"{file}.sig", LIMITS.armour, "a signature") or b"" for file in files]
    except OSError as error:
        raise EnvironmentFailed(
            f"can't keep what is to be signed: {error}", "see the disk: df -h /dev/shm /tmp"
        ) from None


def _write(path: str, data: bytes) -> None:
    """By as few calls as it takes: other threads write what was signed before, and each call waits for its turn."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def public_half(key: Path) -> SshPublicKey:
    """The public key of a private key file, or of a .pub file. Raises InputError."""
    beside = str(key) if key.suffix == ".pub" else f"{key}.pub"
    mine = _stamp(str(key))
    if mine is None:
        raise InputError(f"the key {key} isn't there", 'name one in bento.local.toml: [signing] keys = ["…"]')
    return _public_half(str(key), beside, mine, _stamp(beside))


def _stamp(path: str) -> Stamp | None:
    """How a plain file stands; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 — a deploy asks for each host
    except OSError:
        return None
    return stamp_of(status) if stat.S_ISREG(status.st_mode) else None


@lru_cache(maxsize=8)
def _public_half(key: str, beside: str, _mine: Stamp, its: Stamp | None) -> SshPublicKey:
    """The stamps are how the two files stand."""
    if its is not None:
        return SshPublicKey.parse(Path(beside).read_bytes().decode("utf-8", "replace"))
    done = run(["ssh-keygen", "-y", "-P", "", "-f", key], timeout=_TIMEOUT)
    if done.code != 0:
        raise InputError(
            f"can't read the public half of {key}: {done.words()}",
            f"if it is a private key with a passphrase, put its public half into {beside}",
        )
    return SshPublicKey.parse(done.out.decode("utf-8", "replace"))


def allowed_signers(signers: Sequence[SshPublicKey], namespace: str) -> bytes:
    """ssh-keygen's allowed_signers file for these keys; for any other namespace it allows nobody."""
    return "".join(f'* namespaces="{namespace}" {signer.line}\n' for signer in signers).encode()


def verified(document: SignedDocument, signers: Sequence[SshPublicKey], namespace: str) -> bool:
    """Whether one armour is by one of `signers` over exactly this line. Raises EnvironmentFailed without ssh-keygen."""
    return any(_verified(document.line, armour, signers, namespace) for armour in document.armours)


def verified_here(document: SignedDocument, signers: Sequence[SshPublicKey], namespace: str) -> bool:
    """As `verified`, but without a process where the signers are of the common kinds: for reading many documents."""
    from bento.adapters import sshsig  # not needed by an agent's poll

    if all(signer.kind in sshsig.KINDS for signer in signers):
        return any(sshsig.good(document.line, armour, signers, namespace) for armour in document.armours)
    return verified(document, signers, namespace)


def signed_by(document: SignedDocument, signers: Sequence[SshPublicKey], namespace: str) -> tuple[SshPublicKey, ...]:
    """Those of `signers` who signed this document."""
    return tuple(signer for signer in signers if verified_here(document, (signer,), namespace))


def _verified(line: bytes, armour: bytes, signers: Sequence[SshPublicKey], namespace: str) -> bool:
    with ExitStack() as stack:
        # Files in memory: nothing to clean up, nothing that another user could swap.
        keys = _memory_file(stack, allowed_signers(signers, namespace))
        signature = _memory_file(stack, armour)
        done = run(
            [*_VERIFY, "-n", namespace, "-f", f"/proc/self/fd/{keys}", "-s", f"/proc/self/fd/{signature}"],
            stdin=line,
            timeout=_TIMEOUT,
            pass_fds=(keys, signature),
        )
    if done.code not in (0, _NOT_SIGNED):
        raise EnvironmentFailed(
            f"ssh-keygen can't verify signatures here: {done.words()}", "OpenSSH 8.1 or newer is needed"
        )
    return done.code == 0


def _memory_file(stack: ExitStack, data: bytes) -> int:
    descriptor = os.memfd_create("bento")
    stack.callback(os.close, descriptor)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
