# NixOS module: this machine is a host of a Bento fleet. docs/nixos.md shows its use.
{
  config,
  lib,
  options,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkIf;

  cfg = config.services.bento;

  fileSystemOf = import ./lib/file-system.nix;
  renderDeclaration = import ./lib/declaration.nix;
  renderToml = import ./lib/toml.nix;

  # Who makes users: NixOS's activation script, or systemd (sysusers or userborn).
  systemdMakesUsers =
    (options.systemd ? sysusers && config.systemd.sysusers.enable)
    || (options.services ? userborn && config.services.userborn.enable);

  # Runs while the system is built, so it must be of the building machine's kind.
  validator =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      cfg.package
    else
      (pkgs.pkgsBuildBuild.callPackage ./package.nix { }).bento-agent;

  checked =
    name: text: option:
    let
      file = pkgs.writeText name text;
    in
    pkgs.runCommand name { preferLocalBuild = true; } ''
      ${validator}/bin/bento-agent validate ${option} ${file}
      cp ${file} $out
    '';

  declaration = checked "bento-secrets.json" (renderDeclaration config.bento.secrets) "--secrets";

  trust = pkgs.runCommand "bento-trust.toml" { preferLocalBuild = true; } ''
    ${validator}/bin/bento-agent validate --trust ${cfg.trustFile}
    cp ${cfg.trustFile} $out
  '';

  agentToml = checked "bento-agent.toml" (renderToml cfg.settings) "--settings";

  agent = "${cfg.package}/bin/bento-agent";
  hook = import ./lib/hook.nix {
    inherit agent;
    settings = agentToml;
  };
  command = "${agent} --config ${agentToml}";

  mountedForBoot =
    path:
    let
      fs = fileSystemOf config.fileSystems path;
    in
    {
      assertion = fs == null || utils.fsNeededForBoot fs;
      message = ''
        services.bento: ${path} is needed before local file systems are mounted, and lies on ${
          if fs == null then "nothing" else fs.mountPoint
        }, which isn't mounted by then.
        Set fileSystems."${if fs == null then "/" else fs.mountPoint}".neededForBoot = true.
      '';
    };

  tools = [
    config.nix.package
    config.systemd.package
    pkgs.gitMinimal
    pkgs.openssh
    pkgs.util-linux # setpriv: notices are shown as the user whose desktop it is
  ]
  ++ cfg.path;

  # As NixOS's own nixos-upgrade.service has it: flakes' inputs and channels are fetched by the agent's Nix, not by the
  # daemon. Builds run there, with its sandbox and its users.
  searchPath = config.environment.sessionVariables.NIX_PATH or "";
  environment =
    config.nix.envVars
    // config.networking.proxy.envVars
    // lib.optionalAttrs (searchPath != "") { NIX_PATH = searchPath; }
    // {
      HOME = "/root";
      NIX_REMOTE = "daemon";
    };

  mounts = [ "/var/lib/bento" ] ++ cfg.identities;

  # The agent mounts /run/bento for the whole machine, so it can have no mount namespace of its own: that rules out
  # ProtectSystem, PrivateTmp and their like. What can be had without one:
  hardened = {
    LimitCORE = 0;
    UMask = "0077";
    KeyringMode = "private";
    LockPersonality = true;
    RestrictRealtime = true;
    SystemCallArchitectures = "native";
  };

  # What only opens secrets that are here already starts nothing of anybody's, and asks no network: it mounts, writes and
  # gives away.
  offline = hardened // {
    Type = "oneshot";
    NoNewPrivileges = true;
    RestrictAddressFamilies = [ "AF_UNIX" ]; # who is who: nscd, systemd-userdbd
    RestrictNamespaces = true;
    RestrictSUIDSGID = true;
    CapabilityBoundingSet = [
      "CAP_SYS_ADMIN"
      "CAP_CHOWN"
      "CAP_DAC_OVERRIDE"
      "CAP_FOWNER"
    ];
    SystemCallFilter = [
      "@system-service"
      "@mount"
    ];
    SystemCallErrorNumber = "EPERM";
  };
in
{
  imports = [ ./agent-options.nix ];

  config = lib.mkMerge [
    {
      assertions = [
        {
          assertion = config.bento.secrets == { } || cfg.enable;
          message = "bento.secrets are declared, and nothing here would install them: set services.bento.enable = true";
        }
      ];
    }
    (mkIf cfg.enable {
      assertions = [
        {
          assertion = !cfg.trigger.enable || cfg.trigger.address != null;
          message = "services.bento.trigger needs an address to listen on: set services.bento.trigger.address";
        }
      ]
      ++ map (path: {
        assertion = !lib.hasPrefix "${builtins.storeDir}/" path;
        message = "services.bento.identities: ${path} is in the Nix store, where everybody can read it. Name a path on the machine";
      }) cfg.identities
      ++ map mountedForBoot mounts;

      services.bento.settings = {
        inherit (cfg) host identities;
        trust = "${trust}";
        notice = mkIf (!cfg.notices) { desktop = "off"; };
        prometheus = mkIf (cfg.metricsFile != null) { file = cfg.metricsFile; };
        confirm = {
          timeout = lib.mkDefault cfg.confirm.timeout;
          deadline = mkIf (cfg.confirm.deadline != null) cfg.confirm.deadline;
          failed_units = mkIf (cfg.confirm.failedUnits != null) cfg.confirm.failedUnits;
          commands = mkIf (cfg.confirm.commands != [ ]) cfg.confirm.commands;
        };
      };

      environment.systemPackages = [ cfg.package ];
      environment.etc."bento/agent.toml".source = agentToml;
      environment.etc."bento/trust.toml".source = trust;

      system.systemBuilderCommands = ''
        mkdir -p $out/bento
        cp ${declaration} $out/bento/secrets.json
      '';

      system.activationScripts = mkIf (!systemdMakesUsers) {
        bentoSecretsForUsers = {
          deps = [ "specialfs" ];
          text = hook.forUsers;
        };
        users.deps = [ "bentoSecretsForUsers" ];
        bentoSecrets = {
          deps = [
            "specialfs"
            "users"
            "groups"
          ];
          text = hook.secrets;
        };
      };

      systemd.services.bento-agent = {
        description = "Bento's agent: one poll";
        documentation = [ "man:bento-agent(1)" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        # A switch may change this unit while it is the one that switches.
        restartIfChanged = false;
        stopIfChanged = false;
        unitConfig.X-StopOnRemoval = false;
        path = tools;
        inherit environment;
        serviceConfig = hardened // {
          Type = "oneshot";
          ExecStart = "${command} run";
          # 4: it runs, and something isn't as it should be; 75: another switch is under way. Both are reported.
          SuccessExitStatus = [
            4
            75
          ];
          RestrictAddressFamilies = [
            "AF_UNIX"
            "AF_INET"
            "AF_INET6"
            "AF_NETLINK"
          ];
          IOSchedulingClass = "idle";
          Nice = 10;
        };
      };

      # What a power cut interrupted needn't wait for the network and the timer. No target that services wait for waits for
      # this: it may call a switch, which waits for services.
      systemd.services.bento-recover = {
        description = "Bento's agent: finish or undo what a power cut interrupted";
        documentation = [ "man:bento-agent-recover(1)" ];
        wantedBy = [ "timers.target" ];
        after = [
          "bento-secrets.service"
          "nix-daemon.socket"
        ];
        before = [ "bento-agent.service" ];
        restartIfChanged = false;
        stopIfChanged = false;
        unitConfig = {
          RequiresMountsFor = mounts;
          X-StopOnRemoval = false;
        };
        path = tools;
        inherit environment;
        serviceConfig = hardened // {
          Type = "oneshot";
          RemainAfterExit = true; # once a boot: each run of the agent does it too
          ExecStart = "${command} recover";
          # 5: it went back; 75: a run of the agent was quicker.
          SuccessExitStatus = [
            5
            75
          ];
          inherit (config.systemd.services.bento-agent.serviceConfig) RestrictAddressFamilies;
        };
      };

      systemd.timers.bento-agent = mkIf (!cfg.suspend) {
        description = "Bento's agent polls";
        wantedBy = [ "timers.target" ];
        timerConfig = {
          OnBootSec = "1min";
          OnUnitInactiveSec = cfg.interval;
          RandomizedDelaySec = cfg.splay;
          FixedRandomDelay = true;
        };
      };
    })
    (mkIf (cfg.enable && systemdMakesUsers) {
      systemd.services.bento-secrets-for-users = {
        description = "Bento's secrets for users";
        wantedBy = [ "sysinit.target" ];
        after = [ "systemd-remount-fs.service" ];
        # userborn.service has systemd-sysusers.service as an alias
        before = [
          "systemd-sysusers.service"
          "sysinit.target"
          "shutdown.target"
        ];
        conflicts = [ "shutdown.target" ];
        restartIfChanged = false;
        unitConfig.DefaultDependencies = false;
        serviceConfig = offline // {
          RemainAfterExit = true;
          ExecStart = "${command} install-secrets --for-users";
        };
      };

      systemd.services.bento-secrets = {
        description = "Bento's secrets";
        wantedBy = [ "sysinit.target" ];
        after = [
          "local-fs.target"
          "bento-secrets-for-users.service"
          "systemd-sysusers.service"
        ];
        before = [
          "sysinit.target"
          "shutdown.target"
        ];
        conflicts = [ "shutdown.target" ];
        restartIfChanged = false;
        unitConfig = {
          DefaultDependencies = false;
          RequiresMountsFor = mounts;
        };
        serviceConfig = offline // {
          RemainAfterExit = true;
          SuccessExitStatus = 4;
          ExecStart = "${command} install-secrets";
        };
      };

      # At a switch. Only sysinit-reactivation.target starts these, each time: so they don't remain active, and the units of
      # the boot, which do, aren't enough.
      systemd.services.bento-secrets-for-users-switch = {
        description = "Bento's secrets for users, at a switch";
        requiredBy = [ "sysinit-reactivation.target" ];
        before = [
          "systemd-sysusers.service"
          "sysinit-reactivation.target"
        ];
        restartIfChanged = false;
        unitConfig = {
          DefaultDependencies = false;
          RequiresMountsFor = mounts;
        };
        serviceConfig = offline // {
          ExecStart = "${command} install-secrets --for-users";
        };
      };

      systemd.services.bento-secrets-switch = {
        description = "Bento's secrets, after a switch";
        requiredBy = [ "sysinit-reactivation.target" ];
        after = [
          "bento-secrets-for-users-switch.service"
          "systemd-sysusers.service"
        ];
        before = [ "sysinit-reactivation.target" ];
        restartIfChanged = false;
        unitConfig = {
          DefaultDependencies = false;
          RequiresMountsFor = mounts;
        };
        serviceConfig = offline // {
          SuccessExitStatus = 4;
          ExecStart = "${command} install-secrets";
        };
      };
    })
    (mkIf (cfg.enable && cfg.trigger.enable) {
      networking.firewall.allowedTCPPorts = mkIf cfg.trigger.openFirewall [ cfg.trigger.port ];

      systemd.sockets.bento-trigger = {
        description = "Starts a poll of Bento's agent";
        wantedBy = [ "sockets.target" ];
        listenStreams = [
          (
            if lib.hasInfix ":" (toString cfg.trigger.address) then
              "[${toString cfg.trigger.address}]:${toString cfg.trigger.port}"
            else
              "${toString cfg.trigger.address}:${toString cfg.trigger.port}"
          )
        ];
        socketConfig = {
          Accept = true;
          MaxConnections = 1;
          TriggerLimitIntervalSec = 0; # else anybody could end the socket by connecting often
          FreeBind = true;
        };
      };

      systemd.services."bento-trigger@" = {
        description = "Starts a poll of Bento's agent";
        documentation = [ "man:bento-agent-answer(1)" ];
        # The poll that it waits for may be the one that switches.
        restartIfChanged = false;
        stopIfChanged = false;
        unitConfig.X-StopOnRemoval = false;
        path = [ config.systemd.package ];
        serviceConfig = {
          Type = "oneshot";
          ExecStart = "${command} answer"; # ten seconds at least: further connections are dropped meanwhile
          # Nothing that a stranger sends is read.
          StandardInput = "null";
          StandardOutput = "socket";
          StandardError = "journal";
          LimitCORE = 0;
          NoNewPrivileges = true;
          PrivateTmp = true;
          ProtectHome = true;
          ProtectSystem = "strict";
          RestrictAddressFamilies = [ "AF_UNIX" ];
        };
      };
    })
  ];
}
