"""Which host gets which secret, and what `bento secret list` says of it."""

from collections.abc import Callable, Sequence

import pytest

from bento_secrets.declared import Declaration
from bento_secrets.errors import InputError
from bento_secrets.identities import Identity
from bento_secrets.listing import rows
from bento_secrets.lock import Copy
from bento_secrets.members import Member, effective
from bento_secrets.names import Digest, HostName, SecretName, Target

Make = Callable[..., Member]


def secret(target: str, name: str, path: str | None = None) -> Declaration:
    return Declaration(Target.parse(target), SecretName.parse(name), path=path)


def test_a_host_gets_its_own_and_its_tags_secrets_and_no_others(member: Make) -> None:
    own, tagged, other = secret("web1", "a"), secret("@web", "b"), secret("db", "c")
    fleet = [member("web1", "web"), member("web2", "web"), member("db")]
    assert effective([own, tagged, other], fleet) == {
        "web1": {"a": own, "b": tagged},
        "web2": {"b": tagged},
        "db": {"c": other},
    }


def test_a_hosts_own_secret_beats_its_tags_in_any_order(member: Make) -> None:
    own, tagged, second = secret("web1", "a"), secret("@web", "a"), secret("@eu", "a")
    for order in ([own, tagged], [tagged, own], [tagged, own, second]):
        result = effective(order, [member("web1", "web", "eu"), member("web2", "web")])
        assert (result[HostName("web1")], result[HostName("web2")]) == ({"a": own}, {"a": tagged})


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ([secret("@web", "a"), secret("@eu", "a")], "@web and from @eu"),
        ([secret("web1", "a"), secret("@web", "A")], "share host web1"),
        ([secret("web1", "a"), secret("@web", "a/b")], "share host web1"),
        ([secret("web1", "a/b/c"), secret("web1", "A/B")], "share host web1"),
        ([secret("web1", "a", "/etc/x/y"), secret("@web", "b", "/etc/x/y")], "links"),
        ([secret("web1", "a", "/etc/x"), secret("@web", "b", "/etc/x/y")], "links"),
        ([secret("wbe1", "a")], "host wbe1"),
        ([secret("@wbe", "a")], "@wbe, and no host"),
    ],
)
def test_what_cant_stand_on_one_host_is_refused(declared: Sequence[Declaration], said: str, member: Make) -> None:
    with pytest.raises(InputError, match=said):
        effective(declared, [member("web1", "web", "eu")])


def test_misspelt_targets_get_a_suggestion(member: Make) -> None:
    for target, meant in (("wbe1", "web1"), ("@wbe", "@web")):
        with pytest.raises(InputError) as caught:
            effective([secret(target, "a")], [member("web1", "web")])
        assert caught.value.hints[0] == f"did you mean {meant}?"


def test_names_that_clash_only_across_hosts_are_fine(member: Make) -> None:
    declared = [
        secret("web1", "a"),
        secret("web2", "a/b"),
        secret("db", "A", "/etc/x/y"),
        secret("web1", "c", "/etc/x/y"),
    ]
    assert len(effective(declared, [member("web1"), member("web2"), member("db")])) == 3


def test_the_list_tells_ok_stale_and_missing(member: Make, identity: Identity, other_identity: Identity) -> None:
    tagged, own = secret("@web", "a"), secret("web3", "a")
    fleet = [member(name, "web") for name in ("web1", "web2", "web3", "web0")]
    digest, admin = Digest("0" * 64), other_identity.recipient
    both = tuple(sorted([identity.recipient.text, admin.text]))
    lock = {
        (HostName("web1"), SecretName("a")): Copy(digest, both, 10),
        (HostName("web2"), SecretName("a")): Copy(digest, (identity.recipient.text,), 20),
        (HostName("web3"), SecretName("a")): Copy(digest, both, 30, must_rotate=True),
    }
    first, second = rows([tagged, own], lock, fleet, [admin])
    assert [(copy.host, copy.state, copy.sealed) for copy in first.copies] == [
        ("web0", "missing", None),
        ("web1", "ok", 10),
        ("web2", "stale", 20),
    ]
    assert (first.declaration, first.sealed) == (tagged, 20)
    assert [(copy.host, copy.state, copy.must_rotate) for copy in second.copies] == [("web3", "ok", True)]
    assert rows([secret("web1", "z")], {}, fleet, [])[0].sealed is None
