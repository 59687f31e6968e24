# One virtual machine test: a server with the fleet, and a host with two systems. `host` and `second` are further modules.
{ pkgs, modules }:
name:
{
  script,
  host ? { },
  second ? { },
}:
let
  # nixpkgs' own throw-away key: server, host and signer in one, since nothing here is about telling them apart.
  keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;
  public = keys.snakeOilEd25519PublicKey;
  keyFile = {
    source = keys.snakeOilEd25519PrivateKey;
    mode = "0600";
  };
  fleetFile = builtins.toFile "bento.toml" ''
    [publish]
    to = "/home/chroot"
    [build]
    mode = "dry-build"
    [defaults]
    evaluate = "server"
    [hosts.host]
    keys = ["${public}"]
  '';
  trustFile = builtins.toFile "trust.toml" ''
    format = 1
    fleet = "acme"
    signers = ["${public}"]
    [[servers]]
    address = "server"
    host_keys = ["${public}"]
  '';
in
pkgs.testers.runNixOSTest {
  name = "bento-${name}";

  node.pkgsReadOnly = false; # the modules bring an overlay

  nodes.server =
    { pkgs, nodes, ... }:
    {
      imports = [ modules.server ];
      services.bento-server = {
        enable = true;
        inherit fleetFile;
      };
      environment.etc."ssh/ssh_host_ed25519_key" = keyFile;
      environment.systemPackages = [
        pkgs.bento-fleet
        pkgs.git
      ];
      nix.settings.experimental-features = [
        "nix-command"
        "flakes"
      ];
      # so that the systems' declarations can be read here
      virtualisation.additionalPaths = [
        nodes.host.system.build.toplevel
        nodes.host.specialisation.second.configuration.system.build.toplevel
      ];
    };

  nodes.host =
    { pkgs, ... }:
    {
      imports = [
        modules.agent
        host
      ];
      services.bento = {
        enable = true;
        inherit trustFile;
        suspend = true; # the test says when
        confirm.timeout = 20;
      };
      environment.etc."ssh/ssh_host_ed25519_key" = keyFile;
      bento.secrets.token = { };
      specialisation.second.configuration = {
        imports = [ second ];
        users.users.app = {
          isSystemUser = true;
          group = "app";
        };
        users.groups.app = { };
        bento.secrets.token = {
          owner = "app";
          mode = "0440";
          restartUnits = [ "app.service" ];
        };
        systemd.services.app = {
          wantedBy = [ "multi-user.target" ];
          script = "cat /run/bento/secrets/token >/run/app-saw; exec sleep infinity";
        };
        systemd.services.other = {
          wantedBy = [ "multi-user.target" ];
          script = "exec sleep infinity";
        };
      };
      system.switch.enable = true;
    };

  testScript =
    { nodes, ... }:
    ''
      first = "${nodes.host.system.build.toplevel}"
      second = "${nodes.host.specialisation.second.configuration.system.build.toplevel}"

      released: list[str] = []

      def release(system, secret):
          """Publish a system and a secret for the host."""
          found = '{ outPath = "%s"; drvPath = "%s.drv"; }' % (system, system)
          flake = "{ outputs = _: { nixosConfigurations.host.config.system.build.toplevel = %s; }; }" % found
          server.succeed(f"mkdir -p /root/acme/hosts/host && cat >/root/acme/hosts/host/flake.nix <<'EOF'\n{flake}\nEOF")
          replace = "--replace" if released else ""
          released.append(system)
          server.succeed(
              f"cd /root/acme && printf %s '{secret}' | bento secret add host - --name token {replace} && bento deploy"
          )

      def shown(secret):
          return host.succeed(f"stat -L -c '%U %a' /run/bento/secrets/{secret}").strip()

      def started(unit):
          return host.succeed(f"systemctl show --value --property=ExecMainStartTimestampMonotonic {unit}").strip()

      start_all()
      server.wait_for_unit("sshd.service")
      host.wait_for_unit("multi-user.target")
      server.succeed(
          "bento init /root/acme --address server --server-key '${public}' --signing-key /etc/ssh/ssh_host_ed25519_key"
      )
      server.succeed("cp ${fleetFile} /root/acme/bento.toml && cp ${trustFile} /root/acme/utils/trust.toml")
      ${script}
    '';
}
