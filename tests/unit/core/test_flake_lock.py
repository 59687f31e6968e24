"""What moved between two lock files, input by input."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.samples import complaint_of, quick

from bento.core.flake_lock import Moved, inputs, moved

DAY = 86400


def lock(**nodes: dict[str, Any]) -> bytes:
    return json.dumps({"version": 7, "root": "root", "nodes": nodes}).encode()


def locked(rev: str, day: int = 0, **below: object) -> dict[str, Any]:
    return {"locked": {"rev": rev * 10, "lastModified": day * DAY}, "inputs": below}


def test_inputs_that_moved_came_or_went_are_told_by_their_paths() -> None:
    before = lock(
        root={"inputs": {"nixpkgs": "nixpkgs", "home": "home", "old": "old"}},
        nixpkgs=locked("1a", 1),
        home=locked("2b", 1, nixpkgs="nixpkgs_2"),
        nixpkgs_2=locked("3c", 1),
        old=locked("4d", 1),
    )
    after = lock(
        root={"inputs": {"nixpkgs": "nixpkgs", "home": "home", "new": "new"}},
        nixpkgs=locked("5e", 2),
        home=locked("2b", 1, nixpkgs="nixpkgs_2"),
        nixpkgs_2=locked("6f", 2),
        new=locked("7a", 2),
    )
    assert moved(before, after, "flake.lock") == (
        Moved("home/nixpkgs", "3c3c3c3 (1970-01-02)", "6f6f6f6 (1970-01-03)"),
        Moved("new", None, "7a7a7a7 (1970-01-03)"),
        Moved("nixpkgs", "1a1a1a1 (1970-01-02)", "5e5e5e5 (1970-01-03)"),
        Moved("old", "4d4d4d4 (1970-01-02)", None),
    )
    assert moved(before, before, "flake.lock") == ()
    assert inputs(before, "flake.lock") == ("home", "nixpkgs", "old")


def test_an_input_that_follows_another_is_told_once() -> None:
    def one(rev: str) -> bytes:
        return lock(
            root={"inputs": {"nixpkgs": "nixpkgs", "home": "home"}},
            nixpkgs=locked(rev),
            home=locked("2b", nixpkgs=["nixpkgs"]),
        )

    assert [each.input for each in moved(one("1a"), one("5e"), "flake.lock")] == ["nixpkgs"]


def test_without_a_commit_the_hash_is_shown() -> None:
    def one(digest: str) -> bytes:
        return lock(root={"inputs": {"a": "a"}}, a={"locked": {"narHash": f"sha256-{digest}"}})

    assert moved(one("abcdefghijkl"), one("mnopqrstuvwx"), "flake.lock") == (
        Moved("a", "sha256-abcdefgh", "sha256-mnopqrst"),
    )


def test_a_circle_of_inputs_ends() -> None:
    one = lock(root={"inputs": {"a": "a"}}, a=locked("1a", a="a"))
    assert moved(one, one, "flake.lock") == ()


@quick
@given(st.binary(max_size=40) | st.recursive(st.none() | st.text(max_size=3), lambda one: st.lists(one, max_size=3)))
def test_what_is_no_lock_file_is_named(content: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps({"nodes": {"root": {"inputs": content}}}).encode()
    assert complaint_of(inputs, data, "hosts/web/flake.lock") == "hosts/web/flake.lock is no flake.lock"


@pytest.mark.parametrize("time", [2**60, -1, "soon", None])
def test_a_time_from_beyond_all_calendars_is_left_out(time: object) -> None:
    def one(rev: str) -> bytes:
        return lock(root={"inputs": {"a": "a"}}, a={"locked": {"rev": rev * 40, "lastModified": time}})

    assert (moved(one("a"), one("b"), "x")[0].after or "").split()[0] == "bbbbbbb"
