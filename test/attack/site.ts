/** What is attacked: `up` as a stranger to security starts it, and gateway and collector apart with everything on. */
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { hashOf } from '../../shared/access/tokens.ts';
import { passwordLine } from '../../shared/config/secrets.ts';
import { Authority } from '../support/certificates.ts';
import { headwater, temporaryFolder, type Headwater } from '../support/process.ts';
import type { Target } from './attack.ts';
import type { Good } from './good.ts';

export interface Site {
  target: Target;
  good: Good | undefined;
  processes: Headwater[];
  close: () => Promise<void>;
}

const FREE = '127.0.0.1:0';
const PASSWORD = 'correct horse battery';
const TOKENS = {
  good: 'good-token',
  bad: 'bad-token',
  badWrite: 'bad-write-token',
  admin: 'admin-token',
};
const ACL = `rules:
  - users: [good, bad]
    publish: ['{user}/#']
    subscribe: ['{user}/#']
`;

type Environment = Record<string, string>;

/** Addresses as its `ready` line has them. */
async function up(environment: Environment): Promise<Site> {
  const server = await headwater(
    [
      ...['up', '--no-sample', '--data', temporaryFolder(), '--mqtt', FREE, '--ws', FREE],
      ...['--http', FREE, '--gateway-http', FREE, '--uplink', FREE],
    ],
    environment,
  );
  const port = (name: string): number => server.port(name);
  return {
    target: {
      site: 'up',
      mqtt: port('mqtt'),
      mqtts: undefined,
      ws: port('ws'),
      uplink: port('uplink'),
      http: port('http'),
      gatewayHttp: port('gateway-http'),
      enroll: undefined,
      isSecure: false,
      login: undefined,
      tokens: undefined,
    },
    good: undefined,
    processes: [server],
    close: async () => void (await server.kill()),
  };
}

async function secrets(folder: string): Promise<Record<'passwords' | 'rules' | 'tokens', string>> {
  const [passwords, rules, tokens] = ['passwords', 'acl.yaml', 'tokens'].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  const lines = await Promise.all(
    ['good', 'bad'].map((user) => passwordLine(user, Buffer.from(PASSWORD))),
  );
  writeFileSync(passwords, `${lines.join('\n')}\n`, { mode: 0o600 });
  writeFileSync(rules, ACL);
  const token = (name: string, scopes: string, secret: string): string =>
    `${name}:${scopes}:*:${hashOf(secret).toString('hex')}\n`;
  writeFileSync(
    tokens,
    token('good', 'read', TOKENS.good) +
      token('admin', 'admin', TOKENS.admin) +
      token('bad', 'read', TOKENS.bad) +
      token('bad', 'write', TOKENS.badWrite),
    { mode: 0o600 },
  );
  return { passwords, rules, tokens };
}

/** A join token, as `headwater enroll` asks for one. */
function joinToken(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        ...{ host: '127.0.0.1', port, method: 'POST', path: '/api/v1/enroll/tokens' },
        ...{ agent: false, rejectUnauthorized: false },
        headers: { authorization: `Bearer ${TOKENS.admin}` },
      },
      (response) => {
        let text = '';
        response.on('data', (part: Buffer) => (text += part.toString()));
        response.on('end', () => {
          const { tokens } = JSON.parse(text) as { tokens?: { token: string }[] };
          if (tokens?.[0] === undefined) reject(new Error(`no join token: ${text}`));
          else resolve(tokens[0].token);
        });
      },
    );
    sent.on('error', reject);
    sent.end('{"gateways":"gw"}');
  });
}

async function apart(environment: Environment): Promise<Site> {
  const folder = temporaryFolder();
  const authority = new Authority(join(folder, 'ca'));
  const server = authority.issue({ name: 'server', hosts: ['127.0.0.1', 'localhost'] });
  const { passwords, rules, tokens } = await secrets(folder);
  const guarded = ['--tls-cert', server.cert, '--tls-key', server.key, '--tokens-file', tokens];
  const collector = await headwater(
    [
      ...['collector', '--data', temporaryFolder(), '--http', FREE, '--uplink', FREE],
      ...['--uplinks', FREE],
      ...['--enroll', FREE, '--enroll-names', '127.0.0.1', '--http-tls', ...guarded],
    ],
    environment,
  );
  const joinFile = join(folder, 'join');
  writeFileSync(joinFile, await joinToken(collector.port('http')), { mode: 0o600 });
  const gateway = await headwater(
    [
      ...['gateway', '--data', temporaryFolder(), '--mqtt', FREE, '--mqtts', FREE, '--ws', FREE],
      ...['--http', FREE, '--http-tls', '--password-file', passwords, '--acl-file', rules],
      ...[...guarded, '--tls-client-ca', authority.cert, '--join', joinFile],
    ],
    environment,
  );
  return {
    target: {
      site: 'apart',
      mqtt: gateway.port('mqtt'),
      mqtts: gateway.port('mqtts'),
      ws: gateway.port('ws'),
      uplink: collector.port('uplinks'),
      http: collector.port('http'),
      gatewayHttp: gateway.port('http'),
      enroll: collector.port('enroll'),
      isSecure: true,
      login: { user: 'bad', password: PASSWORD },
      tokens: { read: TOKENS.bad, write: TOKENS.badWrite },
    },
    good: { user: 'good', password: PASSWORD, token: TOKENS.good },
    processes: [gateway, collector],
    close: async () => {
      await gateway.kill();
      await collector.kill();
    },
  };
}

export const SITES = { up, apart };

/** Of all its processes, bytes; of one that has ended 0, which is told elsewhere. */
export const rssOf = ({ processes }: Site): number =>
  processes.reduce((sum, { pid }) => sum + rssOfProcess(pid), 0);

function rssOfProcess(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
