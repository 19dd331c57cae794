/** Settings of gateways as a part of a collector: what a person declares, and how far it has come. */
import { REMOTE_SETTINGS } from '../../shared/config/remote.ts';
import { BACK_AFTER_SECONDS, type RemoteValues } from '../../shared/model/remote.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { ADMIN_ALL, READ_ALL, json, type Request } from '../../shared/http/route.ts';
import {
  BOOLEAN,
  INTEGER,
  TEXT,
  TEXTS,
  VALUE,
  listOf,
  maybe,
  object,
  type Schema,
} from '../../shared/http/schema.ts';
import { gauge } from '../../shared/telemetry/metrics.ts';
import type { Audit } from '../../shared/access/audit.ts';
import { enrollPart } from '../enroll/part.ts';
import { ledgerPart } from '../ledger/part.ts';
import { logPart } from '../log/part.ts';
import { guardPart } from '../ops/parts.ts';
import type { CollectorPart } from '../part.ts';
import { Declarations, type Wished } from './declarations.ts';
import type { Declaration } from './declared.ts';

const BODY_BYTES_MAX = 32_768;

interface Remote {
  declarations: Declarations;
  audit: Audit;
}

const SETTINGS: Schema = {
  type: 'object',
  additionalProperties: { anyOf: [VALUE, TEXTS] },
  description: `Values by key; those that can be declared: ${Object.keys(REMOTE_SETTINGS).join(', ')}.`,
};
const DECLARED = {
  target: TEXT,
  settings: SETTINGS,
  first: { type: 'array', items: TEXT, description: 'Gateways that get it first.' },
  released: BOOLEAN,
  held: { type: ['string', 'null'], description: 'Why a staged change does not go on.' },
  backAfterSeconds: INTEGER,
  atMs: INTEGER,
};

function shown({ declarations }: Remote, declaration: Declaration): object {
  const { target, next, first, released, backAfterSeconds, atMs } = declaration;
  const held = declarations.heldBy(declaration) ?? null;
  return { target, settings: next.settings, first, released, held, backAfterSeconds, atMs };
}

function invalid(why: string): never {
  throw new HeadwaterError('QUERY_INVALID', why);
}

async function wishOf(request: Request): Promise<Wished> {
  let body: unknown;
  try {
    body = JSON.parse((await request.body(BODY_BYTES_MAX)).toString('utf8'));
  } catch (error) {
    if (error instanceof HeadwaterError) throw error;
    return invalid('the body is not JSON');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    return invalid('the body is not an object');
  const known = ['target', 'settings', 'first', 'backAfterSeconds'];
  const strange = Object.keys(body).find((key) => !known.includes(key));
  if (strange !== undefined)
    return invalid(`'${strange.slice(0, 100)}' is not known here; known are ${known.join(', ')}`);
  const {
    target,
    settings,
    first = 0,
    backAfterSeconds = BACK_AFTER_SECONDS.usual,
  } = body as Record<string, unknown>;
  if (typeof target !== 'string') return invalid('target is missing');
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings))
    return invalid('settings is no object of values by key');
  if (typeof first !== 'number' || !Number.isInteger(first) || first < 0 || first > 1000)
    return invalid('first is a whole number up to 1000');
  return {
    target,
    settings: settings as RemoteValues, // Its values are checked against the table.
    first,
    backAfterSeconds: Number(backAfterSeconds),
  };
}

export const remotePart: CollectorPart<Remote> = {
  name: 'settings of gateways',
  open: async (site) => {
    const { env, notify, nowMs } = site.context;
    const ledger = site.get(ledgerPart);
    const members = () => site.find(enrollPart)?.enrolment.registry.members ?? new Map();
    const known = { members, nowMs, connected: () => ledger.connected() };
    const log = site.get(logPart);
    const declarations = new Declarations(log, known, env.timers, notify);
    await declarations.start();
    // Nothing else has them; a gateway keeps what it runs with until something else is said.
    const tellLost = async (): Promise<void> => {
      if (log.hasLost?.('settings') !== true) return;
      const targets = declarations.list().map(({ target }) => target);
      const text = `the log was damaged: settings that were declared for gateways may be lost with it; declared now for: ${targets.join(', ') || 'nobody'}; declare again what is not among them`;
      notify({ level: 'error', event: 'remote_config', text });
      await log.madeUp?.('settings');
    };
    if (declarations.isRead) await tellLost();
    else void declarations.whenRead.then(tellLost);
    return { declarations, audit: site.get(guardPart).audit };
  },
  routes: [
    {
      method: 'GET',
      path: '/api/v1/config',
      about:
        'Settings that are declared for gateways; how far each gateway has come is in /api/v1/gateways.',
      right: READ_ALL,
      replies: { 200: { about: 'By target.', schema: object({ declared: listOf(DECLARED) }) } },
      handle: (remote) =>
        json({ declared: remote.declarations.list().map((each) => shown(remote, each)) }),
    },
    {
      method: 'POST',
      path: '/api/v1/config',
      about:
        'Declares the settings of a target (all, site:NAME, label:KEY=VALUE, gateway:NAME), in place of those declared for it before; {} takes them back.',
      right: ADMIN_ALL,
      body: {
        type: 'application/json',
        schema: object({
          target: TEXT,
          settings: SETTINGS,
          first: maybe(INTEGER),
          backAfterSeconds: maybe(INTEGER),
        }),
      },
      replies: { 200: { about: 'It is declared.', schema: object(DECLARED) } },
      handle: async (remote, request) => {
        const declared = await remote.declarations.declare(await wishOf(request));
        const { identity, address } = request;
        const about = `${declared.target}: ${Object.keys(declared.next.settings).join(', ')}`;
        remote.audit.say({ event: 'declared', user: identity.name, address, about });
        return json(shown(remote, declared));
      },
    },
    {
      method: 'POST',
      path: '/api/v1/config/go',
      about: 'A staged change goes to the rest, whatever its first gateways have said.',
      right: ADMIN_ALL,
      body: { fields: { target: { about: 'As it was declared.', required: true } } },
      replies: { 200: { about: 'It goes on.', schema: object(DECLARED) } },
      handle: async (remote, { fields, identity, address }) => {
        const target = fields['target'] ?? '';
        const released = await remote.declarations.release(target);
        remote.audit.say({
          event: 'declared',
          user: identity.name,
          address,
          about: `${target}: go`,
        });
        return json(shown(remote, released));
      },
    },
  ],
  metrics: {
    headwater_config_gateways: gauge(
      'Gateways for which settings are declared, by what has become of them.',
      ({ declarations }) => {
        const counts = new Map<string, number>();
        for (const gateway of new Set(declarations.names())) {
          const state = declarations.stateOf(gateway)?.state;
          if (state !== undefined) counts.set(state, (counts.get(state) ?? 0) + 1);
        }
        return [...counts].map(([state, value]) => ({ labels: { state }, value }));
      },
    ),
  },
  close: ({ declarations }) => declarations.close(),
};
