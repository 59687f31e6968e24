# The activation hook: the parts of NixOS's activation script that make the secrets of the system being activated live.
# Plain Nix, no nixpkgs. `agent` and `settings` are paths; in the script $systemConfig is the system.
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

  # Where systemd makes users, units do this at boot (the activation script may run in the initrd then). At a switch the
  # script runs before systemd makes users anew. NIXOS_ACTION is set only by switch-to-configuration.
  forUsersAtSwitch = ''
    if [ -n "''${NIXOS_ACTION-}" ]; then
      ${install "--for-users"}
    fi
  '';
}
