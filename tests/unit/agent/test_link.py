"""Which server a host uses, what it says of those it can't use, and how it finds out that one is still there."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unit.samples import FLEET, WEB, public

from bento.adapters import sftp
from bento.adapters.sftp import ServerAway, TurnedAway
from bento.agent import link
from bento.agent.host import Host
from bento.agent.link import admitted, connected, in_order, reachable_within
from bento.errors import BentoError, InputError, Refused, WorkFailed
from bento.models.trust import Server, Trust
from bento.names import HostName

SERVERS = tuple(Server(f"{name}.example.org", 22, (public(9),), 20) for name in ("a", "b", "c"))


class Net:
    """The servers as a test wants them: an error, or a session; `asked` says who was asked, with how much time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.asked: list[tuple[str, float | None]] = []
        self.answers: dict[str, Callable[[], Any]] = {}
        self.now = 1000.0
        monkeypatch.setattr(sftp, "connect", self._connect)
        monkeypatch.setattr(link, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.pass_by))

    def pass_by(self, seconds: float) -> None:
        """Time goes by only here: what is measured is the same on a busy machine."""
        self.now += seconds

    @contextmanager
    def _connect(self, server: Server, _login: str, _identity: Path, within: float | None) -> Iterator[Any]:
        self.asked.append((server.address, within))
        yield self.answers[server.address]()

    def host(self, *servers: Server) -> Host:
        settings = SimpleNamespace(identities=(Path("/key"),))
        trust = Trust(FLEET, (public(1),), servers or SERVERS)
        return SimpleNamespace(name=WEB, settings=settings, trust=trust, say=self.said.append, confirmation=None)  # type: ignore[return-value]

    def asked_names(self) -> list[str]:
        return [name for name, _ in self.asked]


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    return Net(monkeypatch)


def fails(error: BentoError) -> Callable[[], Any]:
    def answer() -> None:
        raise error

    return answer


class Good:
    def read(self, path: str, _limit: int) -> bytes:
        assert path == "release/manifest"
        return b"manifest"


ORDER = [server.address for server in in_order(SERVERS, WEB)]


def test_the_first_in_order_is_used_and_no_other_asked(net: Net) -> None:
    net.answers = dict.fromkeys(ORDER, Good)
    with connected(net.host()) as session:
        assert isinstance(session, Good)
    assert net.asked_names() == ORDER[:1]
    assert net.said == []


@pytest.mark.parametrize(
    "error",
    [ServerAway("it is away"), Refused("it shows another host key"), WorkFailed("it doesn't let web in")],
    ids=["away", "wrong key", "not let in"],
)
def test_a_server_that_can_t_be_used_is_named_and_passed_over(net: Net, error: BentoError) -> None:
    net.answers = {ORDER[0]: fails(error), ORDER[1]: fails(error), ORDER[2]: Good}
    with connected(net.host()) as session:
        assert isinstance(session, Good)
    assert net.asked_names() == ORDER
    assert net.said == [error.message] * 2


def test_when_none_can_be_used_each_is_named_and_a_broken_rule_is_the_loudest(net: Net) -> None:
    errors = [Refused("x shows another key", "renew"), ServerAway("y is away"), WorkFailed("z lets nobody in", "add")]
    net.answers = {name: fails(error) for name, error in zip(ORDER, errors, strict=True)}
    with pytest.raises(Refused) as error, connected(net.host()):
        pass
    assert all(one.message in error.value.message for one in errors)
    assert error.value.hints == ("renew", "add")
    assert net.asked_names() == ORDER


def test_one_server_s_error_is_said_as_it_is(net: Net) -> None:
    net.answers = {"a.example.org": fails(ServerAway("a is away", "wait"))}
    with pytest.raises(ServerAway) as error, connected(net.host(SERVERS[0])):
        pass
    assert (error.value.message, error.value.hints) == ("a is away", ("wait",))


def test_an_identity_that_can_t_be_read_is_said_once(net: Net) -> None:
    net.answers = {name: fails(InputError("can't read the host key")) for name in ORDER}
    with pytest.raises(InputError), connected(net.host()):
        pass
    assert len(net.asked) == 1


def test_a_failure_of_the_work_itself_is_not_taken_to_another_server(net: Net) -> None:
    net.answers = dict.fromkeys(ORDER, Good)
    with pytest.raises(WorkFailed, match="mine"), connected(net.host()):
        raise WorkFailed("mine")
    assert len(net.asked) == 1


def test_a_host_that_is_turned_away_comes_back_a_few_times_and_no_other_error_is_tried_again(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link.spool, "PAUSES", (0.001, 0.001))
    full = TurnedAway("a.example.org hung up at once")
    turns = [fails(full), fails(full), Good]

    def answer() -> object:
        return turns.pop(0)()

    net.answers["a.example.org"] = answer
    with admitted(net.host(SERVERS[0])) as session:
        assert isinstance(session, Good)
    assert [said.partition(";")[0] for said in net.said] == [full.message] * 2
    for error, tries in ((full, 3), (ServerAway("gone"), 1), (Refused("another key"), 1)):
        net.asked.clear()
        net.answers["a.example.org"] = fails(error)
        with pytest.raises(type(error)), admitted(net.host(SERVERS[0])):
            pass
        assert len(net.asked) == tries, error


def test_what_fails_once_it_is_let_in_is_not_taken_for_being_turned_away(net: Net) -> None:
    net.answers["a.example.org"] = Good
    with pytest.raises(TurnedAway, match="later"), admitted(net.host(SERVERS[0])):
        raise TurnedAway("later")
    assert len(net.asked) == 1


def test_the_order_is_the_host_s_own_whatever_the_file_s_and_spreads_the_hosts() -> None:
    assert in_order(SERVERS[::-1], WEB) == in_order(SERVERS, WEB)
    hosts = [HostName(f"web{number}") for number in range(300)]
    first = {host: in_order(SERVERS, host)[0].address for host in hosts}
    assert min(Counter(first.values()).values()) > 60
    fewer = {host: in_order(SERVERS[:2], host)[0].address for host in hosts}
    assert all(fewer[host] == first[host] for host in hosts if first[host] != SERVERS[2].address)


def test_a_link_that_comes_back_in_time_confirms(net: Net) -> None:
    tries = iter([fails(ServerAway("away")), fails(Refused("wrong key")), Good])
    net.answers = {"a.example.org": lambda: next(tries)()}  # noqa: PLW0108 — another at each call
    assert reachable_within(net.host(SERVERS[0]), 30)
    assert len(net.asked) == 3
    assert [line for line in net.said if "not confirmed yet" in line]


def test_a_link_that_stays_away_ends_with_its_deadline(net: Net) -> None:
    net.answers = {"a.example.org": fails(ServerAway("away"))}
    assert not reachable_within(net.host(SERVERS[0]), 5)
    assert net.now == 1004
    assert [within for _, within in net.asked] == [5, 3, 1]
    assert not reachable_within(net.host(SERVERS[0]), 0)
    assert net.asked[3:] == [("a.example.org", 1)]


def test_no_probe_outlasts_the_deadline_and_a_dead_mirror_leaves_time_for_the_next(net: Net) -> None:
    def slow() -> None:
        net.pass_by(3)
        raise ServerAway("away")

    net.answers = dict.fromkeys(ORDER, slow)
    with pytest.raises(ServerAway), connected(net.host(), within=12):
        pass
    assert [within for _, within in net.asked] == [4, 4.5, 6]  # what the one before left is shared by the rest
    net.asked.clear()
    net.answers = dict.fromkeys(ORDER, Good)
    assert reachable_within(net.host(), 9)
    assert net.asked[0][1] == 3
