# What NixOS has for virtual machine tests beyond stand-in.nix, declared for these tests. `test` is what runNixOSTest got.
test:
{ lib, ... }:
let
  inherit (lib) mkOption types;
  switch = mkOption {
    type = types.bool;
    default = false;
  };
in
{
  options = {
    boot.loader.systemd-boot.enable = switch;
    boot.loader.timeout = mkOption { type = types.int; };
    virtualisation = {
      additionalPaths = mkOption { type = types.listOf types.raw; };
      useBootLoader = switch;
      useEFIBoot = switch;
    };
    system.switch.enable = switch;
    specialisation = mkOption {
      default = { };
      type = types.attrsOf (
        types.submodule { options.configuration = mkOption { type = types.deferredModule; }; }
      );
    };
    # As modules/misc/nixpkgs/read-only.nix has it, which a test gets if it doesn't say otherwise.
    nixpkgs.overlays = mkOption {
      type =
        if test.node.pkgsReadOnly or true then
          types.unique { message = "nixpkgs.overlays is set to read-only"; } types.anything
        else
          types.listOf types.raw;
    };
  };
  config.nixpkgs.overlays = [ ];
}
