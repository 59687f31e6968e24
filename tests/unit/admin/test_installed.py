"""Which version of a secret a host has: what `bento secret list` reads out of its report."""

import pytest
from unit.samples import digest, report

from bento.admin.installed import Installed, Word, installed
from bento.models.report import Report, SecretReport, SecretState
from bento.names import SecretName

NAME = SecretName("db")
TODAY, OLD = digest("today"), digest("old")


def told(state: SecretState, version: str) -> Report:
    other = SecretReport(name="other", digest=TODAY, state="failed")
    return report(secrets=(other, SecretReport(name=NAME, digest=digest(version), state=state)))


@pytest.mark.parametrize(
    ("state", "version", "word"),
    [
        ("installed", "today", "installed"),
        ("kept", "today", "installed"),  # another secret failed; this one's old version is today's
        ("installed", "old", "pending"),
        ("kept", "old", "pending"),
        ("failed", "today", "failed"),
        ("failed", "old", "pending"),  # today's hasn't been tried yet
    ],
)
def test_a_report_tells_which_version_a_host_has_and_since_when(state: SecretState, version: str, word: Word) -> None:
    said = told(state, version)
    assert installed(said, NAME, TODAY) == Installed(word, digest(version), said.time)


def test_a_secret_that_the_report_does_not_name_is_pending() -> None:
    assert installed(report(), NAME, TODAY) == Installed("pending", None, report().time)


def test_a_copy_that_the_store_lacks_is_pending_whatever_the_host_has() -> None:
    said = told("installed", "old")
    assert installed(said, NAME, None) == Installed("pending", OLD, said.time)


def test_without_a_report_it_is_unknown() -> None:
    assert installed(None, NAME, TODAY) == Installed("unknown")
