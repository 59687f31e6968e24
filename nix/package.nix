# `bento` for the admin and `bento-agent` for hosts, by nixpkgs' Python set: callPackage gives a set of both.
{
  lib,
  autoPatchelfHook,
  fetchPypi,
  installShellFiles,
  openssh,
  python3Packages,
  stdenv,
}:
let
  version = lib.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../bento/__init__.py)
  );
  adminOnly = import ./lib/admin-only.nix;

  # The published wheel, by the hash in requirements/run.txt (a test compares): building it takes Rust and the network.
  wheels = {
    x86_64-linux = {
      platform = "manylinux_2_17_x86_64.manylinux2014_x86_64";
      sha256 = "7f4eb0cbc2b4aee5deac9862c47b3895866df5554153951af822e9c581e68558";
    };
    aarch64-linux = {
      platform = "manylinux_2_17_aarch64.manylinux2014_aarch64";
      sha256 = "f868b360ccd3f836326d42b532fae3e8eb8340a88cca0a39c0ae10fce68f6cc5";
    };
  };
  wheel =
    wheels.${stdenv.hostPlatform.system}
      or (throw "bento: pyrage has no wheel for ${stdenv.hostPlatform.system}, and this nixpkgs doesn't build it");
  pyrage =
    python3Packages.pyrage or (python3Packages.buildPythonPackage rec {
      pname = "pyrage";
      version = "1.4.0";
      format = "wheel";
      src = fetchPypi {
        inherit pname version format;
        inherit (wheel) platform sha256;
        dist = "cp310";
        python = "cp310";
        abi = "abi3";
      };
      nativeBuildInputs = [ autoPatchelfHook ];
      buildInputs = [ (lib.getLib stdenv.cc.cc) ];
      pythonImportsCheck = [ "pyrage" ];
      meta = {
        description = "Python bindings for rage, an implementation of age";
        license = lib.licenses.mit;
        sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
      };
    });

  both = with python3Packages; [
    click
    cryptography
    paramiko
    pydantic
    pynacl
    pyrage
  ];

  common = {
    inherit version;
    pyproject = true;
    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions [
        ../bento
        ../secrets/bento_secrets
        ../pyproject.toml
        ../README.md
        ../LICENSE
      ];
    };
    build-system = [ python3Packages.hatchling ];
    # ssh-keygen signs, ssh pushes. Nix is the machine's own: another one could not talk to its daemon.
    makeWrapperArgs = [
      "--suffix"
      "PATH"
      ":"
      (lib.makeBinPath [ openssh ])
    ];
    doCheck = false; # the tests want root, sshd and Nix: `make test`
  };

  meta = {
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
  };
in
{
  bento = python3Packages.buildPythonApplication (
    common
    // {
      pname = "bento";
      dependencies = both ++ map (name: python3Packages.${name}) adminOnly;
      nativeBuildInputs = [ installShellFiles ];
      pythonImportsCheck = [
        "bento.cli.main"
        "bento_secrets"
      ];
      postInstall = ''
        rm $out/bin/bento-agent
      '';
      postFixup = ''
        $out/bin/bento man $out/share/man
        rm $out/share/man/man1/bento-agent*
        for shell in bash zsh fish; do
          $out/bin/bento completion $shell > bento.$shell
        done
        installShellCompletion --cmd bento --bash bento.bash --zsh bento.zsh --fish bento.fish
      '';
      meta = meta // {
        description = "Keep a fleet of NixOS machines up to date by pull, with secrets outside the Nix store";
        mainProgram = "bento";
      };
    }
  );

  bento-agent = python3Packages.buildPythonApplication (
    common
    // {
      pname = "bento-agent";
      dependencies = both;
      pythonRemoveDeps = adminOnly;
      pythonImportsCheck = [ "bento.cli.agent" ];
      postInstall = ''
        rm $out/bin/bento
        rm -r $out/${python3Packages.python.sitePackages}/bento/{admin,demo}
        mkdir -p $out/share/man/man1
        PYTHONPATH=$out/${python3Packages.python.sitePackages}:$PYTHONPATH python ${./lib/agent-pages.py} $out/share/man/man1
      '';
      meta = meta // {
        description = "Keeps a NixOS machine at the release that its admin signed for it";
        mainProgram = "bento-agent";
      };
    }
  );
}
