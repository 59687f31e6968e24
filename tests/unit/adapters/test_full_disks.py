"""A write that fails is an error that says so, in every place that writes; what was there before is still there."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bento.adapters.folder import PublishFolder
from bento.adapters.process import run, run_keeping_tail
from bento.admin.pack import collect
from bento.admin.workspace import Workspace
from bento.agent.state import State
from bento.errors import BentoError, EnvironmentFailed
from bento.names import Digest, HostName, Serial

WEB = HostName("web")


@contextmanager
def refused() -> Iterator[None]:
    """No file may grow beyond 100 bytes meanwhile, as on a disk that is full; the test's own output is let alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    except EnvironmentFailed as error:
        said = error.message
    else:
        said = "nothing"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if not said.startswith("can't write"):
        pytest.fail(f"a write that can't have worked was answered by: {said}")


def test_a_report_and_a_manifest_that_do_not_fit_are_errors_and_leave_nothing(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.prepare()
    with refused():
        state.put_in_spool(1, b"x" * 1000)
    with refused():
        state.keep_manifest(Serial(1), b"x" * 1000)
    assert list(state.spool.iterdir()) == []
    assert list(state.manifests.iterdir()) == []


def test_a_publish_that_does_not_fit_leaves_what_was_published(tmp_path: Path) -> None:
    folder = PublishFolder(tmp_path)
    folder.ensure_host(WEB)
    folder.put_manifest(WEB, b"old")
    with refused():
        folder.put_objects(WEB, [(Digest("0" * 64), b"x" * 1000)])
    with refused():
        folder.put_manifest(WEB, b"x" * 1000)
    assert folder.read_manifest(WEB) == b"old"
    assert list((tmp_path / "web/release/objects").iterdir()) == []


def test_a_configuration_that_does_not_fit_into_the_state_folder_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source = tmp_path / "fleet/hosts/web"
    source.mkdir(parents=True)
    (source / "configuration.nix").write_text("{ }")
    workspace = Workspace(tmp_path / "fleet")
    workspace.prepare()
    tree = collect(source, tmp_path / "fleet", WEB)
    with refused():
        workspace.pack(tree)
    assert list((workspace.root / "trees").iterdir()) == []


def test_a_file_that_is_no_program_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\0garbage")
    program.chmod(0o755)
    with pytest.raises(BentoError, match="can't run"):
        run([str(program)])
    with pytest.raises(BentoError, match="can't run"):
        run_keeping_tail([f"{program}/below"], tail=10)
