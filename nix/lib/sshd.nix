# sshd's settings for hosts and publishers of a fleet. Plain Nix, no nixpkgs. bento/core/server_wish.py says the same
# for other distributions; a test compares the two.
#
# `folder` holds the hosts' chroots; `keys` is an AuthorizedKeysFile.
{ folder, keys }:
''
  Match Group bento-hosts
      AllowUsers *
      AllowGroups bento-hosts
      AuthorizedKeysFile ${keys}
      AuthenticationMethods publickey
      PubkeyAuthentication yes
      PasswordAuthentication no
      KbdInteractiveAuthentication no
      ChrootDirectory ${folder}/%u
      ForceCommand internal-sftp
      DisableForwarding yes
      PermitTTY no
      PermitUserRC no
      MaxSessions 4
      ClientAliveInterval 30
      ClientAliveCountMax 4
  Match User bento-publisher
      AllowUsers bento-publisher
      AllowGroups *
      AuthorizedKeysFile ${keys}
      AuthenticationMethods publickey
      PubkeyAuthentication yes
      PasswordAuthentication no
      KbdInteractiveAuthentication no
      ChrootDirectory ${folder}
      ForceCommand internal-sftp
      DisableForwarding yes
      PermitTTY no
      PermitUserRC no
      ClientAliveInterval 30
      ClientAliveCountMax 4
  Match all
''
