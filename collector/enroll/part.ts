/** Enrolment as a part of a collector: its listener, and what a person does with tokens and members. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Audit } from '../../shared/access/audit.ts';
import { FailureLimiter } from '../../shared/access/failures.ts';
import type { Share } from '../../shared/access/shares.ts';
import { ServerTls } from '../../shared/access/tls.ts';
import { Tokens } from '../../shared/access/tokens.ts';
import { builtMs } from '../../shared/env/build.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { ADMIN_ALL, READ_ALL, json, type Request } from '../../shared/http/route.ts';
import { INTEGER, TAGS, TEXT, listOf, maybe, object } from '../../shared/http/schema.ts';
import { HttpServer } from '../../shared/http/server.ts';
import { addressText, type Address } from '../../shared/net/listen.ts';
import { counter, gauge, type Labels } from '../../shared/telemetry/metrics.ts';
import { diskPart, guardPart } from '../ops/parts.ts';
import type { CollectorPart, CollectorSite } from '../part.ts';
import { Authority } from './authority.ts';
import { Enrolment } from './enrolment.ts';
import { estEndpoints } from './est.ts';
import { Registry } from './registry.ts';

/** A clock that was wrong at the start is right some seconds later. */
const LOOK_MS = 60_000;

interface Enrolling {
  enrolment: Enrolment;
  audit: Audit;
  tls: ServerTls;
  names: readonly string[];
  server: HttpServer;
  failures: FailureLimiter;
  /** Once they listen. */
  listening: Address | undefined;
  uplinks: Address | undefined;
  timer: NodeJS.Timeout | undefined;
}

/** Under which gateways find this collector. Throws CONFIG_INVALID. */
function namesOf({ context: { config } }: CollectorSite): readonly string[] {
  const [names, address] = [config['enroll.names'], config['enroll.listen']];
  if (names.length > 0) return names;
  const host = address?.host ?? '';
  if (host !== '0.0.0.0' && host !== '::') return [host];
  throw new HeadwaterError(
    'CONFIG_INVALID',
    `enroll.listen is every address of this machine: say with --enroll-names under which name gateways reach it`,
  );
}

async function open(site: CollectorSite): Promise<Enrolling | undefined> {
  const { config, env, notify, nowMs } = site.context;
  if (config['enroll.listen'] === undefined) return undefined;
  const names = namesOf(site);
  const { audit } = site.get(guardPart);
  const authority = await Authority.open(
    join(site.get(diskPart).folder, 'enroll'),
    nowMs(),
    notify,
  );
  const registry = new Registry(authority.folder, notify);
  await registry.open(nowMs(), authority.isNew);
  const enrolment = new Enrolment(
    authority,
    registry,
    {
      certificateDays: config['enroll.certificateDays'],
      graceDays: config['enroll.graceDays'],
      reserved: config['ingest.httpGateway'],
      nowMs,
      notBeforeMs: builtMs(),
    },
    notify,
  );
  const files = await authority.serverFiles(names, nowMs());
  const tls = new ServerTls(
    { ...files, caFile: authority.certPath, crlFile: '' },
    "the enrolment's certificate",
    notify,
  );
  const failures = new FailureLimiter(config['ingest.authFailuresPerMinute'], () =>
    env.clock.monotonicUs(),
  );
  const server = new HttpServer(estEndpoints({ enrolment, failures, audit }), {
    // No API token counts here: its routes ask for a join token or a certificate.
    tokens: new Tokens(randomBytes(32).toString('hex'), ''),
    failures,
    audit,
    tls,
    asksCertificate: true,
    here: '',
    notify,
  });
  const timer = setInterval(() => {
    authority.serverFiles(names, nowMs()).catch((error: unknown) => {
      const text = `the certificate that gateways see could not be renewed: ${messageOf(error)}`;
      notify({ level: 'error', event: 'enroll', text });
    });
  }, LOOK_MS);
  timer.unref();
  const ends = { listening: undefined, uplinks: undefined };
  return { enrolment, audit, tls, names, server, failures, timer, ...ends };
}

/** What stands of each limit of its listener, and of none that nobody can reach. */
const limitsOf =
  (value: (share: Share) => number) =>
  ({ server: { shares } }: Enrolling): { labels: Labels; value: number }[] =>
    [shares.connections, shares.bodies].map((share) => ({
      labels: { limit: share.name },
      value: value(share),
    }));

/** `KEY=VALUE,KEY=VALUE`. Throws QUERY_INVALID. */
function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const pair of text === '' ? [] : text.split(',')) {
    const match = /^([A-Za-z_][\w.-]{0,63})=([^,]{0,128})$/.exec(pair);
    if (match?.[1] === undefined)
      throw new HeadwaterError('QUERY_INVALID', `labels: '${pair.slice(0, 100)}' is not KEY=VALUE`);
    labels[match[1]] = match[2] ?? '';
  }
  return labels;
}

async function makeTokens(
  { enrolment, audit, names, listening, uplinks }: Enrolling,
  { fields, identity, address }: Request,
): Promise<object> {
  const at = (protocol: string, address: Address | undefined): string =>
    `${protocol}://${addressText({ host: names[0] ?? '', port: address?.port ?? 0 })}`;
  const given = (name: string): string[] => (fields[name] ?? '').split(',').filter(Boolean);
  const [urls, collectors] = [given('urls'), given('collectors')];
  const tokens = await enrolment.makeTokens({
    gateways: given('gateways'),
    site: fields['site'] ?? '',
    labels: labelsOf(fields['labels'] ?? ''),
    hours: Number(fields['hours'] ?? 24 * 7),
    approval: fields['approval'] === 'true',
    urls: urls.length > 0 ? urls : [at('https', listening)],
    collectors: collectors.length > 0 ? collectors : [at('mqtts', uplinks)],
  });
  const about = `${tokens.length} from ${tokens[0]?.gateway ?? ''}`;
  audit.say({ event: 'enroll_tokens', user: identity.name, address, about });
  return { tokens };
}

export const enrollPart: CollectorPart<Enrolling> = {
  name: 'enrolment',
  roles: ['ingest'],
  absent:
    'this collector enrols no gateways: start it with --enroll HOST:PORT and --uplinks HOST:PORT',
  open,
  start: async (enrolling, { context: { config } }) => {
    const address = config['enroll.listen'];
    if (address !== undefined)
      enrolling.listening = await enrolling.server.listen(address, '--enroll');
  },
  routes: [
    {
      method: 'POST',
      path: '/api/v1/enroll/tokens',
      about: 'Makes join tokens, each for one gateway and good once.',
      right: ADMIN_ALL,
      body: {
        fields: {
          gateways: { about: 'Names, with commas.', required: true },
          site: { about: 'Where they are.' },
          labels: { about: 'KEY=VALUE, with commas.' },
          hours: {
            about: 'How long they can be used; 168 when left out.',
            integer: { min: 1, max: 87_600 },
          },
          approval: {
            about: 'true: a person lets each in, by POST /api/v1/enroll/approve.',
            choices: ['true', 'false'],
          },
          urls: {
            about:
              'https://HOST:PORT of the enrolment, with commas, where gateways see another than this process.',
          },
          collectors: { about: 'mqtts://HOST:PORT of the uplink, likewise.' },
        },
      },
      replies: {
        200: {
          about: 'The tokens, which are kept nowhere.',
          schema: object({ tokens: listOf({ gateway: TEXT, token: TEXT }) }),
        },
      },
      handle: async (enrolling, request) => json(await makeTokens(enrolling, request)),
    },
    {
      method: 'GET',
      path: '/api/v1/enroll/tokens',
      about: 'Join tokens that were made, without their secrets.',
      right: READ_ALL,
      replies: {
        200: {
          about: 'What has become of each.',
          schema: object({
            tokens: listOf({
              gateway: TEXT,
              site: TEXT,
              labels: TAGS,
              expiresMs: INTEGER,
              usedMs: maybe(INTEGER),
              waiting: maybe(listOf({ key: TEXT, atMs: INTEGER, address: TEXT })),
            }),
          }),
        },
      },
      handle: ({ enrolment }) =>
        json({
          tokens: [...enrolment.registry.tokens.values()].map(
            ({ gateway, site, labels, expiresMs, usedMs, approval }) => ({
              gateway,
              site,
              labels,
              expiresMs,
              usedMs,
              waiting: approval?.key === undefined ? approval?.asked : undefined,
            }),
          ),
        }),
    },
    {
      method: 'POST',
      path: '/api/v1/enroll/approve',
      about: 'Lets a gateway in that waits for it.',
      right: ADMIN_ALL,
      body: {
        fields: {
          gateway: { about: 'Its name.', required: true },
          key: { about: 'What its key begins with, where several wait under the name.' },
        },
      },
      replies: {
        200: {
          about: 'It is let in, and gets its certificate when it asks again.',
          schema: object({ approved: TEXT, key: TEXT, address: TEXT }),
        },
      },
      handle: async ({ enrolment, audit }, { fields, identity, address }) => {
        const gateway = fields['gateway'] ?? '';
        const machine = await enrolment.approve(gateway, fields['key'] ?? '');
        audit.say({ event: 'approved', user: identity.name, address, about: gateway });
        return json({ approved: gateway, key: machine.key, address: machine.address });
      },
    },
    {
      method: 'POST',
      path: '/api/v1/enroll/revoke',
      about: "Takes a gateway's certificates and unused tokens back, and cuts it off.",
      right: ADMIN_ALL,
      body: { fields: { gateway: { about: 'Its name.', required: true } } },
      replies: { 200: { about: 'It is out.', schema: object({ revoked: TEXT }) } },
      handle: async ({ enrolment, audit }, { fields, identity, address }) => {
        const gateway = fields['gateway'] ?? '';
        await enrolment.revoke(gateway);
        audit.say({ event: 'revoked', user: identity.name, address, about: gateway });
        return json({ revoked: gateway });
      },
    },
  ],
  metrics: {
    headwater_enroll_members: gauge(
      'Gateways that were enrolled here and are not revoked.',
      ({ enrolment: { registry } }) =>
        [...registry.members.values()].filter(({ revokedMs }) => revokedMs === undefined).length,
    ),
    headwater_enroll_waiting: gauge(
      'Machines that wait for a person to let them in.',
      ({ enrolment }) => enrolment.approvals.waiting().length,
    ),
    headwater_enroll_limit_refused_total: counter(
      'Times that an address got nothing more of the listener for enrolment, by limit (docs/limits.md).',
      limitsOf(({ refused }) => refused),
    ),
    headwater_enroll_limit_used: gauge(
      'What is taken of a limit that holds for all who enrol.',
      limitsOf(({ used }) => used),
    ),
    headwater_enroll_certificates_total: counter(
      'Certificates given out since the start, at enrolments and renewals.',
      ({ enrolment }) => enrolment.given,
    ),
  },
  close: async ({ server, tls, timer, enrolment }) => {
    clearInterval(timer);
    await server.close();
    tls.stop();
    await enrolment.registry.close();
  },
};
