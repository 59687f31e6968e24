"""What the agent asks of Nix when it takes a release."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bento.adapters import nix
from bento.agent import take


def test_a_build_that_says_nothing_for_long_is_given_up_unless_the_admin_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[nix.BuildInput] = []
    monkeypatch.setattr(nix, "build", lambda source, _root: asked.append(source) or "/nix/store/x")
    host: Any = SimpleNamespace(say=lambda _: None, gc_root=lambda name: tmp_path / name)
    theirs = ("--max-silent-time", "60")
    config = SimpleNamespace(kind="flake", attribute="web")
    manifest: Any = SimpleNamespace(config=config, settings=SimpleNamespace(args=theirs))
    take.build_tree(host, manifest, tmp_path, take.Log(lambda _: None))
    assert asked[0].args == ("--max-silent-time", "7200", *theirs)  # of two, Nix takes the last
