# The options of a host: `bento.secrets` and `services.bento`. nix/agent.nix acts on them.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;

  userborn = options.services ? userborn && config.services.userborn.enable;

  runtime = "/run/bento"; # the agent's own default; part of the interface (docs/on-the-host.md)

  secretType = types.submodule (
    { name, config, ... }:
    {
      options = {
        owner = mkOption {
          type = types.str;
          default = "root";
          example = "nginx";
          description = "The user whose file it is, by name or number. He may come with this very configuration.";
        };
        group = mkOption {
          type = types.str;
          default = "root";
          description = "The file's group, by name or number.";
        };
        mode = mkOption {
          type = types.strMatching "0?[0-7]{3}";
          default = "0400";
          apply = mode: if lib.stringLength mode == 3 then "0${mode}" else mode;
          description = "The file's mode, in octal.";
        };
        link = mkOption {
          type = types.nullOr (types.strMatching "/.*");
          default = null;
          example = "/etc/app/key.pem";
          description = ''
            Where a symlink to the secret should stand, for a program that can't be told {option}`path`. It is made only
            where nothing or Bento's own link stands.
          '';
        };
        restartUnits = mkOption {
          type = types.listOf types.str;
          default = [ ];
          example = [ "nginx.service" ];
          description = "Units to restart when the secret's content, owner, group or mode changes.";
        };
        reloadUnits = mkOption {
          type = types.listOf types.str;
          default = [ ];
          description = "Units to reload when it changes; {option}`restartUnits` wins.";
        };
        neededForUsers = mkOption {
          type = types.bool;
          default = false;
          description = ''
            Whether it must be there before users are made, as a password's hash for
            {option}`users.users.<name>.hashedPasswordFile`. Such a secret is root's, 0400, and has no link.
          '';
        };
        template = mkOption {
          type = types.nullOr types.lines;
          default = null;
          example = lib.literalExpression ''
            '''
              DATABASE_URL=postgres://app:{{ secret "db/password" }}@db/app
            '''
          '';
          description = ''
            Makes this a text that secrets are filled into on the host, in RAM: `{{ secret "NAME" }}` is replaced by that
            secret's content. The text itself is signed and published, and lies in the Nix store: it is no place for a
            secret.
          '';
        };
        path = mkOption {
          type = types.str;
          readOnly = true;
          default = "${runtime}/secrets${lib.optionalString config.neededForUsers "-for-users"}/${name}";
          defaultText = lib.literalMD "`/run/bento/secrets/NAME`, or `/run/bento/secrets-for-users/NAME`";
          description = "Where the secret lies on the host: for other options to name. It never changes.";
        };
      };
      # A switch starts it only where its own unit is another, and a password's hash is no part of that.
      config.restartUnits = lib.mkIf (config.neededForUsers && userborn) [ "userborn.service" ];
    }
  );
in
{
  options.bento.secrets = mkOption {
    type = types.attrsOf secretType;
    default = { };
    example = lib.literalExpression ''
      {
        "db/password" = {
          owner = "postgres";
          restartUnits = [ "postgresql.service" ];
        };
      }
    '';
    description = ''
      The secrets that this machine needs, by their names in the fleet's secret store. Their content never comes into
      Nix's hands: seal it with `bento secret add HOST FILE --name NAME`. A deploy fails, naming the secret, if one is
      declared here that the secret store lacks.
    '';
  };

  options.services.bento = {
    enable = lib.mkEnableOption "Bento's agent, which keeps this machine at the release that its admin signed for it";

    package = mkOption {
      type = types.package;
      default = pkgs.bento-agent or (pkgs.callPackage ./package.nix { }).bento-agent;
      defaultText = lib.literalExpression "pkgs.bento-agent";
      description = "The package with `bento-agent`.";
    };

    host = mkOption {
      type = types.strMatching "[a-z_][a-z0-9_-]{0,30}";
      default = config.networking.hostName;
      defaultText = lib.literalExpression "config.networking.hostName";
      description = "The host's name in the fleet, which is its login at the server.";
    };

    trustFile = mkOption {
      type = types.path;
      example = lib.literalExpression "./utils/trust.toml";
      description = ''
        The fleet's `utils/trust.toml`: servers, their host keys, and whose signature counts. With the link
        `hosts/NAME/utils -> ../../utils` that is `./utils/trust.toml`. It holds nothing secret.
      '';
    };

    identities = mkOption {
      type = types.nonEmptyListOf (types.strMatching "/.*");
      default = [ "/etc/ssh/ssh_host_ed25519_key" ];
      description = ''
        Private SSH keys of this host. The first logs in at the server; any may open secrets, so that a host key can
        rotate. A path on the machine, never one in the Nix store.
      '';
    };

    path = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.corkscrew ]";
      description = ''
        Programs that the agent finds beside Nix, Git and OpenSSH: what a `proxy_command` in the trust file names, or what
        {option}`confirm.commands` call.
      '';
    };

    interval = mkOption {
      type = types.str;
      default = "5min";
      example = "1h";
      description = "How long after a poll the next one begins, as systemd.time(7) writes it.";
    };

    splay = mkOption {
      type = types.str;
      default = "2min";
      description = ''
        Up to how much later each poll begins. The delay is the same on a host each time and differs between hosts, so
        that they don't all come at once.
      '';
    };

    suspend = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the machine doesn't poll by itself. `systemctl start bento-agent` still does.";
    };

    confirm = {
      timeout = mkOption {
        type = types.ints.between 1 3600;
        default = 120;
        description = "Seconds in which a new system must reach the server again, or it is rolled back.";
      };
      deadline = mkOption {
        type = types.nullOr (types.ints.between 2 86400);
        default = null;
        description = ''
          Seconds from the beginning of a switch until a timer outside of the agent undoes it, if the agent hasn't. null
          is the agent's own default.
        '';
      };
      failedUnits = mkOption {
        type = types.nullOr (
          types.enum [
            "fail"
            "degrade"
            "ignore"
          ]
        );
        default = null;
        description = ''
          What it means if a unit fails that didn't before: roll back, report "degraded", or nothing. null is the agent's
          own default.
        '';
      };
      commands = mkOption {
        type = types.listOf (
          types.submodule {
            options = {
              run = mkOption {
                type = types.nonEmptyListOf types.str;
                example = lib.literalExpression ''[ "''${pkgs.curl}/bin/curl" "--fail" "http://localhost/" ]'';
                description = "Program and arguments; no shell.";
              };
              timeout = mkOption {
                type = types.ints.between 1 3600;
                default = 30;
                description = "Seconds after which it counts as failed.";
              };
            };
          }
        );
        default = [ ];
        description = "Programs that must end with 0 before a new system is confirmed.";
      };
    };

    notices = mkOption {
      type = types.bool;
      default = true;
      description = "Whether people who are logged in are told when an update was made or a reboot is wanted.";
    };

    metricsFile = mkOption {
      type = types.nullOr (types.strMatching "/.*\\.prom");
      default = null;
      example = "/var/lib/node-exporter/bento.prom";
      description = "Where to write the host's state for Prometheus's node_exporter (its textfile collector).";
    };

    trigger = {
      enable = lib.mkEnableOption ''
        a socket that starts a poll when somebody connects, for `bento trigger`. Whoever connects learns with which exit code
        the poll ended, and no more; nothing that he sends is read, and a poll takes only what is signed. At most one in
        ten seconds is started'';
      address = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "10.0.0.7";
        description = "The one address to listen on. There is no default: it should be one that few can reach.";
      };
      port = mkOption {
        type = types.port;
        default = 7374;
        description = "The TCP port to listen on.";
      };
      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = "Whether to open {option}`port` in this machine's firewall, on all its interfaces.";
      };
    };

    settings = mkOption {
      type = types.submodule { freeformType = types.attrsOf types.anything; };
      default = { };
      example = {
        confirm.timeout = 300;
      };
      description = ''
        The agent's `agent.toml`. The options above write into it; whatever else the agent knows can be set here. It is
        checked by the agent while the system is built.
      '';
    };
  };
}
