/** The command `headwater`: finds the subcommand and loads only what it needs. */
import { readFileSync } from 'node:fs';
import { didYouMean } from '../shared/config/nearest.ts';
import { failProcess } from '../shared/config/process.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { COMMANDS, overview, type Command } from './commands.ts';
import { printableLines } from '../shared/telemetry/log.ts';

/** What other tools call it. */
const CALLED: Record<string, string> = {
  ...{ start: 'up', run: 'up', serve: 'up', server: 'up', status: 'ledger', check: 'doctor' },
  ...{ sub: 'tail', subscribe: 'tail', watch: 'tail', logs: 'tail', send: 'publish' },
};

/** Throws USAGE. */
function commandOf(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command !== undefined) return command;
  const other = Object.hasOwn(CALLED, name) ? CALLED[name] : undefined;
  const hint =
    other === undefined ? didYouMean(name, Object.keys(COMMANDS)) : ` (did you mean '${other}'?)`;
  throw new HeadwaterError('USAGE', `'${name}' is no command${hint}: headwater --help lists them`);
}

/** Of the package that this file is installed with: the bundle lies in dist/, the source in cli/. */
function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function help(name: string | undefined): Promise<void> {
  process.stdout.write(name === undefined ? overview() : (await commandOf(name).load()).help);
}

/** Whoever reads our output may stop reading (`| head -1`): that ends the command, and is no error. */
function endWithReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
  // Nobody is left who could be told.
  process.stderr.on('error', () => undefined);
}

/** What devices and servers said reaches the terminal as text, whichever command shows it. */
function showAsText(): void {
  const write = process.stdout.write.bind(process.stdout) as (
    chunk: string | Uint8Array,
    ...rest: unknown[]
  ) => boolean;
  process.stdout.write = (chunk: string | Uint8Array, ...rest: unknown[]) =>
    write(typeof chunk === 'string' ? printableLines(chunk) : chunk, ...rest);
}

export async function main(args: string[]): Promise<void> {
  const [name, ...rest] = args;
  endWithReader();
  showAsText();
  try {
    if (name === undefined) {
      process.stderr.write(overview());
      process.exitCode = 2;
    } else if (name === '--help' || name === '-h') await help(undefined);
    else if (name === 'help') await help(rest[0]);
    else if (name === '--version' || name === '-V' || name === 'version')
      process.stdout.write(`headwater ${version()} (Node ${process.versions.node})\n`);
    else await (await commandOf(name).load()).run(rest);
  } catch (error) {
    failProcess(error);
    // A server that failed to start may have opened handles: nothing of it is to go on.
    process.exit();
  }
}
