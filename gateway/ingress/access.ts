/**
 * Who may publish and subscribe to what: a YAML file of rules, whose grants add up. What no rule grants is denied, so an
 * empty file denies everything.
 *
 * ```yaml
 * rules:
 *   - users: [sensor-*]                 # `*` for any run of characters; without it: everybody
 *     publish: ["devices/{client}/#"]   # topic filters; {client} and {user} stand for who it is
 *     subscribe: ["commands/{user}/#"]
 *     shares: [workers-{user}]          # names of shared subscriptions to them ($share/NAME/…), `*` as above; any without it
 *     retain: false                     # its messages are not retained; true without it
 * ```
 *
 * A name is encoded before it stands in a topic, so that an id with a slash or a wildcard in it grants nothing more.
 */
import { parse } from 'yaml';
import { readUserFile } from '../../shared/config/user-file.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { wildcard } from '../../shared/model/wildcard.ts';
import { sharedParts } from '../mqtt5/topics.ts';
import { checkTopicFilter, filterMatches } from '../../shared/mqtt/packets.ts';

export interface Who {
  /** Undefined: nobody was asked. */
  user: string | undefined;
  client: string;
}

interface Rule {
  users: ((user: string) => boolean)[] | undefined;
  publish: string[];
  subscribe: string[];
  /** Undefined: every one. */
  shares: string[] | undefined;
  retain: boolean;
}

const KEYS = ['users', 'publish', 'subscribe', 'shares', 'retain'];

/** A name as one topic level: separators, wildcards, `%` and control characters as %XX of their UTF-8. */
export function asLevel(name: string): string {
  return name.replaceAll(/[/+#%\p{Cc}]/gu, (char) =>
    [...Buffer.from(char)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''),
  );
}

function fill(template: string, { user, client }: Who, encoded = asLevel): string | undefined {
  if (template.includes('{user}') && user === undefined) return undefined;
  return template
    .replaceAll('{client}', () => encoded(client))
    .replaceAll('{user}', () => encoded(user ?? ''));
}

/** The same in a pattern, of which a name's own star is no part. */
const plainly = (name: string): string => asLevel(name).replaceAll('*', '%2a');

/** Whether every topic that a filter matches is matched by a granted one. */
export function filterCovers(granted: string, filter: string): boolean {
  const wide = granted.split('/');
  const narrow = filter.split('/');
  // [MQTT-4.7.2-1]: a wildcard in front does not reach topics that begin with $.
  if (filter.startsWith('$') && (wide[0] === '#' || wide[0] === '+')) return false;
  for (const [index, level] of wide.entries()) {
    if (level === '#') return true;
    const other = narrow[index];
    if (other === undefined || other === '#') return false;
    if (level !== '+' && level !== other) return false;
  }
  return wide.length === narrow.length;
}

function ruleOf(value: unknown, where: string): Rule {
  const wrong = (why: string): never => {
    throw new HeadwaterError('CONFIG_INVALID', `${where}: ${why}`);
  };
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return wrong('is not a set of keys');
  for (const key of Object.keys(value))
    if (!KEYS.includes(key)) wrong(`unknown key '${key}'; known are ${KEYS.join(', ')}`);
  const { users, publish, subscribe, shares, retain } = value as Record<string, unknown>;
  const list = (name: string, given: unknown): string[] => {
    const items: unknown[] = given === undefined ? [] : Array.isArray(given) ? given : [given];
    if (!items.every((each) => typeof each === 'string' && each !== ''))
      wrong(`'${name}' is not a list of texts`);
    return items as string[];
  };
  const filters = (name: string, given: unknown): string[] => {
    const items = list(name, given);
    for (const item of items) {
      try {
        checkTopicFilter(item);
      } catch (error) {
        wrong(`'${name}': '${item}': ${messageOf(error)}`);
      }
    }
    return items;
  };
  if (retain !== undefined && typeof retain !== 'boolean') wrong("'retain' is not true or false");
  return {
    users: users === undefined ? undefined : list('users', users).map(wildcard),
    publish: filters('publish', publish),
    subscribe: filters('subscribe', subscribe),
    shares: shares === undefined ? undefined : list('shares', shares),
    retain: retain !== false,
  };
}

const grantsPublish = ({ publish }: Rule, who: Who, topic: string): boolean =>
  publish.some((template) => {
    const filter = fill(template, who);
    return filter !== undefined && filterMatches(filter, topic);
  });

const grantsShare = (shares: readonly string[], who: Who, name: string): boolean =>
  shares.some((template) => {
    const pattern = fill(template, who, plainly);
    return pattern !== undefined && wildcard(pattern)(name);
  });

export class AccessRules {
  private readonly path: string;
  private rules: Rule[] = [];

  /** Throws CONFIG_INVALID. */
  constructor(path: string) {
    this.path = path;
    this.reload();
  }

  /** How many rules there are. */
  get size(): number {
    return this.rules.length;
  }

  /** Throws CONFIG_INVALID; then what was in force stays. */
  reload(): void {
    let document: unknown;
    try {
      document = parse(readUserFile(this.path).toString('utf8'));
    } catch (error) {
      throw new HeadwaterError(
        'CONFIG_INVALID',
        `${this.path}: ${messageOf(error).split('\n')[0] ?? ''}`,
        { cause: error },
      );
    }
    const top = (document ?? {}) as Record<string, unknown>;
    for (const key of Object.keys(top))
      if (key !== 'rules')
        throw new HeadwaterError(
          'CONFIG_INVALID',
          `${this.path}: unknown key '${key}'; known is rules`,
        );
    const list = top['rules'] ?? [];
    if (!Array.isArray(list))
      throw new HeadwaterError('CONFIG_INVALID', `${this.path}: 'rules' is not a list`);
    this.rules = list.map((each, index) => ruleOf(each, `${this.path}: rules[${index}]`));
  }

  private of({ user }: Who): Rule[] {
    return this.rules.filter(
      ({ users }) =>
        users === undefined || (user !== undefined && users.some((matches) => matches(user))),
    );
  }

  mayPublish(who: Who, topic: string): boolean {
    return this.of(who).some((rule) => grantsPublish(rule, who, topic));
  }

  mayRetain(who: Who, topic: string): boolean {
    return this.of(who).some((rule) => rule.retain && grantsPublish(rule, who, topic));
  }

  /** Of `$share/NAME/FILTER` the filter must be granted, and the name: who is in the group takes its messages from the others. */
  maySubscribe(who: Who, asked: string): boolean {
    const { name, filter } = sharedParts(asked) ?? { name: undefined, filter: asked };
    return this.of(who).some(
      ({ subscribe, shares }) =>
        (name === undefined || shares === undefined || grantsShare(shares, who, name)) &&
        subscribe.some((template) => {
          const granted = fill(template, who);
          return granted !== undefined && filterCovers(granted, filter);
        }),
    );
  }
}
