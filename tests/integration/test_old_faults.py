"""What the bash Bento got wrong, fault by fault.

Each fault, and the test that shows it gone; one without a file is below. A last test holds this list against the files.

    rolls back on a missing link even if nothing was switched
        test_a_missing_link_rolls_nothing_back_where_nothing_was_switched
    the link check overwrites the build log before upload
        test_rollback.py test_a_build_that_fails_on_the_host_changes_nothing_and_its_log_reaches_the_admin
    `switch | tee` hides failure
        test_a_switch_that_fails_is_a_failure_whatever_it_prints
        test_rollback.py test_a_switch_that_fails_leaves_system_boot_default_and_secrets_as_they_were
        test_agent_switch.py test_each_way_a_switch_can_end_leaves_all_of_one_release_in_force
    a failed build prints "success" and is published
        test_a_failed_build_is_never_called_a_success_nor_published_over_what_worked
    sftp on stdin hides a failed get, so partial trees are built as root
        test_a_configuration_that_came_in_part_is_not_built
        test_atomic_publish.py test_no_pull_is_a_mixture_while_releases_come_and_go
    trusts any host key on first use, and always with a port other than 22 (the tests' server has one)
        test_trust.py test_a_server_with_another_host_key_gets_nothing_and_gives_nothing
    unsigned scripts from the server run as root
        test_trust.py test_the_host_refuses_reports_and_stays_as_it_was
    `rsync -L` as root publishes /etc/shadow through a symlink
        test_a_symlink_to_a_file_of_this_machine_publishes_nothing
        ../unit/admin/test_pack.py test_a_symlink_by_way_of_another_is_refused_too
    the change token is an `ls -l` line with minute precision, so a second publish in a minute is lost
        test_two_publishes_that_look_the_same_in_ls_are_both_seen
        test_two_publishes_within_one_second_are_both_seen
        ../unit/core/test_deploy_plan.py test_a_serial_is_the_time_or_one_more_than_the_last
    state is written after failure, so it never retries
        test_a_release_that_failed_is_tried_again
    log names by the client's clock, lost when offline
        test_reports_are_in_the_order_of_the_runs_whatever_the_host_s_clock_says
        test_a_report_made_offline_arrives_later
    `sed /^web/d` forgets web1 and web10
        test_hosts_whose_names_begin_alike_are_left_alone
    host names with `_` break parsing
        test_a_host_name_with_underscores_goes_all_the_way
    one missing user stops the whole deploy
        test_a_host_without_a_user_stops_no_other
        test_one_missing_user_and_one_broken_host_among_ten_harm_only_themselves
        test_hosts_that_cannot_be_packed_or_built_harm_only_themselves
    publish during an update is never "up to date"
        test_what_is_published_during_an_update_is_pending_and_taken_by_the_next_run
    a change of its own unit kills the update
        test_agent_switch.py test_a_switch_runs_apart_from_the_agent_and_a_timer_would_undo_it
    the server away at the end
        test_rollback.py test_without_the_server_after_the_switch_everything_goes_back_and_it_is_called_unconfirmed
    both sides build other paths from the same files
        test_the_same_tree_builds_to_the_same_path_on_both_sides
    no local, remote and common build arguments
        test_build_arguments_reach_the_side_that_they_are_for
    no flake update without a new configuration
        test_flake_update.py test_what_moved_is_shown_and_locked_and_can_be_deployed
        test_self_update.py test_with_nothing_new_the_named_input_is_updated_reported_and_no_file_of_the_release_changes
    no way to publish to another server, nor to deploy without root
        test_sftp_publish.py test_a_publisher_who_is_nobody_s_root_deploys_and_hosts_follow
    no word to the user of the machine
        test_desktop_notice.py test_an_update_is_told_where_that_is_wanted
    no trigger by ssh
        test_pushing.py test_a_trigger_runs_the_agent_shows_what_it_says_and_ends_as_it_did
    `TARGET_IP=… build switch`, which this Bento has no use for, switches the machine at hand
        test_what_the_old_bento_did_to_another_machine_is_not_done_to_this_one
"""

import ast
import json
import os
import re
import subprocess
from pathlib import Path

from unit.samples import manifest, report

from bento.core.host_state import derive
from bento.demo.systems import Behaviour, System, flake
from rig import make_ssh_key
from rig.clock import stopped
from rig.root import PrivateRoot
from rig.sources import parsed
from rig.world import PROGRAMS, Machine, World, said

HERE = Path(__file__)


def test_a_missing_link_rolls_nothing_back_where_nothing_was_switched(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    before = (web.root.running(), web.root.switches())
    world.sshd.stop()
    assert "rolled" not in web.run(code=1)
    assert (web.root.running(), web.root.switches()) == before


def test_a_switch_that_fails_is_a_failure_whatever_it_prints(world: World) -> None:
    desk = world.add("desk", system=System(behaviour=Behaviour.FAIL_AFTER))
    command = f"{PROGRAMS}/bento --dir {world.fleet} build switch --on {desk.name} --yes {desk.name}"
    # Through a pipe, as the old one was: Bento's own status is the failure's, and the words get through.
    piped = f"{{ {command} 2>&1; echo status $?; }} | tee {world.folder}/log"
    done = world.admin.run(["sh", "-c", piped])
    assert b"status 1\n" in done.stdout, said(done)
    assert b"the activation script failed" in done.stdout


def test_a_failed_build_is_never_called_a_success_nor_published_over_what_worked(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    good = world.manifest(web).read_bytes()
    web.write(System(build_fails=True))
    for command in (("build",), ("deploy",)):
        done = world.try_bento(*command)
        assert done.returncode == 1, said(done)
        assert "build failed" in said(done)
        assert not re.search(r"\b(built /|success|published [0-9]{5})", said(done))
    assert world.manifest(web).read_bytes() == good


def test_a_configuration_that_came_in_part_is_not_built(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    release = world.manifest(web).parent
    digest = json.loads(world.manifest(web).read_bytes().split(b"\n")[0])["config"]["digest"]
    config = release / "objects" / digest
    whole = config.read_bytes()
    config.unlink()
    config.write_bytes(whole[: len(whole) // 2])
    web.run(code=6)
    assert web.root.running() is None
    assert not list(web.root.on_disk("/nix").glob("store/*-nixos-system-*"))
    config.write_bytes(whole)
    web.run()
    assert world.status(web)["state"] == "up to date"


def test_a_symlink_to_a_file_of_this_machine_publishes_nothing(world: World) -> None:
    web = world.add("web")
    (web.source / "shadow").symlink_to("/etc/shadow")
    done = world.try_bento("deploy")
    assert done.returncode == 2, said(done)
    assert "/etc/shadow" in said(done)
    secret = Path("/etc/shadow").read_bytes().splitlines()[0]
    published = [path for path in world.sshd.publish.rglob("*") if path.is_file()]
    assert all(secret not in path.read_bytes() for path in published)
    assert not world.manifest(web).exists()


def test_two_publishes_that_look_the_same_in_ls_are_both_seen(world: World) -> None:
    web = world.add("web", system=System("nil"))
    world.bento("deploy")
    web.write(System("one"))
    world.bento("deploy")
    first = world.manifest(web).stat()
    web.run()
    web.write(System("two"))
    world.bento("deploy")
    os.utime(world.manifest(web), ns=(first.st_atime_ns, first.st_mtime_ns))
    second = world.manifest(web).stat()
    # Whatever `ls -l` shows is the same.
    for field in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime_ns"):
        assert getattr(first, field) == getattr(second, field)
    assert world.status(web)["state"] == "rebuild pending"
    web.run()
    assert web.root.path(f"{web.root.running()}/etc/message").read_text() == "two\n"


def test_a_release_that_failed_is_tried_again(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    blocked = web.root.on_disk("/nix/var/boot")
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("in the way of the switch")
    web.run(code=5)
    assert world.status(web)["state"] == "rolled back"
    blocked.unlink()
    assert web.agent("retry").returncode == 0
    web.run()
    assert world.status(web)["state"] == "up to date"


def test_reports_are_in_the_order_of_the_runs_whatever_the_host_s_clock_says() -> None:
    # The clock went back ten years between two runs: the later run is the one that counts.
    runs = [report(7, time=1_800_000_000, outcome="failed"), report(8, time=1_480_000_000)]
    assert derive(manifest(), runs, None).state == "up to date"
    assert derive(manifest(), runs[::-1], None).state == "up to date"


def test_a_report_made_offline_arrives_later(world: World) -> None:
    web = world.add("web", system=System(behaviour=Behaviour.HOOK))
    # The link goes in mid-switch and stays away: the report of it can't be sent.
    hook = web.root.on_disk("/nix/var/boot/hook")
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(f"chmod 0 {world.sshd.publish}/{web.name}/reports; exit 1\n")
    world.bento("deploy")
    web.run(code=5)
    reports = world.sshd.publish / web.name / "reports"
    assert not list(reports.glob("*.report"))
    reports.chmod(0o2770)
    web.agent("run")
    assert json.loads(world.bento("logs", web.name, "--json"))[0]["outcome"] == "rolled-back"


def test_hosts_whose_names_begin_alike_are_left_alone(world: World) -> None:
    hosts = [world.add(word) for word in ("web", "web1", "web10")]
    web, web1, web10 = hosts
    for machine in hosts:
        world.bento("secret", "add", machine.name, "-", "--name", "token", stdin=machine.word.encode())
    world.bento("deploy", "--on", web1.name)
    assert [world.manifest(machine).exists() for machine in hosts] == [False, True, False]
    world.bento("deploy")
    before = [world.manifest(machine).read_bytes() for machine in (web1, web10)]
    web.write(System("only web"))
    world.bento("deploy", "--on", web.name)
    world.bento("secret", "remove", web.name, "token")
    world.bento("deploy")
    assert [world.manifest(machine).read_bytes() for machine in (web1, web10)] == before
    for machine in hosts:
        machine.run()
    assert [machine.secret("token") for machine in hosts] == [None, b"web1", b"web10"]
    assert [row["host"] for row in json.loads(world.bento("status", "--json", "--on", web.name))] == [web.name]
    assert [world.status(machine)["state"] for machine in hosts] == ["up to date"] * 3


def test_a_host_name_with_underscores_goes_all_the_way(world: World) -> None:
    machine = world.add("_my_web_")
    world.bento("secret", "add", machine.name, "-", "--name", "token", stdin=b"1")
    world.bento("deploy", "--on", machine.name)
    machine.run()
    assert machine.secret("token") == b"1"
    assert world.status(machine)["state"] == "up to date"
    assert "  succeeded  " in world.bento("logs", machine.name)
    assert world.bento("diff") == f"{machine.name}: nothing changes\n"


def test_a_host_without_a_user_stops_no_other(world: World, tmp_path: Path) -> None:
    web = world.add("web")
    lone = tmp_path / "lone"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", lone], check=True)
    world.bento("host", "add", "nobody-of-that-name", "--key-file", f"{lone}.pub")
    Machine("x", "nobody-of-that-name", web.root, lone, world.fleet / "hosts/nobody-of-that-name", "flake").write(
        System()
    )
    done = world.try_bento("deploy")
    assert done.returncode == 0, said(done)
    assert "no account on this machine, so they can't log in here: nobody-of-that-name" in done.stderr.decode()
    web.run()
    states = {row["host"]: row["state"] for row in json.loads(world.bento("status", "--json"))}
    assert states == {web.name: "up to date", "nobody-of-that-name": "new machine"}


def test_hosts_that_cannot_be_packed_or_built_harm_only_themselves(world: World) -> None:
    good, leak, broken = world.add("good"), world.add("leak"), world.add("broken", kind="channel")
    (leak.source / "shadow").symlink_to("/etc/shadow")
    (broken.source / "configuration.nix").write_text("{ this is no Nix\n")
    done = world.try_bento("deploy", "--json")
    assert done.returncode == 3, said(done)
    facts = json.loads(done.stdout)
    assert list(facts["published"]) == [good.name]
    assert set(facts["failed"]) == {leak.name, broken.name}
    assert "leads out of the fleet" in facts["failed"][leak.name]
    good.run()


def test_what_is_published_during_an_update_is_pending_and_taken_by_the_next_run(world: World) -> None:
    web = world.add("web", system=System("first", Behaviour.HOOK))
    hook = web.root.on_disk("/nix/var/boot/hook")
    hook.parent.mkdir(parents=True, exist_ok=True)
    flags = world.folder
    install = f'exec {PROGRAMS}/bento-agent --config {web.config} install-secrets --system "$1"\n'
    os.mkfifo(flags / "switching")
    os.mkfifo(flags / "go")
    hook.write_text(f"echo >{flags}/switching; read -r _ <{flags}/go; {install}")
    world.bento("deploy")
    run = web.root.popen([PROGRAMS / "bento-agent", "--config", web.config, "run"])
    (flags / "switching").read_bytes()  # it is in the middle of its switch to the first

    web.write(System("second", Behaviour.HOOK))
    world.bento("deploy")
    seen = [world.status(web)["state"]]
    (flags / "go").write_text("\n")
    assert run.wait(60) == 0
    seen.append(world.status(web)["state"])
    hook.write_text(install)
    web.run()
    seen.append(world.status(web)["state"])

    assert seen == ["new machine", "rebuild pending", "up to date"]
    assert web.root.path(f"{web.root.running()}/etc/message").read_text() == "second\n"


def test_the_same_tree_builds_to_the_same_path_on_both_sides(world: World) -> None:
    web = world.add("web")
    # The path depends on everything that could differ between two machines.
    text = flake({web.name: System("MESSAGE")})
    depends = "${toString self.lastModified} ${self.narHash} ${builtins.readFile ./utils/text} ${./script}"
    (web.source / "flake.nix").write_text(text.replace('"MESSAGE"', f'"{depends}"'))
    (world.fleet / "utils/text").write_text("shared")
    (web.source / "utils").symlink_to("../../utils")
    script = web.source / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    os.utime(script, (1, 1))
    world.bento("deploy")
    assert "builds another system" not in web.run()
    assert web.root.running() == world.status(web)["published"]["system"]
    first = web.root.running()
    assert " shared /nix/store/" in web.root.path(f"{first}/etc/message").read_text()
    # The same files, written anew by another admin's umask and clock.
    for path in (script, web.source / "flake.nix"):
        path.write_bytes(path.read_bytes())
        path.chmod(path.stat().st_mode | 0o055)
    assert world.bento("build").split()[1] == first
    assert json.loads(world.bento("deploy", "--json"))["published"][web.name]["changed"] is None


def recorded(root: PrivateRoot, folder: Path) -> dict[str, str]:
    """An environment in which nix-build writes down its arguments before it works."""
    folder.mkdir()
    real = root.text(["which", "nix-build"])
    (folder / "nix-build").write_text(f'#!/bin/sh\necho "$*" >>{folder}/asked\nexec {real} "$@"\n')
    (folder / "nix-build").chmod(0o755)
    return {"PATH": f"{folder}:{root.env['PATH']}"}


def test_build_arguments_reach_the_side_that_they_are_for(world: World) -> None:
    old = world.add("old", kind="channel")
    settings = world.fleet / "bento.toml"
    text = settings.read_text()
    for key, word in (("args", "both"), ("local_args", "here"), ("remote_args", "there")):
        text = re.sub(rf"^{key} = \[\]", f'{key} = ["--argstr", "{word}", "1"]', text, flags=re.MULTILINE)
    settings.write_text(text)
    admin, host = world.folder / "asked-admin", world.folder / "asked-host"
    done = world.try_bento("deploy", env=recorded(world.admin, admin))
    assert done.returncode == 0, said(done)
    done = old.agent("run", env=recorded(old.root, host))
    assert done.returncode == 0, said(done)
    assert (admin / "asked").read_text().strip().endswith(" --argstr both 1 --argstr here 1")
    assert (host / "asked").read_text().strip().endswith(" --argstr both 1 --argstr there 1")


def test_what_the_old_bento_did_to_another_machine_is_not_done_to_this_one(world: World) -> None:
    web = world.add("web")
    for action in ("test", "switch"):
        words = ("build", action, "--yes", web.name)
        done = world.try_bento(*words, env={"TARGET_IP": "192.0.2.7", "NAME": web.name})
        assert done.returncode == 2, said(done)
        assert f"to deploy to that host: bento push {web.name}" in done.stderr.decode()
    assert world.admin.running() is None
    assert world.admin.switches() == []


def test_one_missing_user_and_one_broken_host_among_ten_harm_only_themselves(world: World, tmp_path: Path) -> None:
    good = [world.add(f"h{number}", kind="channel" if number % 2 else "flake") for number in range(8)]
    broken = world.add("broken")
    broken.write(System(build_fails=True))
    lone = make_ssh_key(tmp_path / "lone")
    world.bento("host", "add", "nobody-of-that-name", "--key-file", f"{lone.path}.pub")
    source = world.fleet / "hosts/nobody-of-that-name"
    Machine("x", source.name, broken.root, lone.path, source, "flake").write(System())
    done = world.try_bento("deploy", "--json")
    assert done.returncode == 3, said(done)
    facts = json.loads(done.stdout)
    assert set(facts["published"]) == {source.name, *(machine.name for machine in good)}
    assert list(facts["failed"]) == [broken.name]
    for machine in good:
        machine.run()
    states = {row["host"]: row["state"] for row in json.loads(world.bento("status", "--json"))}
    assert [states.pop(machine.name) for machine in good] == ["up to date"] * 8
    assert states == {broken.name: "not published", source.name: "new machine"}


def test_two_publishes_within_one_second_are_both_seen(world: World) -> None:
    web = world.add("web", system=System("one"))
    clock, told = stopped(world.folder / "clock"), []
    for number in (1, 2):
        world.bento("secret", "add", web.name, "-", "--name", f"s{number}", stdin=b"x")
        done = world.try_bento("deploy", "--json", env=clock)
        assert done.returncode == 0, said(done)
        told.append(json.loads(done.stdout)["published"][web.name]["serial"])
        web.run()
        assert web.secret(f"s{number}") == b"x"
        assert world.status(web)["state"] == "up to date"
    assert told[1] == told[0] + 1


def test_every_fault_above_names_a_test_that_there_is() -> None:
    named = re.findall(
        r"^        (?:(\S+\.py) )?(test_\w+)$",
        ast.get_docstring(parsed(HERE), clean=False) or "",
        re.MULTILINE,
    )
    assert len(named) > 20
    for file, name in named:
        source = parsed(HERE.parent / file if file else HERE)
        assert name in {node.name for node in ast.walk(source) if isinstance(node, ast.FunctionDef)}, (file, name)
