"""A stand-in for nix-eval-jobs, which the tests have no package of: its documented lines, real Nix below.

Its README and its source (2.33) say: a flake's attribute goes through --select; one JSON object a line on stdout, with
attr, attrPath, drvPath, name, outputs and system, or with error; an attribute that fails takes no other along. What it
can't show is whether the real program takes these options: that is read, not tried.
"""

from pathlib import Path

_PROGRAM = """#!/usr/bin/python3
import json, subprocess, sys

arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    print(json.dumps(arguments), file=log)
select = arguments[arguments.index("--select") + 1]
assert arguments[arguments.index("--workers") + 1].isdecimal()
assert arguments[-2] == "--flake"
print("evaluating", file=sys.stderr)


def nix(function):
    argv = ["nix", "eval", "--json", arguments[-1], "--no-write-lock-file", "--apply", function]
    return subprocess.run(argv, capture_output=True)


for name in json.loads(nix("all: builtins.attrNames ((" + select + ") all)").stdout):
    said = {{"attr": name, "attrPath": [name]}}
    got = nix("all: let d = ((" + select + ") all).${{" + json.dumps(name) + "}}; in [ d.drvPath d.name d.outPath ]")
    if got.returncode == 0:
        drv, own, out = json.loads(got.stdout)
        said.update(drvPath=drv, name=own, outputs={{"out": out}}, system="x86_64-linux")
    else:
        said.update(error=got.stderr.decode())
    print(json.dumps(said), flush=True)
"""


def write_eval_jobs(folder: Path) -> Path:
    """The program, in `folder`. Returns the file in which each call leaves its arguments as a line of JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    program, log = folder / "nix-eval-jobs", folder / "eval-jobs.log"
    program.write_text(_PROGRAM.format(log=str(log)))
    program.chmod(0o755)
    return log


def write_older(folder: Path) -> None:
    """One that doesn't know --select yet: it says so and ends, as Nix's argument parser does."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "nix-eval-jobs"
    program.write_text("#!/bin/sh\necho \"error: unrecognised flag '--select'\" >&2\nexit 1\n")
    program.chmod(0o755)
