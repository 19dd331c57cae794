/** Where alerts go, as the section `deliver` of the rules' file says. Secrets stand in private files, not in it. */
import { parse } from 'yaml';
import { clearSecret } from '../../../shared/config/exposure.ts';
import { HeadwaterError } from '../../../shared/errors.ts';

interface Link {
  name: string;
  /** Secrets may go to another machine in clear. */
  allowPlaintext: boolean;
}

export interface WebhookTarget extends Link {
  kind: 'webhook';
  url: string;
  /** File with the value of the header `authorization`. */
  authorizationFile: string | undefined;
}

/** Of mail and MQTT; HTTPS takes the system's authorities and those of NODE_EXTRA_CA_CERTS. */
interface Pinned extends Link {
  /** Authorities (PEM) of the other side, instead of the system's. */
  caFile: string | undefined;
}

export interface MailTarget extends Pinned {
  kind: 'mail';
  /** smtp(s)://HOST:PORT */
  server: string;
  from: string;
  to: readonly string[];
  user: string | undefined;
  passwordFile: string | undefined;
}

export interface MqttTarget extends Pinned {
  kind: 'mqtt';
  /** mqtt(s)://HOST:PORT */
  server: string;
  topic: string;
  user: string | undefined;
  passwordFile: string | undefined;
}

export type Target = WebhookTarget | MailTarget | MqttTarget;

export interface Delivery {
  targets: readonly (Target & { rules: readonly string[] | undefined })[];
}

type Entry = Record<string, unknown>;

function fail(where: string, why: string): never {
  throw new HeadwaterError('RULE_INVALID', `${where}: ${why}`);
}

function url(value: unknown, protocols: readonly string[], where: string): string {
  const text = typeof value === 'string' ? value : '';
  const protocol = URL.canParse(text) ? new URL(text).protocol : '';
  if (!protocols.includes(protocol))
    fail(
      where,
      `'${text}' is not an address with ${protocols.map((each) => `${each}//`).join(' or ')}`,
    );
  const { username, password } = new URL(text);
  if (username !== '' || password !== '')
    fail(where, 'has credentials in it: give them by user and passwordFile');
  return text;
}

function optional(entry: Entry, key: string, where: string): string | undefined {
  const value = entry[key];
  if (value === undefined) return undefined;
  return typeof value === 'string' && value !== ''
    ? value
    : fail(`${where}.${key}`, 'is not a text');
}

const needed = (entry: Entry, key: string, where: string): string =>
  optional(entry, key, where) ?? fail(where, `${key} is missing`);

function list(entry: Entry, key: string, where: string): string[] | undefined {
  const value = entry[key];
  if (value === undefined) return undefined;
  const all: unknown[] = Array.isArray(value) ? value : [value];
  if (all.length === 0 || all.some((each) => typeof each !== 'string'))
    fail(`${where}.${key}`, 'is not a list of texts');
  return all as string[]; // Checked above.
}

const KEYS: Record<string, readonly string[]> = {
  webhook: ['webhook', 'authorizationFile'],
  mail: ['mail', 'from', 'to', 'user', 'passwordFile', 'caFile'],
  mqtt: ['mqtt', 'topic', 'user', 'passwordFile', 'caFile'],
};

/** A mail server on smtp:// is asked for STARTTLS instead: see `senders.ts`. */
function checkClear(target: Target, where: string): void {
  const secret =
    target.kind === 'webhook'
      ? target.authorizationFile
      : target.kind === 'mqtt'
        ? (target.user ?? target.passwordFile)
        : undefined;
  if (secret === undefined || target.allowPlaintext) return;
  const clear = clearSecret({
    what: 'it',
    url: target.kind === 'webhook' ? target.url : target.server,
    secret: target.kind === 'webhook' ? 'its authorization' : 'its password',
    instead: target.kind === 'webhook' ? 'https://' : 'mqtts://',
    insist: 'add allowPlaintext: true',
  });
  if (clear !== undefined) fail(where, clear);
}

function targetOf(entry: unknown, where: string): Delivery['targets'][number] {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    fail(where, 'is not a target');
  const own = entry as Entry;
  const name = needed(own, 'name', where);
  const at = `${where} (${name})`;
  const kind = Object.keys(KEYS).filter((each) => own[each] !== undefined);
  if (kind.length !== 1) fail(at, 'is one of webhook, mail, mqtt');
  const known = ['name', 'rules', 'allowPlaintext', ...(KEYS[kind[0] ?? ''] ?? [])];
  for (const key of Object.keys(own))
    if (!known.includes(key)) fail(at, `'${key}' is not known; known are ${known.join(', ')}`);
  const rules = list(own, 'rules', at);
  const { allowPlaintext = false } = own;
  if (typeof allowPlaintext !== 'boolean') fail(`${at}.allowPlaintext`, 'is not true or false');
  const link = { name, rules, allowPlaintext };
  const account = {
    user: optional(own, 'user', at),
    passwordFile: optional(own, 'passwordFile', at),
    caFile: optional(own, 'caFile', at),
  };
  switch (kind[0]) {
    case 'webhook':
      return {
        kind: 'webhook',
        ...link,
        url: url(own['webhook'], ['http:', 'https:'], `${at}.webhook`),
        authorizationFile: optional(own, 'authorizationFile', at),
      };
    case 'mail':
      return {
        kind: 'mail',
        ...link,
        server: url(own['mail'], ['smtp:', 'smtps:'], `${at}.mail`),
        from: needed(own, 'from', at),
        to: list(own, 'to', at) ?? fail(at, 'to is missing'),
        ...account,
      };
    default:
      return {
        kind: 'mqtt',
        ...link,
        server: url(own['mqtt'], ['mqtt:', 'mqtts:'], `${at}.mqtt`),
        topic: needed(own, 'topic', at),
        ...account,
      };
  }
}

/** Throws RULE_INVALID, naming file and place. The text is known to be YAML with an object at its top. */
export function parseDelivery(text: string, file: string): Delivery {
  const { deliver = [] } = parse(text) as { deliver?: unknown };
  if (!Array.isArray(deliver)) fail(`${file}: deliver`, 'is not a list');
  const targets = deliver.map((entry, index) => targetOf(entry, `${file}: deliver[${index}]`));
  for (const [index, target] of targets.entries())
    checkClear(target, `${file}: deliver[${index}] (${target.name})`);
  const names = targets.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) fail(`${file}: deliver`, `two are named '${twice}'`);
  return { targets };
}
