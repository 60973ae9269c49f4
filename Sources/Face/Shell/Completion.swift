// Completion for bash, from the descriptions; zsh loads it through its `bashcompinit`.

package enum Completion {
  package static func bash(_ commands: [CommandDescription]) -> String {
    // Words that follow the words before them, for commands of several words.
    var next: [String: [String]] = [:]
    for command in commands {
      for place in command.words.indices {
        let before = command.words[..<place].joined(separator: " ")
        if next[before, default: []].contains(command.words[place]) { continue }
        next[before, default: []].append(command.words[place])
      }
    }
    next["", default: []].append("help")
    let words = next.keys.sorted().map { "    '\($0)') words='\(next[$0]!.joined(separator: " "))' ;;" }
    let options = commands.map { command in
      "    '\(command.name)') words='\((command.options.map(\.name) + ["--help"]).joined(separator: " "))' ;;"
    }
    var values: [String] = []
    for command in commands {
      for option in command.options {
        guard case .choice(let names) = option.value else { continue }
        values.append("    '\(command.name) \(option.name)') words='\(names.joined(separator: " "))' ;;")
      }
    }
    return """
      # Completion of ress for bash, and for zsh after: autoload -U bashcompinit && bashcompinit
      # Load it with: eval "$(ress completion)"
      _ress() {
        local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command='' word words=''
        for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
          case $word in -*) break ;; esac
          case "$command" in
      \(next.keys.sorted().map { "      '\($0)') case ' \(next[$0]!.joined(separator: " ")) ' in *\" $word \"*) command=\"${command:+$command }$word\" ;; *) break ;; esac ;;" }.joined(separator: "\n"))
            *) break ;;
          esac
        done
        case "$command $before" in
      \(values.joined(separator: "\n"))
        esac
        if [ -z "$words" ]; then
          case $current in
          -*)
            case "$command" in
      \(options.joined(separator: "\n"))
            esac
            ;;
          *)
            case "$command" in
      \(words.joined(separator: "\n"))
            esac
            ;;
          esac
        fi
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        # Anything else is a file.
        [ -n "$words" ] || COMPREPLY=($(compgen -f -- "$current"))
      }
      complete -o filenames -F _ress ress
      """
  }
}
