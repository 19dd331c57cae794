/** `headwater enroll`: join tokens for gateways, what became of them, and the end of a gateway. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { helpText, parseFlags, type Flags } from '../shared/config/flags.ts';
import { HeadwaterError } from '../shared/errors.ts';
import { ask, tell } from './api.ts';

const FLAGS: Flags = {
  http: { value: 'HOST:PORT', about: 'The collector.', default: '127.0.0.1:8080' },
  count: { value: 'N', about: 'So many, named after --prefix and a number.' },
  prefix: { value: 'NAME', about: 'What their names begin with.', default: 'gateway-' },
  site: { value: 'NAME', about: 'Where they are.' },
  labels: { value: 'KEY=VALUE,…', about: 'What else is to be known of them.' },
  hours: { value: 'N', about: 'How long the tokens can be used.', default: '168' },
  url: { value: 'URL,…', about: 'https://HOST:PORT of the enrolment, where gateways see another.' },
  collector: { value: 'URL,…', about: 'mqtts://HOST:PORT of the uplink, likewise.' },
  out: {
    value: 'DIR',
    about: 'A file NAME.token for each there (mode 0600), instead of printing them.',
  },
  approval: { about: 'A person lets each in, with --approve.' },
  approve: { value: 'NAME', about: 'Let the gateway in that waits under this name.' },
  key: { value: 'HEX', about: 'With --approve: how its key begins, where several wait.' },
  list: { about: 'What became of the tokens that were made.' },
  revoke: {
    value: 'NAME',
    about: 'Take the certificates and tokens of a gateway back, and cut it off.',
  },
  json: { about: "The API's JSON instead of text." },
};

export const ENROLL_HELP = helpText(
  'enroll [NAME…] [flags]',
  'Makes join tokens: each lets one gateway in under its name, once. A line each: name, token.',
  FLAGS,
  `The collector has to run with --enroll and --uplinks. The API token comes from HEADWATER_TOKEN and needs scope admin.

Example: headwater enroll barn-1 barn-2 --json`,
);

interface Made {
  tokens: { gateway: string; token: string }[];
}
const NAMES_MAX = 5000;
/** A request carries no more; the next one takes the rest. */
const AT_ONCE = 500;

/** Throws USAGE. */
function namesOf(names: readonly string[], count: string | undefined, prefix: string): string[] {
  if (count === undefined) {
    if (names.length > 0) return [...names];
    throw new HeadwaterError('USAGE', 'name the gateways: headwater enroll NAME…, or --count N');
  }
  const number = Number(count);
  if (names.length > 0 || !Number.isInteger(number) || number < 1 || number > NAMES_MAX)
    throw new HeadwaterError('USAGE', `--count is a number up to ${NAMES_MAX}, without names`);
  const width = String(number).length;
  return Array.from(
    { length: number },
    (_, index) => prefix + String(index + 1).padStart(width, '0'),
  );
}

async function make(
  address: string,
  names: readonly string[],
  values: Record<string, string | boolean | undefined>,
): Promise<Made['tokens']> {
  const given = Object.entries({
    site: values['site'],
    labels: values['labels'],
    hours: values['hours'],
    urls: values['url'],
    collectors: values['collector'],
    approval: values['approval'] === true ? 'true' : undefined,
  }).filter(([, value]) => value !== undefined);
  const made: Made['tokens'] = [];
  for (let at = 0; at < names.length; at += AT_ONCE) {
    const gateways = names.slice(at, at + AT_ONCE).join(',');
    const fields = { ...Object.fromEntries(given), gateways };
    const { tokens } = await tell(address, '/api/v1/enroll/tokens', fields);
    made.push(...tokens);
  }
  return made;
}

const time = (ms: number): string => new Date(ms).toISOString().slice(0, 16).replace('T', ' ');

async function list(address: string, asJson: boolean): Promise<void> {
  const answer = await ask(address, '/api/v1/enroll/tokens');
  if (asJson) {
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    return;
  }
  for (const { gateway, site, expiresMs, usedMs, waiting = [] } of answer.tokens) {
    const open =
      expiresMs > Date.now() ? `good until ${time(expiresMs)}` : `over since ${time(expiresMs)}`;
    const state = usedMs === undefined ? open : `used ${time(usedMs)}`;
    const asked = waiting.map(
      ({ key, atMs, address: from }) =>
        `\twaits for --approve since ${time(atMs)}, from ${from}, key ${key.slice(0, 12)}`,
    );
    process.stdout.write(`${gateway}\t${site}\t${state}${asked.join('')}\n`);
  }
}

export async function enroll(args: string[]): Promise<void> {
  const { values, positionals, help } = parseFlags('enroll', args, FLAGS, NAMES_MAX);
  if (help) {
    process.stdout.write(ENROLL_HELP);
    return;
  }
  const address = String(values['http'] ?? '127.0.0.1:8080');
  const asJson = values['json'] === true;
  if (values['list'] === true) return await list(address, asJson);
  const { revoke, approve, key } = values;
  if (typeof approve === 'string') {
    const asked = { gateway: approve, ...(typeof key === 'string' ? { key } : {}) };
    const { key: whose, address: from } = await tell(address, '/api/v1/enroll/approve', asked);
    process.stdout.write(
      `${approve} is let in (key ${whose.slice(0, 12)}, from ${from}): it comes within half a minute\n`,
    );
    return;
  }
  if (typeof revoke === 'string') {
    await tell(address, '/api/v1/enroll/revoke', { gateway: revoke });
    process.stdout.write(`${revoke} is out: its certificates and unused tokens count no more\n`);
    return;
  }
  const [count, prefix] = [values['count'], values['prefix']];
  const names = namesOf(
    positionals,
    typeof count === 'string' ? count : undefined,
    typeof prefix === 'string' ? prefix : 'gateway-',
  );
  const made = await make(address, names, values);
  // They become names of files here: whoever answers names nothing but what was asked for.
  const foreign = made.find(({ gateway }) => !names.includes(gateway));
  if (foreign !== undefined)
    throw new HeadwaterError(
      'UNREACHABLE',
      `${address} answers with a token for '${foreign.gateway.slice(0, 80)}', which was not asked for: is it your collector?`,
    );
  const { out } = values;
  if (typeof out === 'string') {
    mkdirSync(out, { recursive: true, mode: 0o700 });
    for (const { gateway, token } of made)
      writeFileSync(join(out, `${gateway}.token`), `${token}\n`, { mode: 0o600 });
    process.stdout.write(`${made.length} tokens are in ${out}\n`);
  } else if (asJson) process.stdout.write(`${JSON.stringify({ tokens: made })}\n`);
  else for (const { gateway, token } of made) process.stdout.write(`${gateway}\t${token}\n`);
}
