# Evaluates modules of Bento's beside a configuration. `nixpkgs`: a tree, whole or only its lib. `modules`: paths.
{
  nixpkgs,
  modules,
  system ? "x86_64-linux",
}:
let
  lib = import (nixpkgs + "/lib");
  whole = builtins.pathExists (nixpkgs + "/nixos/lib/eval-config.nix");

  # Its outputs are never built: only their names, and what files would say, are looked at.
  made = name: more: {
    inherit name;
    type = "derivation";
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
  } // more;
  pkgs = {
    lib = lib;
    stdenv = rec {
      hostPlatform = { inherit system; };
      buildPlatform = hostPlatform // {
        canExecute = _: true;
      };
    };
    writeText =
      name: text:
      made name {
        inherit text;
        outPath = builtins.toFile name text;
      };
    # What a build would run is its output, so that a test can run it.
    runCommand =
      name: _: script:
      made name {
        inherit script;
        outPath = builtins.toFile name script;
      };
    bento = made "bento" { };
    bento-agent = made "bento-agent" { };
    bento-fleet = made "bento" { };
    coreutils = made "coreutils" { };
    git = made "git" { };
    iptables = made "iptables" { };
    gitMinimal = made "git" { };
    openssh = made "openssh" { };
    linuxquota = made "quota" { };
    util-linux = made "util-linux" { };
  };
  # As NixOS has it.
  early = [
    "/"
    "/nix"
    "/nix/store"
    "/var"
    "/var/log"
    "/var/lib"
    "/var/lib/nixos"
    "/etc"
    "/usr"
  ];
  utils.fsNeededForBoot = fs: fs.neededForBoot || lib.elem fs.mountPoint early;

  evaluated =
    if whole then
      import (nixpkgs + "/nixos/lib/eval-config.nix") {
        inherit system;
        modules = modules ++ [ { nixpkgs.overlays = [ (_: _: { inherit (pkgs) bento bento-agent; }) ]; } ];
      }
    else
      lib.evalModules {
        specialArgs = { inherit pkgs utils; };
        modules = [ ./stand-in.nix ] ++ modules;
      };
in
evaluated
// {
  failed = map (one: one.message) (lib.filter (one: !one.assertion) evaluated.config.assertions);
}
