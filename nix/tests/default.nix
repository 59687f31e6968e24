# Virtual machines, one per promise: `nix flake check`, or `nix build .#checks.x86_64-linux.NAME`.
#
# A host is told to take systems as they are (evaluate = "server"), because a machine without a network can't evaluate and
# build NixOS. Its second system is a specialisation, so it is in its Nix store already.
{ pkgs, modules }:
let
  make = import ./make.nix { inherit pkgs modules; };

  # Without a boot loader a virtual machine always boots the system that it was made with.
  boots = {
    virtualisation.useBootLoader = true;
    virtualisation.useEFIBoot = true;
    boot.loader.systemd-boot.enable = true;
    boot.loader.timeout = 0;
  };
in
builtins.mapAttrs make {
  # A user that comes with the new system owns his secret, before his service starts.
  ownership.script = ''
    release(second, "s3cret")
    host.succeed("bento-agent run")
    assert shown("token") == "app 440", shown("token")
    host.succeed("systemctl is-active app.service")
    host.succeed("grep -q s3cret /run/app-saw")
  '';

  # A changed secret restarts its units and no others.
  restart.script = ''
    release(second, "one")
    host.succeed("bento-agent run")
    app, other = started("app.service"), started("other.service")
    release(second, "two")
    host.succeed("bento-agent run")
    assert started("app.service") != app
    assert started("other.service") == other
  '';

  # Old generations go; the live one and the one before it stay.
  pruning.script = ''
    for number in range(5):
        release(second, f"content {number}")
        host.succeed("bento-agent run")
    generations = host.succeed("ls /run/bento/generations").split()
    assert len(generations) <= 2, generations
    assert "content 4" in host.succeed("cat /run/bento/secrets/token")
  '';

  # A system that loses the server is undone, with its secrets.
  rollback.second =
    { pkgs, ... }:
    {
      systemd.services.cut = {
        wantedBy = [ "multi-user.target" ];
        path = [ pkgs.iptables ];
        script = "iptables -I OUTPUT -p tcp --dport 22 -j REJECT";
        preStop = "iptables -D OUTPUT -p tcp --dport 22 -j REJECT";
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
        };
      };
    };
  rollback.script = ''
    release(first, "good")
    host.succeed("bento-agent run")
    release(second, "bad")
    status, _ = host.execute("bento-agent run")
    assert status == 5, status
    assert host.succeed("readlink -f /run/current-system").strip() == first
    assert host.succeed("cat /run/bento/secrets/token") == "good"
    assert "rolled back" in server.succeed("cd /root/acme && bento status")
  '';

  # A power cut in the middle of a switch: the machine boots the old system, with its secrets, and says so.
  power-cut.host = boots;
  power-cut.second.systemd.services.slow = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Type = "oneshot";
    script = "sleep 30";
  };
  power-cut.script = ''
    release(first, "before")
    host.succeed("bento-agent run")
    release(second, "after")
    host.execute("bento-agent run >/dev/null 2>&1 &")
    host.wait_until_succeeds("readlink -f /run/current-system | grep -qxF " + second)
    assert "switching" in host.succeed("bento-agent status")
    host.crash()
    host.start()
    host.wait_for_unit("multi-user.target")
    assert host.succeed("readlink -f /run/current-system").strip() == first
    assert host.succeed("cat /run/bento/secrets/token") == "before"
    host.wait_for_unit("bento-recover.service")
    assert '"phase": "idle"' in host.succeed("bento-agent status --json")
    host.succeed("bento-agent run")
    assert host.succeed("cat /run/bento/secrets/token") == "after"
    assert "rolled-back" in server.succeed("cd /root/acme && bento logs host --last 10")
  '';

  # After a reboot secrets are there before the service that needs them, and without the server.
  reboot.host = boots;
  reboot.script = ''
    release(second, "kept")
    host.succeed("bento-agent run")
    server.crash()
    host.shutdown()
    host.start()
    host.wait_for_unit("app.service")
    assert host.succeed("cat /run/bento/secrets/token") == "kept"
    host.succeed("grep -q kept /run/app-saw")
  '';

  # The same where systemd-sysusers makes users.
  sysusers.host = {
    imports = [ boots ];
    systemd.sysusers.enable = true;
    users.mutableUsers = true;
  };
  sysusers.script = ''
    release(second, "by sysusers")
    host.succeed("bento-agent run")
    assert shown("token") == "app 440", shown("token")
    host.succeed("systemctl is-active app.service")
    host.shutdown()
    host.start()
    host.wait_for_unit("app.service")
    assert shown("token") == "app 440", shown("token")
  '';

  # And where userborn does.
  userborn.host = {
    imports = [ boots ];
    services.userborn.enable = true;
  };
  userborn.script = ''
    release(second, "by userborn")
    host.succeed("bento-agent run")
    assert shown("token") == "app 440", shown("token")
    host.shutdown()
    host.start()
    host.wait_for_unit("app.service")
    assert shown("token") == "app 440", shown("token")
  '';

  # No plaintext on a disk or in a journal of either machine. The control: a search that finds what was planted.
  no-plaintext.script = ''
    marker = "MARKER" + "-OF-THE-SECRET"
    release(second, marker)
    host.succeed("bento-agent run")
    host.succeed("sync")
    search = "grep -rlF %s / --exclude-dir=proc --exclude-dir=sys --exclude-dir=run --exclude-dir=dev 2>/dev/null" % marker
    for machine in (host, server):
        found = [line for line in machine.execute(search)[1].split() if "test-driver" not in line]
        assert found == [], found
        assert marker not in machine.succeed("journalctl --output=cat --grep='release' || true")
    host.succeed(f"echo {marker} >/var/planted")
    assert "/var/planted" in host.execute(search)[1]
  '';
}
