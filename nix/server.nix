# NixOS module: this machine is the SFTP server of a fleet. On other distributions `bento server apply` makes the same.
# docs/nixos.md shows its use.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkOption types;

  cfg = config.services.bento-server;
  fleet = lib.importTOML cfg.fleetFile;
  asked = fleet.server or { };
  hosts = fleet.hosts or { };
  names = lib.attrNames hosts;
  # A folder that the fleet file publishes to, if it is on this machine: as `bento server apply` reads it.
  local = lib.filter (lib.hasPrefix "/") (lib.toList (fleet.publish.to or [ ]));

  # Runs while the system is built, so it must be of the building machine's kind.
  validator =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      config.services.bento.package
    else
      (pkgs.pkgsBuildBuild.callPackage ./package.nix { }).bento-agent;

  group = "bento-hosts";
  publisher = "bento-publisher";
  hasPublisher = cfg.publishers != [ ];
  owner = if hasPublisher then publisher else "root";

  # As bento/core/server_wish.py has it.
  startups =
    let
      first = lib.max 100 (2 * lib.length names);
    in
    "${toString first}:30:${toString (2 * first)}";

  # systemd-sysusers takes initial passwords only. No password fits this one, and the account isn't locked.
  password =
    if options.systemd ? sysusers && config.systemd.sysusers.enable then
      "initialHashedPassword"
    else
      "hashedPassword";

  account = keys: {
    isSystemUser = true;
    ${password} = "*";
    home = "/var/empty";
    createHome = false;
    openssh.authorizedKeys.keys = map (key: "restrict ${key}") keys;
  };

  holds = import ./lib/file-system.nix config.fileSystems cfg.folder;

  # A file system's own quotas: a host can fill its share of the disk and no more.
  quotas = pkgs.writeText "bento-quotas" (
    lib.concatMapStrings (
      name: "${name} 0 ${toString (cfg.quota.size * 1024)} 0 ${toString cfg.quota.files}\n"
    ) names
  );
in
{
  imports = [ ./agent.nix ]; # for bento.secrets: the cache's signing key is one

  options.services.bento-server = {
    enable = lib.mkEnableOption "the SFTP server of a Bento fleet";

    fleetFile = mkOption {
      type = types.path;
      example = lib.literalExpression "./bento.toml";
      description = ''
        The fleet's `bento.toml`: its hosts become accounts that see their own folder and nothing else. It holds public
        keys only, and comes into the Nix store.
      '';
    };

    folder = mkOption {
      type = types.strMatching "/[^[:space:]%\"\\$`]*";
      default = asked.folder or (lib.head (local ++ [ "/home/chroot" ]));
      defaultText = lib.literalMD "`server.folder` of the fleet file, or the folder that it publishes to, or `/home/chroot`";
      description = "Where the hosts' folders lie. It and all above it must be root's, and writable for nobody else.";
    };

    publishers = mkOption {
      type = types.listOf types.str;
      default = asked.publishers or [ ];
      defaultText = lib.literalMD "`server.publishers` of the fleet file";
      example = [ "ssh-ed25519 AAAA… admin" ];
      description = ''
        SSH keys that may publish, by SFTP and without being root:
        `[publish] to = "sftp://bento-publisher@SERVER/"`. Without any there is no such account, and root publishes here.
      '';
    };

    quota = {
      enable = lib.mkEnableOption ''
        a limit to what a host can put into its `reports`. The file system of {option}`folder` must be mounted with
        `usrquota`, and be ext4 or another that keeps quotas in itself'';
      size = mkOption {
        type = types.ints.between 1 1048576;
        default = asked.quota or 64;
        defaultText = lib.literalMD "`server.quota` of the fleet file, or 64";
        description = "MiB for each host.";
      };
      files = mkOption {
        type = types.ints.positive;
        default = 4096;
        description = "Files for each host.";
      };
    };

    cache = {
      enable = lib.mkEnableOption ''
        a binary cache of this machine's Nix store for the hosts (nix-serve). What was published lies there; no secret is
        in it'';
      secret = mkOption {
        type = types.str;
        default = "binary-cache-key";
        description = ''
          The name of the Bento secret that holds the cache's signing key, made by
          `nix-store --generate-binary-cache-key`. This machine is then a host of the fleet too.
        '';
      };
      address = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "10.0.0.1";
        description = "The address to listen on. There is no default: it should be one that the hosts reach and few others.";
      };
      port = mkOption {
        type = types.port;
        default = 5000;
        description = "The TCP port to listen on.";
      };
      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = "Whether to open {option}`port` in this machine's firewall, on all its interfaces.";
      };
    };
  };

  config = lib.mkMerge [
    (mkIf cfg.enable {
      assertions = [
        {
          assertion = !cfg.cache.enable || cfg.cache.address != null;
          message = "services.bento-server.cache needs an address to listen on: set services.bento-server.cache.address";
        }
        {
          assertion = !cfg.cache.enable || config.services.bento.enable;
          message = ''
            services.bento-server.cache: its signing key is a Bento secret, so this machine must be a host of the fleet:
            set services.bento.enable = true
          '';
        }
      ];

      # Bento reads the fleet file while the system is built: a host's name must not be a system account's.
      system.checks = [
        (pkgs.runCommand "bento-fleet-checked" { preferLocalBuild = true; } ''
          ${validator}/bin/bento-agent validate --fleet ${cfg.fleetFile}
          touch $out
        '')
      ];

      users.groups = {
        ${group} = { };
      }
      // lib.genAttrs names (_: { })
      // lib.optionalAttrs hasPublisher { ${publisher} = { }; };

      users.users =
        lib.mapAttrs (
          name: host:
          account (host.keys or [ ])
          // {
            group = name;
            extraGroups = [ group ];
            description = "Bento host";
          }
        ) hosts
        // lib.optionalAttrs hasPublisher {
          ${publisher} = account cfg.publishers // {
            group = publisher;
            description = "Publishes Bento releases";
          };
        };

      services.openssh = {
        enable = true;
        settings.MaxStartups = lib.mkDefault startups;
        # At the end, because it opens Match blocks.
        extraConfig = lib.mkAfter (
          import ./lib/sshd.nix {
            inherit (cfg) folder;
            keys = "/etc/ssh/authorized_keys.d/%u";
          }
        );
      };

      systemd.tmpfiles.rules = [
        "d ${cfg.folder} 0755 root root -"
        "d ${cfg.folder}/.publisher 0700 ${owner} ${owner} -"
      ]
      ++ lib.concatMap (name: [
        "d ${cfg.folder}/${name} 0755 root root -"
        "d ${cfg.folder}/${name}/release 0755 ${owner} ${owner} -"
        "d ${cfg.folder}/${name}/release/objects 0755 ${owner} ${owner} -"
        "d ${cfg.folder}/${name}/reports 2770 ${owner} ${name} -"
      ]) names;
    })

    (mkIf (cfg.enable && cfg.quota.enable) {
      systemd.services.bento-quotas = {
        description = "Limits what Bento's hosts can put into their folders";
        wantedBy = [ "multi-user.target" ];
        after = [ "systemd-tmpfiles-setup.service" ];
        unitConfig.RequiresMountsFor = cfg.folder;
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          # Reads lines of: user, block and file limits.
          StandardInput = "file:${quotas}";
          ExecStart = "${pkgs.linuxquota}/bin/setquota --user --batch ${if holds == null then "/" else holds.mountPoint}";
        };
      };
    })

    (mkIf (cfg.enable && cfg.cache.enable) {
      bento.secrets.${cfg.cache.secret}.restartUnits = [ "nix-serve.service" ];
      services.nix-serve = {
        enable = true;
        bindAddress =
          if lib.hasInfix ":" (toString cfg.cache.address) then
            "[${cfg.cache.address}]"
          else
            toString cfg.cache.address;
        inherit (cfg.cache) port openFirewall;
        # The unit reads it as a credential, so it stays root's.
        secretKeyFile = config.bento.secrets.${cfg.cache.secret}.path;
      };
    })
  ];
}
