"""Additions to the completion scripts of cyclopts: targets and their options."""

from __future__ import annotations

from typing import Final

from cascade.command.completing import WITH_TARGETS

_COMMANDS: Final = "|".join(WITH_TARGETS)

_BASH: Final = """
# Targets, and the options of a target: the command reads them from the source.
_cascade_with_targets() {
  _cascade "$@"
  case "${COMP_WORDS[1]}" in
    COMMANDS)
      local found
      while IFS= read -r found; do
        COMPREPLY+=("$found")
        case "$found" in
          *[:/]) compopt -o nospace 2>/dev/null ;;
        esac
      done < <("${COMP_WORDS[0]}" --complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
      ;;
  esac
}

complete -F _cascade_with_targets cascade
"""

_ZSH: Final = """
# Targets, and the options of a target: the command reads them from the source.
_cascade_with_targets() {
  local -a found
  if (( CURRENT > 2 )) && [[ "$words[2]" == (COMMANDS) ]]; then
    found=("${(@f)$("$words[1]" --complete words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -Q -S '' -- ${(M)found:#*[:/]}
    compadd -Q -- ${${found:#*[:/]}:#}
  fi
  _cyclopts_cascade "$@"
}

if [[ "$funcstack[1]" == _cascade ]]; then
  _cascade_with_targets "$@"
else
  compdef _cascade_with_targets cascade
fi
"""

_FISH: Final = """
# Targets, and the options of a target: the command reads them from the source.
function __fish_cascade_targets
    set -l words (commandline -opc)
    $words[1] --complete words $words[2..-1] (commandline -ct) 2>/dev/null
end

complete -c cascade -n 'string match -qr "^(COMMANDS)\\$" -- (commandline -opc)[2]' \\
    -f -a '(__fish_cascade_targets)'
"""

#: Shell → the text behind the script of cyclopts.
MORE: Final = {
    shell: text.replace("COMMANDS", _COMMANDS)
    for shell, text in (("bash", _BASH), ("zsh", _ZSH), ("fish", _FISH))
}
