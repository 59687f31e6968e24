# A set as TOML text: plain values first, then tables, then lists of tables. Plain Nix, no nixpkgs.
# null is left out. Strings are written as JSON writes them, which TOML reads the same.
let
  isTables = value: builtins.isList value && value != [ ] && builtins.all builtins.isAttrs value;
  key =
    name: if builtins.match "[A-Za-z0-9_-]+" name == null then builtins.toJSON name else name;
  render =
    path: set:
    let
      names = builtins.filter (name: set.${name} != null) (builtins.attrNames set);
      plain = builtins.filter (name: !(builtins.isAttrs set.${name} || isTables set.${name})) names;
      tables = builtins.filter (name: builtins.isAttrs set.${name}) names;
      lists = builtins.filter (name: isTables set.${name}) names;
      below = name: path ++ [ (key name) ];
      header = name: builtins.concatStringsSep "." (below name);
      lines = builtins.concatStringsSep "";
    in
    lines (
      map (name: "${key name} = ${builtins.toJSON set.${name}}\n") plain
      ++ map (name: "[${header name}]\n${render (below name) set.${name}}") tables
      ++ builtins.concatMap (
        name: map (one: "[[${header name}]]\n${render (below name) one}") set.${name}
      ) lists
    );
in
render [ ]
