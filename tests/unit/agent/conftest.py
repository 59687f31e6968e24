"""A host's memory in a folder of the test's own."""

from pathlib import Path

import pytest

from bento.agent.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / "state")
    made.prepare()
    return made


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> State:
    made = State(tmp_path_factory.mktemp("state"))
    made.prepare()
    return made
