{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.bento.url = "git+https://example.org/bento"; # where you have Bento from
  inputs.bento.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    { nixpkgs, bento, ... }:
    let
      host =
        name:
        nixpkgs.lib.nixosSystem {
          modules = [
            bento.nixosModules.agent
            ./${name}/configuration.nix
            {
              networking.hostName = name;
              # utils is a link to the fleet's: ln -s ../utils hosts/utils
              services.bento = {
                enable = true;
                trustFile = ./utils/trust.toml;
              };
            }
          ];
        };
    in
    {
      nixosConfigurations.example = host "example";
    };
}
