/** `headwater config`: settings of gateways, declared at the collector and taken by the gateways over their uplinks. */
import { REMOTE_SETTINGS } from '../shared/config/remote.ts';
import { BACK_AFTER_SECONDS, type RemoteValues } from '../shared/model/remote.ts';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { didYouMean } from '../shared/config/nearest.ts';
import type { Answer } from '../shared/http/client.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { printable } from '../shared/telemetry/log.ts';
import { ask, tell } from './api.ts';

const { usual, min, max } = BACK_AFTER_SECONDS;
const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  first: {
    value: 'N',
    about: 'So many of the connected gateways get it first; the rest when all of them run with it.',
  },
  'back-after': {
    value: 'SECONDS',
    about: `A gateway whose uplink is not back by then goes back by itself (${min} to ${max}).`,
    default: String(usual),
  },
  json: { about: "The API's JSON instead of text." },
};

export const CONFIG_HELP = helpText(
  'config [list|set|unset|go|settings] [TARGET] [KEY=VALUE…] [flags]',
  'Declares settings of gateways from afar. TARGET is all, site:NAME, label:KEY=VALUE or the name of a gateway; the more particular counts.',
  FLAGS,
  `list                      What is declared, and how far it has come.
set TARGET KEY=VALUE…     Declares these beside what is declared for the target.
unset TARGET [KEY…]       Takes them back, or all of them.
go TARGET                 A staged change goes to the rest.
settings                  What can be declared.

How far each gateway has come: headwater gateways. The API token comes from HEADWATER_TOKEN and needs scope admin.

Example: headwater config set site:harbour uplink.windowBytes=1048576 --first 2`,
);

type Declared = Answer<'/api/v1/config'>['declared'][number];

const WORDS_MAX = 100;

function usage(why: string): never {
  throw new HeadwaterError('USAGE', `${why}: see headwater config --help`);
}

const targetOf = (text: string): string =>
  text === 'all' || text.includes(':') ? text : `gateway:${text}`;

function keyOf(text: string): keyof typeof REMOTE_SETTINGS {
  if (Object.hasOwn(REMOTE_SETTINGS, text)) return text as keyof typeof REMOTE_SETTINGS;
  const meant = didYouMean(text, Object.keys(REMOTE_SETTINGS));
  return usage(`'${text}' cannot be declared from afar${meant} (headwater config settings)`);
}

function valueOf(pair: string): [string, RemoteValues[string]] {
  const at = pair.indexOf('=');
  if (at < 1) return usage(`'${pair}' is not KEY=VALUE`);
  const [key, text] = [keyOf(pair.slice(0, at)), pair.slice(at + 1)];
  const { type } = REMOTE_SETTINGS[key];
  if (type === 'list') return [key, text.split(',').filter(Boolean)];
  return [key, type === 'integer' && /^\d+$/.test(text) ? Number(text) : text];
}

const valueText = (value: RemoteValues[string]): string =>
  typeof value === 'object' ? value.join(',') : String(value);

function lineOf({ target, settings, first, released, held }: Declared): string {
  const pairs = Object.entries(settings).map(([key, value]) => `${key}=${valueText(value)}`);
  const stage = released
    ? ''
    : `\tfirst on ${first.join(', ')}${held === null ? '' : `; HELD: ${printable(held)}`}`;
  return `${target}\t${pairs.length === 0 ? 'nothing' : pairs.join(' ')}${stage}\n`;
}

async function declaredAt(address: string): Promise<Declared[]> {
  return (await ask(address, '/api/v1/config')).declared;
}

function settingsText(): string {
  return Object.entries(REMOTE_SETTINGS)
    .map(([key, { about }]) => `${key}\n    ${about}\n`)
    .join('');
}

/** What the target has with these, and without those. */
async function changed(
  address: string,
  word: string,
  target: string,
  rest: string[],
): Promise<RemoteValues> {
  const present =
    (await declaredAt(address)).find((each) => each.target === target)?.settings ?? {};
  if (word === 'set') {
    if (rest.length === 0) usage('name what is set: KEY=VALUE…');
    return { ...present, ...Object.fromEntries(rest.map(valueOf)) };
  }
  const gone = new Set<string>(rest.map(keyOf));
  if (rest.length === 0) return {};
  return Object.fromEntries(Object.entries(present).filter(([key]) => !gone.has(key)));
}

export async function config(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('config', args, FLAGS, WORDS_MAX);
  if (help) {
    process.stdout.write(CONFIG_HELP);
    return;
  }
  const [word = 'list', named, ...rest] = positionals;
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const asJson = values['json'] === true;
  if (word === 'settings') return void process.stdout.write(settingsText());
  if (word === 'list') {
    const declared = await declaredAt(address);
    if (asJson) process.stdout.write(`${JSON.stringify({ declared })}\n`);
    else process.stdout.write(declared.map(lineOf).join('') || 'Nothing is declared.\n');
    return;
  }
  if (!['set', 'unset', 'go'].includes(word))
    usage(`'${word}' is none of list, set, unset, go, settings`);
  if (named === undefined) return usage('name a target');
  const target = targetOf(named);
  const body =
    word === 'go'
      ? { target }
      : {
          target,
          settings: await changed(address, word, target, rest),
          first: Number(values['first'] ?? 0),
          backAfterSeconds: Number(values['back-after'] ?? usual),
        };
  const path = word === 'go' ? '/api/v1/config/go' : '/api/v1/config';
  const answer = await tell(address, path, body);
  process.stdout.write(asJson ? `${JSON.stringify(answer)}\n` : lineOf(answer));
}
