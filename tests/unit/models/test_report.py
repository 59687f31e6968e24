"""Reports and heartbeats: a host's words read back the same, and hostile ones are an error, never a crash."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import ESC, complaint_of, digests, hosts, names, quick, report, seconds, serials, systems

from bento.errors import InputError
from bento.models.limits import LIMITS
from bento.models.report import Heartbeat, Report, SecretReport, parse_heartbeat, parse_report
from bento.models.signed import canonical
from bento.names import SecretName

paths = st.none() | systems | st.just("/somewhere/else")
reports = st.builds(
    Report,
    fleet=st.text(max_size=64),
    host=hosts,
    counter=st.integers(1, 2**53 - 1),
    time=seconds,
    serial=st.none() | serials,
    digest=st.none() | digests,
    outcome=st.sampled_from(["succeeded", "degraded", "failed", "rolled-back", "unconfirmed", "refused"]),
    reason=st.text(max_size=60),
    old_system=paths,
    new_system=paths,
    running=paths,
    secrets=st.lists(
        st.builds(
            SecretReport,
            name=names.map(SecretName),
            digest=digests,
            state=st.sampled_from(["installed", "kept", "failed"]),
        ),
        max_size=3,
    ).map(tuple),
    log_tail=st.text(max_size=60),
)
heartbeats = st.builds(
    Heartbeat,
    fleet=st.text(max_size=64),
    host=hosts,
    after=st.integers(0, 2**53 - 1),
    time=seconds,
    serial=st.none() | serials,
    running=paths,
)
HEARTBEAT = Heartbeat(fleet="acme", host="web", after=0, time=5, serial=None, running=None)


@quick
@given(reports)
def test_a_report_reads_back_the_same(one: Report) -> None:
    assert parse_report(one.line) == one


@quick
@given(heartbeats)
def test_a_heartbeat_reads_back_the_same(one: Heartbeat) -> None:
    assert parse_heartbeat(one.line) == one


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("extra", 1),
        ("format", 2),
        ("host", "../x"),
        ("host", "WEB"),
        ("counter", 0),
        ("counter", 2**53),
        ("counter", "1"),
        ("counter", True),
        ("time", -1),
        ("time", 1.5),
        ("serial", 0),
        ("digest", "x"),
        ("outcome", "great"),
        ("reason", "x" * (LIMITS.reason + 1)),
        ("reason", None),
        ("running", "/nix/\x1b[2J"),
        ("running", ""),
        ("old_system", "/x\n"),
        ("log_tail", "x" * (LIMITS.log_tail + 1)),
        ("secrets", [{"name": "../x", "digest": "0" * 64, "state": "installed"}]),
        ("secrets", [{"name": "a", "digest": "0" * 64, "state": "stolen"}]),
    ],
)
def test_a_report_outside_its_rules_is_an_input_error(key: str, value: object) -> None:
    plain: dict[str, Any] = json.loads(report().line)
    with pytest.raises(InputError, match=key) as error:
        parse_report(canonical({**plain, key: value}))
    assert error.value.message.isprintable()


@pytest.mark.parametrize(
    ("key", "value"),
    [("extra", 1), ("host", "X"), ("after", -1), ("time", "now"), ("running", "/x\x07"), ("serial", 2**53)],
)
def test_a_heartbeat_outside_its_rules_is_an_input_error(key: str, value: object) -> None:
    plain: dict[str, Any] = json.loads(HEARTBEAT.line)
    with pytest.raises(InputError, match=key):
        parse_heartbeat(canonical({**plain, key: value}))


@pytest.mark.parametrize("key", sorted(set(json.loads(report().line)) - {"format"}))
def test_every_key_of_a_report_must_be_there(key: str) -> None:
    plain: dict[str, Any] = json.loads(report().line)
    del plain[key]
    with pytest.raises(InputError):
        parse_report(canonical(plain))


def test_control_characters_in_a_key_do_not_reach_the_terminal() -> None:
    plain: dict[str, Any] = json.loads(report().line)
    for parse, good in ((parse_report, plain), (parse_heartbeat, json.loads(HEARTBEAT.line))):
        with pytest.raises(InputError) as error:
            parse(canonical({**good, ESC: 1}))
        assert error.value.message.isprintable()


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"null\n", b"[" * 100_000, b'{"a":' * 50_000, b'{"fleet":"\\ud800"}', b"\xff", b"\x00" * 99]
)
def test_hostile_json_is_an_input_error(line: bytes) -> None:
    for parse in (parse_report, parse_heartbeat):
        with pytest.raises(InputError):
            parse(line)


@quick
@given(st.binary(max_size=80), st.integers(0, 500))
def test_any_bytes_put_anywhere_give_a_report_or_an_input_error(data: bytes, at: int) -> None:
    line = report().line
    for raw in (data, line[:at] + data + line[at:]):
        said = complaint_of(parse_report, raw)
        assert said is None or said.isprintable()
