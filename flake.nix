{
  description = "Bento: keep a fleet of NixOS machines up to date by pull, with secrets outside the Nix store";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      packagesOf = pkgs: pkgs.callPackage ./nix/package.nix { };
      withOverlay = module: {
        imports = [ module ];
        nixpkgs.overlays = [ self.overlays.default ];
      };
    in
    {
      packages = each (pkgs: {
        inherit (packagesOf pkgs) bento bento-agent;
        default = (packagesOf pkgs).bento;
      });

      # nixpkgs has another program of the name bento, so the admin's side is called bento-fleet here.
      overlays.default = final: _: {
        bento-fleet = (packagesOf final).bento;
        inherit (packagesOf final) bento-agent;
      };

      nixosModules = {
        agent = withOverlay ./nix/agent.nix;
        server = withOverlay ./nix/server.nix;
        container = withOverlay ./nix/container.nix;
        default = self.nixosModules.agent;
      };

      # Virtual machines: docs/nixos.md says what each shows, and how to run them.
      checks = each (
        pkgs:
        import ./nix/tests {
          inherit pkgs;
          modules = self.nixosModules;
        }
      );

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = [
            (pkgs.python3.withPackages (packages: [ packages.pip ]))
            pkgs.age
            pkgs.gnumake
            pkgs.openssh
            pkgs.strace
          ];
        };
      });

      templates.default = {
        path = ./nix/template;
        description = "A fleet: bento.toml, hosts/ with a flake, utils/, secrets/";
        welcomeText = ''
          Read README.md. The flake lies under hosts/: one at the fleet's root would copy secrets/ into the Nix store.
        '';
      };
    };
}
