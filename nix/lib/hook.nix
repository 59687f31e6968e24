# The activation hook: the parts of NixOS's activation script that make the secrets of the system being activated live,
# where that script makes users too; elsewhere units do. Plain Nix, no nixpkgs. `agent` and `settings` are paths; in the
# script $systemConfig is the system.
#
# LIMIT: a program that holds plaintext leaves no core file. Exit 4 is "an owner doesn't exist": root keeps that secret,
# the agent's own run fails because of it, and a person's switch goes on.
{ agent, settings }:
let
  install =
    options:
    ''( ulimit -c 0; exec ${agent} --config ${settings} install-secrets ${options} --system "$systemConfig" )'';
in
{
  # Before users are made.
  forUsers = ''
    ${install "--for-users"}
  '';

  # After users were made.
  secrets = ''
    ${install ""} || [ $? = 4 ]
  '';
}
