# NixOS module: the fleet's SFTP server in a NixOS container without privileges, so that this machine's own accounts and
# sshd stay as they are. docs/nixos.md shows its use.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.bento-container;
in
{
  options.services.bento-container = {
    enable = lib.mkEnableOption "the SFTP server of a Bento fleet in a container";

    fleetFile = mkOption {
      type = types.path;
      example = lib.literalExpression "./bento.toml";
      description = "The fleet's `bento.toml`, as for {option}`services.bento-server.fleetFile`.";
    };

    port = mkOption {
      type = types.port;
      default = 2222;
      description = "The port of this machine at which the container's sshd is reached: `port` in `utils/trust.toml`.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open {option}`port` in this machine's firewall.";
    };

    settings = mkOption {
      type = types.attrsOf types.anything;
      default = { };
      example = {
        publishers = [ "ssh-ed25519 AAAA… admin" ];
      };
      description = "Further options of {option}`services.bento-server` inside the container.";
    };
  };

  config = mkIf cfg.enable {
    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall [ cfg.port ];

    containers.bento = {
      autoStart = true;
      # Its root is nobody on this machine: a range of user ids of its own.
      privateUsers = "pick";
      config = {
        imports = [ ./server.nix ];
        system.stateVersion = lib.mkDefault config.system.stateVersion;
        services.openssh.ports = [ cfg.port ];
        services.bento-server = {
          enable = true;
          inherit (cfg) fleetFile;
        }
        // cfg.settings;
      };
    };
  };
}
