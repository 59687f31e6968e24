{ config, ... }:
{
  imports = [ ./hardware-configuration.nix ];
  system.stateVersion = "26.05";

  # Sealed with: bento secret add example FILE --name db-password
  bento.secrets.db-password = {
    owner = "postgres";
    restartUnits = [ "postgresql.service" ];
  };
  # Other options name it by its path, which never changes:
  # services.something.passwordFile = config.bento.secrets.db-password.path;
}
