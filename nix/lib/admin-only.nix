# Python packages that only the admin's side needs: the agent's closure leaves them out (a test holds it to that).
[
  "inotify-simple"
  "platformdirs"
  "pyyaml"
  "rich"
  "tomlkit"
]
