# For those without flakes: `import ./. { }` gives the packages, the modules' paths and the overlay.
{
  pkgs ? import <nixpkgs> { },
}:
let
  packages = pkgs.callPackage ./nix/package.nix { };
in
{
  inherit (packages) bento bento-agent;
  modules = {
    agent = ./nix/agent.nix;
    server = ./nix/server.nix;
    container = ./nix/container.nix;
  };
  overlay = final: _: {
    bento-fleet = (final.callPackage ./nix/package.nix { }).bento;
    inherit (final.callPackage ./nix/package.nix { }) bento-agent;
  };
}
