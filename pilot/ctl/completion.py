"""C{completion}: a script that teaches a shell the words of C{pilotctl}.

The script is made of the command table once, when the shell starts; pressing the tabulator runs
nothing but the shell.
"""

from __future__ import annotations

import re

from pilot.ctl.console import Result
from pilot.ctl.table import COMMANDS, Command, installed_commands
from pilot.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot.ctl.call import Call

PLACEHOLDERS = {
    "<address|hostname>": ("self",),
    "<node_id|address|hostname>": ("self",),
    "<shell>": ("bash", "zsh", "fish"),
    "<level>": ("debug", "info", "warn", "error"),
    "<fmt>": ("text", "json"),
}
"""What can be said in the place of an argument, where the table names only its kind."""

FILES = ("<path>", "path", "<filepath>", "<file>")
"""Arguments that are names of files."""

HELP = "explain the command"
JSON = "print one JSON envelope"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*( [a-z0-9][a-z0-9-]*)?")
_WORD = re.compile(r"[\w.+-]+")  # what no shell takes for more than a word


class Values:
    """
    What may stand in one place of a command line.

    @ivar words: these.
    @ivar files: or the name of a file.
    """

    __slots__ = ("files", "words")

    def __init__(self, *syntaxes: str) -> None:
        self.files = any(syntax in FILES for syntax in syntaxes)
        words: list[str] = []
        for syntax in syntaxes:
            if syntax in PLACEHOLDERS:
                words += PLACEHOLDERS[syntax]
            elif "|" in syntax:
                words += filter(_WORD.fullmatch, syntax.split("|"))
        self.words = tuple(dict.fromkeys(words))


class Grammar:
    """
    The table, seen as a shell needs it.

    @ivar commands: commands by name, those with a name no shell can hold left out.
    @ivar groups: first words that are followed by a subcommand.
    """

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = {each.name: each for each in commands if _NAME.fullmatch(each.name)}
        firsts = (name.partition(" ") for name in self.commands)
        self.groups = tuple(dict.fromkeys(first for first, blank, _ in firsts if blank))

    def following(self, words: str) -> dict[str, str]:
        """@return: what may come after nothing, or after a group, each with what it does."""
        prefix = words + " " if words else ""
        found: dict[str, str] = {}
        for name, command in self.commands.items():
            if name.startswith(prefix):
                first, blank, _ = name[len(prefix) :].partition(" ")
                found.setdefault(first, f"{first} ..." if blank else command.summary)
        return found


def completion(call: Call) -> Result:
    """The script for one shell."""
    shell = call.words[0]
    if shell not in _WRITERS:
        raise InvalidArgument(f'unknown shell "{shell}"', hint="bash, zsh or fish")
    script = _WRITERS[shell](Grammar([*COMMANDS, *installed_commands()]))
    return Result({"shell": shell, "script": script}, script.rstrip("\n"))


def positionals(command: Command) -> Values:
    """@return: what may be given to C{command} besides flags."""
    return Values(
        *(syntax for syntax in command.arguments if not syntax.strip("[").startswith("-"))
    )


def flags(command: Command) -> dict[str, Values | None]:
    """@return: the flags of C{command} with their values, C{None} for a switch."""
    if command.literal:
        return {}
    found: dict[str, Values | None] = {}
    for syntax in command.arguments:
        bare = syntax.removeprefix("[").removesuffix("]")
        name, blank, value = bare.partition(" ")
        if name.startswith("--") and _WORD.fullmatch(name):
            found[name] = Values(value) if blank else None
    return found


_BASH = """\
# bash completion of pilotctl, for ~/.bashrc:  eval "$(pilotctl completion bash)"
_pilotctl() {
    local current=${COMP_WORDS[COMP_CWORD]} previous= command= word= words= files= at
    COMPREPLY=()
    # bash cuts --flag=value into three words.
    if [[ $current == = ]]; then
        current=
        previous=${COMP_WORDS[COMP_CWORD-1]}
    elif (( COMP_CWORD > 2 )) && [[ ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD-2]}
    elif (( COMP_CWORD > 1 )); then
        previous=${COMP_WORDS[COMP_CWORD-1]}
    fi
    for (( at = 1; at < COMP_CWORD; at++ )); do
        word=${COMP_WORDS[at]}
        if [[ $word == -* ]]; then continue; fi
        if [[ -z $command ]]; then
            command=$word
            case $command in @GROUPS@) ;; *) break ;; esac
        else
            command="$command $word"
            break
        fi
    done
    case "$command:$previous" in
@VALUES@
        *)
            case $command in
@COMMANDS@
            esac
            ;;
    esac
    while IFS= read -r word; do
        if [[ -n $word ]]; then COMPREPLY+=("$word"); fi
    done < <(
        if [[ -n $words ]]; then compgen -W "$words" -- "$current"; fi
        if [[ -n $files && $current != -* ]]; then compgen -f -- "$current"; fi
    )
    if [[ -n $files ]]; then compopt -o filenames 2>/dev/null; fi
    return 0
}
complete -F _pilotctl pilotctl
"""


def write_bash(grammar: Grammar) -> str:
    """@return: the script for bash, 3.2 and later."""
    values, commands = [], [_bash_case("''", [*grammar.following(""), "--help", "--json"])]
    commands += [_bash_case(_quoted(group), grammar.following(group)) for group in grammar.groups]
    for name, command in grammar.commands.items():
        known = flags(command)
        told = positionals(command)
        words = [*told.words, *known, "--help", "--json"]
        commands.append(_bash_case(_quoted(name), words, files=told.files))
        for flag, value in known.items():
            if value is not None:
                pattern = _quoted(f"{name}:{flag}")
                values.append(_bash_case(pattern, value.words, files=value.files, indent=8))
    return (
        _BASH.replace("@GROUPS@", "|".join(grammar.groups))
        .replace("@VALUES@", "\n".join(values))
        .replace("@COMMANDS@", "\n".join(commands))
    )


def _bash_case(
    pattern: str, words: Sequence[str] | dict[str, str], *, files: bool = False, indent: int = 16
) -> str:
    effects = [f"words={_quoted(' '.join(words))}"] if words else []
    effects += ["files=1"] if files else []
    return f"{' ' * indent}{pattern}) {'; '.join(effects) or ':'} ;;"


_ZSH = """\
#compdef pilotctl
# zsh completion of pilotctl, for ~/.zshrc:  eval "$(pilotctl completion zsh)"
# (after compinit), or as a file named _pilotctl in a directory of $fpath.
_pilotctl() {
    local command= word previous=${words[CURRENT-1]}
    local -a verbs switches
    for word in ${words[2,CURRENT-1]}; do
        [[ $word == -* ]] && continue
        if [[ -z $command ]]; then
            command=$word
            case $command in @GROUPS@) ;; *) break ;; esac
        else
            command="$command $word"
            break
        fi
    done
    case "$command:$previous" in
@VALUES@
    esac
    case $command in
@COMMANDS@
    esac
    (( $#verbs )) && _describe -t commands 'command' verbs
    (( $#switches )) && _describe -o -t options 'flag' switches
}
if [[ ${funcstack[1]} == _pilotctl ]]; then
    _pilotctl "$@"
else
    compdef _pilotctl pilotctl
fi
"""


def write_zsh(grammar: Grammar) -> str:
    """@return: the script for zsh."""
    everywhere = {"--help": HELP, "--json": JSON}
    values, commands = [], []
    for words in ("", *grammar.groups):
        told = _zsh_list("verbs", grammar.following(words))
        commands.append(f"        {_quoted(words)}) {told}; {_zsh_list('switches', everywhere)} ;;")
    for name, command in grammar.commands.items():
        known = flags(command)
        place = positionals(command)
        effects = [_zsh_values(place)] if place.words or place.files else []
        effects.append(_zsh_list("switches", {**dict.fromkeys(known, ""), **everywhere}))
        commands.append(f"        {_quoted(name)}) {'; '.join(effects)} ;;")
        for flag, value in known.items():
            if value is not None:
                pattern = _quoted(f"{name}:{flag}")
                values.append(f"        {pattern}) {_zsh_values(value)}; return ;;")
    return (
        _ZSH.replace("@GROUPS@", "|".join(grammar.groups))
        .replace("@VALUES@", "\n".join(values))
        .replace("@COMMANDS@", "\n".join(commands))
    )


def _zsh_values(value: Values) -> str:
    effects = [f"compadd -- {' '.join(value.words)}"] if value.words else []
    effects += ["_files"] if value.files else []
    return "; ".join(effects) or "_message value"


def _zsh_list(name: str, words: dict[str, str]) -> str:
    told = (f"{word}:{text}" if text else word for word, text in words.items())
    return f"{name}=({' '.join(map(_quoted, told))})"


_FISH = """\
# fish completion of pilotctl, for ~/.config/fish/config.fish:  pilotctl completion fish | source
function __pilotctl_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l command
    for word in $words
        string match -q -- '-*' $word; and continue
        set -a command $word
        contains -- $command[1] @GROUPS@; or break
        test (count $command) -eq 2; and break
    end
    test "$command" = "$argv[1]"
end
complete -c pilotctl -f
complete -c pilotctl -l json -d @JSON@
complete -c pilotctl -l help -d @HELP@
@LINES@
"""


def write_fish(grammar: Grammar) -> str:
    """@return: the script for fish."""
    lines = []
    for words in ("", *grammar.groups):
        for word, text in grammar.following(words).items():
            lines.append(_fish_line(words, f"-a {_fish_quoted(word)} -d {_fish_quoted(text)}"))
    for name, command in grammar.commands.items():
        place = positionals(command)
        if place.words:
            lines.append(_fish_line(name, f"-a {_fish_quoted(' '.join(place.words))}"))
        if place.files:
            lines.append(_fish_line(name, "-F"))
        for flag, value in flags(command).items():
            option = f"-l {flag.removeprefix('--')}"
            if value is not None:
                option += " -r -F" if value.files else " -x"
                option += f" -a {_fish_quoted(' '.join(value.words))}" if value.words else ""
            lines.append(_fish_line(name, option))
    return (
        _FISH.replace("@GROUPS@", " ".join(grammar.groups))
        .replace("@JSON@", _fish_quoted(JSON))
        .replace("@HELP@", _fish_quoted(HELP))
        .replace("@LINES@", "\n".join(lines))
    )


def _fish_line(words: str, rest: str) -> str:
    condition = f'__pilotctl_at "{words}"'
    return f"complete -c pilotctl -n {_fish_quoted(condition)} {rest}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_WRITERS: dict[str, Callable[[Grammar], str]] = {
    "bash": write_bash,
    "zsh": write_zsh,
    "fish": write_fish,
}
