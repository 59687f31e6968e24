# What Bento's modules need of NixOS, for a tree that holds nixpkgs' lib and nothing else: option declarations and the
# text of units, written for these tests. The module system is the real one; NixOS's own modules are not here.
# With a whole tree tests/nixos/evaluate.nix uses those instead.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  any = mkOption {
    type = types.attrsOf types.anything;
    default = { };
  };
  list = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  unitValue = types.oneOf [
    types.str
    types.int
    types.bool
    types.package
    (types.listOf (types.either types.str types.int))
  ];
  section = mkOption {
    type = types.attrsOf unitValue;
    default = { };
  };
  common = {
    description = mkOption {
      type = types.str;
      default = "";
    };
    documentation = list;
    wants = list;
    after = list;
    before = list;
    conflicts = list;
    requires = list;
    wantedBy = list;
    requiredBy = list;
    unitConfig = section;
  };
  service = types.submodule {
    options = common // {
      serviceConfig = section;
      environment = any;
      path = mkOption {
        type = types.listOf types.package;
        default = [ ];
      };
      script = mkOption {
        type = types.lines;
        default = "";
      };
      preStop = mkOption {
        type = types.lines;
        default = "";
      };
      restartIfChanged = mkOption {
        type = types.bool;
        default = true;
      };
      stopIfChanged = mkOption {
        type = types.bool;
        default = true;
      };
    };
  };
  value = one: if lib.isBool one then lib.boolToString one else toString one;
  lines =
    set:
    lib.concatStrings (
      lib.mapAttrsToList (
        name: one: lib.concatMapStrings (part: "${name}=${value part}\n") (lib.toList one)
      ) set
    );
  unit =
    one:
    lines (
      lib.filterAttrs (_: found: found != [ ] && found != "") {
        Description = one.description;
        Documentation = one.documentation;
        Wants = one.wants;
        After = one.after;
        Before = one.before;
        Conflicts = one.conflicts;
        Requires = one.requires;
      }
      // one.unitConfig
    );
  text = body: one: {
    inherit (one) wantedBy requiredBy;
    text = "[Unit]\n${unit one}\n${body one}";
  };
  switching =
    one:
    lib.optionalString (!one.restartIfChanged) "X-RestartIfChanged=false\n"
    + lib.optionalString (!one.stopIfChanged) "X-StopIfChanged=false\n";
  environment = one: lib.concatStrings (lib.mapAttrsToList (name: said: "Environment=${name}=${said}\n") one.environment);
  rendered =
    config:
    lib.mapAttrs' (
      name: one:
      lib.nameValuePair "${name}.service" (
        text (one: "[Service]\n${switching one}${environment one}${lines one.serviceConfig}") one
      )
    ) config.systemd.services
    // lib.mapAttrs' (
      name: one: lib.nameValuePair "${name}.timer" (text (one: "[Timer]\n${lines one.timerConfig}") one)
    ) config.systemd.timers
    // lib.mapAttrs' (
      name: one:
      lib.nameValuePair "${name}.socket" (
        text (one: "[Socket]\n${lines ({ ListenStream = one.listenStreams; } // one.socketConfig)}") one
      )
    ) config.systemd.sockets;
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
    };
    warnings = list;
    networking.hostName = mkOption {
      type = types.str;
      default = "nixos";
    };
    networking.firewall.allowedTCPPorts = mkOption {
      type = types.listOf types.port;
      default = [ ];
    };
    nix.package = mkOption { type = types.package; };
    nix.settings = any;
    nix.envVars = any;
    networking.proxy.envVars = any;
    environment.sessionVariables = any;
    fileSystems = mkOption {
      default = { };
      type = types.attrsOf (
        types.submodule (
          { name, ... }:
          {
            options = {
              mountPoint = mkOption {
                type = types.str;
                default = name;
              };
              device = mkOption {
                type = types.str;
                default = "none";
              };
              fsType = mkOption {
                type = types.str;
                default = "auto";
              };
              options = list;
              neededForBoot = mkOption {
                type = types.bool;
                default = false;
              };
            };
          }
        )
      );
    };
    environment.systemPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
    environment.etc = mkOption {
      type = types.attrsOf (
        types.submodule {
          options = {
            source = mkOption { type = types.unspecified; };
            text = mkOption {
              type = types.nullOr types.lines;
              default = null;
            };
            mode = mkOption {
              type = types.str;
              default = "symlink";
            };
          };
        }
      );
      default = { };
    };
    system.systemBuilderCommands = mkOption {
      type = types.lines;
      default = "";
    };
    system.checks = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
    system.stateVersion = mkOption { type = types.str; };
    system.activationScripts = mkOption {
      default = { };
      type = types.attrsOf (
        types.either types.str (
          types.submodule {
            options = {
              deps = list;
              text = mkOption {
                type = types.lines;
                default = "";
              };
            };
          }
        )
      );
    };
    users.users = mkOption {
      type = types.attrsOf (types.submodule { freeformType = types.attrsOf types.anything; });
      default = { };
    };
    users.groups = any;
    users.mutableUsers = mkOption {
      type = types.bool;
      default = true;
    };
    services.openssh = {
      enable = lib.mkEnableOption "sshd";
      settings = any;
      extraConfig = mkOption {
        type = types.lines;
        default = "";
      };
      ports = mkOption {
        type = types.listOf types.port;
        default = [ 22 ];
      };
      openFirewall = mkOption {
        type = types.bool;
        default = true;
      };
      hostKeys = mkOption {
        type = types.listOf types.attrs;
        default = [ ];
      };
      listenAddresses = mkOption {
        type = types.listOf types.attrs;
        default = [ ];
      };
    };
    services.nix-serve = any;
    services.userborn.enable = lib.mkEnableOption "userborn";
    containers = any;
    systemd = {
      package = mkOption { type = types.package; };
      sysusers.enable = lib.mkEnableOption "sysusers";
      tmpfiles.rules = list;
      services = mkOption {
        type = types.attrsOf service;
        default = { };
      };
      timers = mkOption {
        type = types.attrsOf (types.submodule { options = common // { timerConfig = section; }; });
        default = { };
      };
      sockets = mkOption {
        type = types.attrsOf (
          types.submodule {
            options = common // {
              listenStreams = list;
              socketConfig = section;
            };
          }
        );
        default = { };
      };
      units = mkOption {
        type = types.unspecified;
        readOnly = true;
      };
    };
  };
  imports = [
    (
      { config, ... }:
      let
        inherit (config.systemd) sysusers;
        inherit (config.services) userborn;
      in
      {
        systemd.units = rendered config;
        # What NixOS asks of a machine whose users systemd makes.
        assertions =
          lib.optional (sysusers.enable || userborn.enable) {
            assertion = (config.system.activationScripts.users or "") == "";
            message = "system.activationScripts.users has to be empty";
          }
          ++ lib.optionals sysusers.enable (
            lib.mapAttrsToList (name: user: {
              assertion = lib.elem (user.hashedPassword or null) [
                null
                (user.initialHashedPassword or null)
              ];
              message = "user '${name}' uses password or hashedPassword";
            }) config.users.users
          );
      }
    )
  ];
  config = {
    nix.package = lib.mkDefault {
      type = "derivation";
      outPath = "/nix/store/00000000000000000000000000000000-nix";
    };
    systemd.package = lib.mkDefault {
      type = "derivation";
      outPath = "/nix/store/00000000000000000000000000000000-systemd";
    };
  };
}
