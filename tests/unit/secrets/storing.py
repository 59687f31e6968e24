"""What the tests of the secret store do all the time: add a secret, look at what is there."""

from pathlib import Path

from bento_secrets.declared import Attributes
from bento_secrets.identities import Identity
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.recipients import Recipient
from bento_secrets.sealing import Plaintext, open_sealed
from bento_secrets.store import SecretStore

NONE = Attributes()
PLAIN = b"hunter2-hunter2-hunter2"


def add(
    store: SecretStore,
    fleet: list[Member],
    target: str = "@web",
    name: str = "tls/key",
    content: bytes = PLAIN,
    *,
    attributes: Attributes = NONE,
    replace: bool = False,
    now: int = 1000,
    admins: tuple[Recipient, ...] = (),
) -> tuple[HostName, ...]:
    return store.add(
        Target(target), SecretName(name), attributes, Plaintext(content), fleet, admins, replace=replace, now=now
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def contents(store: SecretStore, identity: Identity) -> dict[str, bytes]:
    """What a reader sees: every copy of the lock, opened."""
    lock = store.read().lock
    return {f"{host}/{name}": open_sealed(store.ciphertext(host, name), [identity]).data for host, name in lock}
