"""A host that leaves takes its copies with it, and what it could open must be changed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bento_secrets.declared import Attributes
from bento_secrets.members import Member
from bento_secrets.names import HostName, SecretName, Target
from bento_secrets.sealing import Plaintext
from bento_secrets.store import SecretStore

Make = Callable[..., Member]
WEB1 = HostName("web1")


@pytest.fixture
def fleet(store: SecretStore, member: Make) -> list[Member]:
    """web1 has two tags, of which one is its own alone; and its own secret over its tag's."""
    members = [member("web1", "web", "lonely"), member("web2", "web"), member("db")]
    for target, name in (
        ("web1", "own"), ("db", "own"), ("@web", "shared"), ("@lonely", "alone"), ("@web", "over"), ("web1", "over"),
    ):  # fmt: skip
        store.add(
            Target(target), SecretName(name), Attributes(), Plaintext(b"x"), members, (), replace=False, now=1
        )  # fmt: skip
    return members


def files(store: SecretStore) -> dict[str, bytes]:
    return {str(path.relative_to(store.folder)): path.read_bytes() for path in store.folder.rglob("*.*")}


def test_its_copies_go_and_so_do_declarations_that_would_be_for_nobody(store: SecretStore, fleet: list[Member]) -> None:
    gone = store.forget(WEB1, fleet)
    state = store.read()
    assert {key[0] for key in state.lock} == {"web2", "db"}
    assert {(one.target, one.name) for one in state.declarations} == {
        ("db", "own"), ("@web", "shared"), ("@web", "over"),
    }  # fmt: skip
    assert {(one.target, one.name) for one in gone.declared} == {
        ("web1", "own"), ("web1", "over"), ("@lonely", "alone"),
    }  # fmt: skip
    assert gone.copies == ("alone", "over", "own", "shared")
    assert not any(name.startswith("web1/") for name in files(store))


def test_what_it_shared_must_be_changed_and_nothing_else(store: SecretStore, fleet: list[Member]) -> None:
    gone = store.forget(WEB1, fleet)
    lock = store.read().lock
    marked = {key for key, copy in lock.items() if copy.must_rotate}
    # `over` was marked when web1 got its own: the tag's copy before that was sealed to it
    assert marked == {("web2", "shared"), ("web2", "over")}
    assert {(one.target, one.name) for one in gone.exposed} == {("@web", "shared")}


def test_a_dry_run_says_the_same_and_writes_nothing(store: SecretStore, fleet: list[Member]) -> None:
    before = files(store)
    planned = store.forget(WEB1, fleet, dry_run=True)
    assert files(store) == before
    assert store.forget(WEB1, fleet) == planned
    assert files(store) != before


def test_a_host_without_secrets_leaves_the_store_as_it_is(
    store: SecretStore, fleet: list[Member], member: Make
) -> None:
    before = files(store)
    gone = store.forget(HostName("new"), [*fleet, member("new")])
    assert (gone.declared, gone.copies, gone.exposed) == ((), (), ())
    assert files(store) == before
    assert Path(store.folder).is_dir()
