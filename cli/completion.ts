/** `headwater completion SHELL`: what the shell offers at Tab, made from the table of commands and their help. */
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError } from '../shared/errors.ts';

/** The table of commands, as far as it matters here. */
type Table = Record<string, { about: string; load: () => Promise<{ help: string }> }>;

const FLAGS: Flags = {};

export const COMPLETION_HELP = helpText(
  'completion bash|zsh|fish',
  'Prints a script that completes commands and flags in a shell.',
  FLAGS,
  `Examples:
  headwater completion bash > ~/.local/share/bash-completion/completions/headwater
  headwater completion zsh > "\${fpath[1]}/_headwater"
  headwater completion fish > ~/.config/fish/completions/headwater.fish`,
);

interface Offered {
  name: string;
  about: string;
  /** Words that may follow, such as \`list\` and \`replay\`. */
  words: string[];
  flags: { name: string; takesValue: boolean; about: string }[];
}

/** Of the help of a command: its first line says the words, its table the flags. */
export function offeredBy(name: string, about: string, help: string): Offered {
  const usage = help.split('\n')[0] ?? '';
  const [, inBrackets = ''] =
    /\[([a-z]+(?: [A-Z]+)?(?: \| [a-z]+(?: [A-Z]+)?)+)\]/.exec(usage) ?? [];
  const [, plain = ''] = /^Usage: headwater \S+ ([a-z]+(?:\|[a-z]+)*)(?: |$)/.exec(usage) ?? [];
  return {
    name,
    about,
    words: [...inBrackets.split('|'), ...plain.split('|')]
      .map((word) => word.trim().split(' ')[0] ?? '')
      .filter((word) => word !== ''),
    flags: [...help.matchAll(/^ {2}--([\w-]+)( \S+)? {2,}(.*)$/gm)].map(
      ([, flag = '', value, text = '']) => ({
        name: flag,
        takesValue: value !== undefined,
        about: text.split('. ')[0] ?? '',
      }),
    ),
  };
}

const list = (words: string[]): string => words.join(' ');
const flagWords = ({ flags }: Offered): string[] => flags.map(({ name }) => `--${name}`);

function bash(all: Offered[]): string {
  const names = list(all.map(({ name }) => name));
  const valued = [
    ...new Set(
      all.flatMap(({ flags }) =>
        flags.filter(({ takesValue }) => takesValue).map(({ name }) => `--${name}`),
      ),
    ),
  ];
  const cases = all.map(
    (each) => `    ${each.name}) words="${list([...each.words, ...flagWords(each)])}" ;;`,
  );
  return `# bash completion of headwater, made by \`headwater completion bash\`.
_headwater() {
  local current="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD - 1]}" words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${names} help --help --version" -- "$current"))
    return
  fi
  # A value: files, as the shell does it.
  case "$before" in ${valued.join(' | ')}) return ;; esac
  case "\${COMP_WORDS[1]}" in
    help) words="${names}" ;;
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _headwater headwater
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const described = (name: string, about: string): string =>
  quoted(`${name.replaceAll(':', '\\:')}:${about}`);

function zsh(all: Offered[]): string {
  const commands = all.map(({ name, about }) => described(name, about)).join(' ');
  const cases = all.map((each) => {
    const flags = each.flags.map(({ name, about }) => described(`--${name}`, about)).join(' ');
    const words = each.words.map((word) => described(word, '')).join(' ');
    return `    ${each.name}) words_=(${words}) flags=(${flags}) ;;`;
  });
  return `#compdef headwater
# zsh completion of headwater, made by \`headwater completion zsh\`.
_headwater() {
  local -a commands words_ flags
  commands=(${commands} 'help:Say more about a command.')
  if (( CURRENT == 2 )); then
    _describe -t commands command commands
    return
  fi
  case "$words[2]" in
    help) _describe -t commands command commands; return ;;
${cases.join('\n')}
  esac
  (( \${#words_} )) && _describe -t words word words_
  _describe -o -t flags flag flags
  _files
}
if [ "$funcstack[1]" = _headwater ]; then _headwater "$@"; else compdef _headwater headwater; fi
`;
}

function fish(all: Offered[]): string {
  const lines = all.flatMap(({ name, about, words, flags }) => {
    const within = `-n '__fish_seen_subcommand_from ${name}'`;
    return [
      `complete -c headwater -n __fish_use_subcommand -f -a ${name} -d ${quoted(about)}`,
      ...words.map((word) => `complete -c headwater ${within} -a ${word}`),
      ...flags.map(
        (flag) =>
          `complete -c headwater ${within} -l ${flag.name}${flag.takesValue ? ' -r' : ''} -d ${quoted(flag.about)}`,
      ),
    ];
  });
  const names = list(all.map(({ name }) => name));
  return `# fish completion of headwater, made by \`headwater completion fish\`.
complete -c headwater -n __fish_use_subcommand -f -a help -d 'Say more about a command.'
complete -c headwater -n '__fish_seen_subcommand_from help' -f -a '${names}'
${lines.join('\n')}
`;
}

const SHELLS: Record<string, (all: Offered[]) => string> = { bash, zsh, fish };

export async function completion(args: string[], commands: Table): Promise<void> {
  const { positionals, help } = parseFlags('completion', args, FLAGS, 1);
  if (help) {
    process.stdout.write(COMPLETION_HELP);
    return;
  }
  const [shell = ''] = positionals;
  const script = Object.hasOwn(SHELLS, shell) ? SHELLS[shell] : undefined;
  if (script === undefined)
    throw new HeadwaterError('USAGE', 'for which shell? headwater completion bash, zsh or fish');
  const all = await Promise.all(
    Object.entries(commands).map(async ([name, { about, load }]) =>
      offeredBy(name, about, (await load()).help),
    ),
  );
  process.stdout.write(script(all));
}
