# The file system that holds a path, of those that a machine has (`config.fileSystems`): the longest mount point above it.
# null where none is known. Plain Nix, no nixpkgs.
fileSystems: path:
let
  isAbove =
    fs:
    let
      folder = if fs.mountPoint == "/" then "/" else "${fs.mountPoint}/";
    in
    builtins.substring 0 (builtins.stringLength folder) "${path}/" == folder;
  deeper = best: fs: builtins.stringLength fs.mountPoint > builtins.stringLength best.mountPoint;
in
builtins.foldl' (best: fs: if best == null || deeper best fs then fs else best) null (
  builtins.filter isAbove (builtins.attrValues fileSystems)
)
