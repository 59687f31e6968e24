"""`bento completion`: the script that makes Tab complete; and what click's own scripts for bash and fish get wrong."""

import os
from typing import ClassVar

import click
from click.shell_completion import (
    BashComplete,
    FishComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_BENTO_COMPLETE"

# Bash breaks words at @ and =, so click sees two words in `--on @dc1`, and offers what doesn't fit the second. So the
# line goes over as it stands, and of each answer only what follows the part that bash has set apart is handed back.
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} here=$2 response type value word
    word=${line##*[[:space:]=]}
    [[ $here == "=" ]] && here=
    response=$(COMP_WORDS=$line COMP_CWORD=-1 %(complete_var)s=bash_complete "$1" 2>/dev/null)
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"${word%%"$here"}"}") ;;
        esac
    done <<<"$response"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

# Zsh and fish take an answer for the whole word, so `--on=` goes before it. And what follows a second comma, as in
# `--on web,db`, is part of the value.
_ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local -a response names
    local type value help
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null)}")
    [[ $PREFIX == --*=* ]] && compset -P '*='
    for type value help in $response; do
        case $type in
            plain) names+=($value) ;;
            dir) _path_files -/ ;;
            file) _path_files ;;
        esac
    done
    (( $#names )) && compadd -a names
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l option (string match -r -- '^--[^=]+=' (commandline -t))
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \\
        COMP_CWORD=(commandline -t) %(prog_name)s 2>/dev/null)
    for completion in $response
        set -l metadata (string split -m 1 "," $completion)
        switch $metadata[1]
            case dir
                __fish_complete_directories $metadata[2]
            case file
                __fish_complete_path $metadata[2]
            case plain
                echo "$option$metadata[2]"
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class Bash(BashComplete):
    """COMP_WORDS is the line up to the cursor."""

    source_template: ClassVar[str] = _BASH

    @staticmethod
    def _check_version() -> None:
        """Nothing to say: the script may be for another machine, and no bash that is in use is too old."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The whole words, and the one under the cursor."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        if line[-1:].isspace() or not words:
            return words, ""
        return words[:-1], words[-1]


class Zsh(ZshComplete):
    """Click's, with another script."""

    source_template: ClassVar[str] = _ZSH


class Fish(FishComplete):
    """Click's, with another script."""

    source_template: ClassVar[str] = _FISH


for one in (Bash, Zsh, Fish):
    add_completion_class(one)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes Tab complete options, hosts, tags and secret names.

    \b
    Examples:
      bento completion bash > ~/.local/share/bash-completion/completions/bento
      bento completion fish > ~/.config/fish/completions/bento.fish
      bento completion zsh > ~/.zfunc/_bento

    For zsh, ~/.zshrc must name that folder before it calls compinit: fpath=(~/.zfunc $fpath). To try it in the shell at
    hand: source <(bento completion bash)
    """
    kind = {"bash": Bash, "zsh": Zsh, "fish": Fish}[shell]
    click.echo(kind(context.find_root().command, {}, "bento", _VARIABLE).source(), nl=False)
