"""Hosts of one flake: evaluated together by real Nix, each broken for itself, and built to what they are alone."""

import json
from pathlib import Path

import pytest

from bento.demo.systems import System
from rig import MakeRoot
from rig.eval_jobs import write_eval_jobs, write_older
from rig.joint import HOSTS, Joint, make_joint

# What can be wrong with one host of a flake; Nix's tryEval would only get over the first.
BROKEN = {
    "an assertion of its own": 'throw "c is meant to be broken"',
    "a mistake": "{ }.nothing",
    "no system at all": "null",
}


@pytest.fixture
def joint(make_root: MakeRoot, tmp_path: Path) -> Joint:
    return make_joint(make_root("admin"), tmp_path)


def test_five_hosts_of_a_flake_take_two_evaluations_and_are_what_each_is_alone(joint: Joint) -> None:
    systems = joint.build()
    assert joint.asked() == ["a", "bcde"]
    assert list(systems) == list(HOSTS)
    for host in HOSTS:
        where = f'path:{joint.fleet}/hosts/all#nixosConfigurations."{host}".config.system.build.toplevel.outPath'
        assert joint.admin.text(["nix", "eval", "--raw", where]) == systems[host]
        assert joint.admin.text(["cat", f"{systems[host]}/etc/message"]) == host
    joint.admin.run(["nix-store", "--gc"], check=True)
    assert joint.build() == systems
    assert joint.asked() == ["a", "bcde"]


def test_a_dry_build_evaluates_together_too_and_builds_nothing(joint: Joint) -> None:
    systems = joint.build("dry-build")
    assert joint.asked() == ["a", "bcde"]
    assert not any(joint.admin.path(system).exists() for system in systems.values())
    assert joint.build() == systems


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_host_that_can_not_be_evaluated_harms_only_itself(joint: Joint, mistake: str) -> None:
    joint.write(BROKEN[mistake])
    done = joint.bento("build", "--json", code=3)
    told = json.loads(done.stdout)
    assert list(told["systems"]) == ["a", "b", "d", "e"]
    assert list(told["failed"]) == ["c"]
    assert joint.asked() == ["a", "bcde", "c", "de"]
    assert b"c: evaluation failed" in done.stderr
    if mistake == "an assertion of its own":
        assert told["failed"]["c"] == "the evaluation failed: error: c is meant to be broken"


def test_a_host_whose_build_fails_harms_only_itself(joint: Joint) -> None:
    joint.write(c=System(build_fails=True))
    done = joint.bento("build", "--json", code=3)
    assert list(json.loads(done.stdout)["systems"]) == ["a", "b", "d", "e"]
    assert b"c: build failed" in done.stderr
    assert joint.asked() == ["a", "bcde"]


def test_only_hosts_with_something_new_are_evaluated_again(joint: Joint) -> None:
    joint.build("--on", "a,b,c")
    joint.build()
    assert joint.asked() == ["a", "bc", "d", "e"]


def test_nix_eval_jobs_is_used_where_it_is_installed_and_gives_the_same(joint: Joint) -> None:
    log = write_eval_jobs(joint.programs)
    systems = joint.build()
    (arguments,) = map(json.loads, log.read_text().splitlines())
    assert arguments[arguments.index("--workers") + 1] == "1"
    assert int(arguments[arguments.index("--max-memory-size") + 1]) > 0
    assert "builtins.trace" not in (joint.programs / "log").read_text()  # Nix itself wasn't asked for what it gave
    (joint.programs / "nix-eval-jobs").unlink()
    joint.write(**{host: System(f"new {host}") for host in HOSTS})
    joint.build()
    joint.write()
    assert joint.build() == systems


def test_what_nix_eval_jobs_can_not_evaluate_fails_alone_with_nix_s_own_error(joint: Joint) -> None:
    write_eval_jobs(joint.programs)
    joint.write(BROKEN["a mistake"])
    told = json.loads(joint.bento("build", "--json", code=3).stdout)
    assert list(told["systems"]) == ["a", "b", "d", "e"]
    assert told["failed"]["c"].startswith("the evaluation failed: error: attribute 'nothing' missing")


def test_a_nix_eval_jobs_that_is_too_old_is_no_harm(joint: Joint) -> None:
    write_older(joint.programs)
    assert list(joint.build()) == list(HOSTS)
    assert joint.asked() == ["a", "bcde"]


def test_what_the_garbage_collector_took_between_evaluating_and_building_is_evaluated_again(joint: Joint) -> None:
    real = joint.admin.text(["sh", "-c", "command -v nix"])
    nix = joint.programs / "nix"
    # after each evaluation, as a collector that runs when the disk is full would
    nix.write_text(
        f'#!/bin/sh\n{real} "$@"\ncode=$?\n'
        "case \"$*\" in *' eval '*) nix-store --gc >/dev/null 2>&1 ;; esac\nexit $code\n"
    )
    systems = joint.build()
    assert list(systems) == list(HOSTS)
    assert all(joint.admin.path(system).is_dir() for system in systems.values())
