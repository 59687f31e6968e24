# The declaration of a host's secrets, as text: what becomes TOPLEVEL/bento/secrets.json. Plain Nix, no nixpkgs.
#
# Takes what stands in `bento.secrets`. `bento-agent validate --secrets` checks what comes of it.
secrets:
let
  named = map (name: secrets.${name} // { inherit name; }) (builtins.attrNames secrets);
  file = one: {
    inherit (one)
      name
      owner
      group
      mode
      ;
    path = one.link;
    restart = one.restartUnits;
    reload = one.reloadUnits;
  };
in
builtins.toJSON {
  format = 1;
  secrets = map (one: file one // { users = one.neededForUsers; }) (
    builtins.filter (one: one.template == null) named
  );
  templates = map (one: file one // { text = one.template; }) (
    builtins.filter (one: one.template != null) named
  );
}
