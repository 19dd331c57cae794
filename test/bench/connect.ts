/**
 * What security costs: the same load into a gateway that asks nobody, into one with passwords, access rules and an audit
 * log, and the latter over TLS; each beside Mosquitto (without persistence) set up the same way, in the same rounds.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { passwordLine } from '../../shared/config/secrets.ts';
import { startMosquitto } from '../services/servers.ts';
import { Authority } from '../support/certificates.ts';
import { connectPacket } from '../support/hostile.ts';
import { runLoad, type LoadResult } from '../support/load.ts';
import { temporaryFolder, type Headwater } from '../support/process.ts';
import { freePort } from '../support/free-port.ts';
import { benchCodecs, type CodecFigure } from './codecs.ts';
import { median } from './measure.ts';

const CONNECTIONS = 10;
const PASSWORD = 'correct horse battery';

interface Variant {
  name: string;
  ours: number;
  theirs: number;
  secured: boolean;
  ca: string | undefined;
}

export interface ConnectFigures {
  variants: {
    variant: string;
    headwaterPerSecond: number;
    mosquittoPerSecond: number;
    /** Median of the rounds' ratios. */
    ratio: number;
  }[];
  /** Of the open gateway's rate. */
  securedToOpen: number;
  tlsToOpen: number;
  codecs: CodecFigure[];
}

export async function benchConnect(
  startGateway: (folder: string, ...more: string[]) => Promise<Headwater>,
  payload: (index: number) => string,
  messages: number,
  rounds: number,
  smoke: boolean,
): Promise<ConnectFigures> {
  const folder = temporaryFolder();
  const authority = new Authority(join(folder, 'ca'));
  const pair = authority.issue({ name: 'server', hosts: ['127.0.0.1'] });
  const passwords = join(folder, 'passwords');
  writeFileSync(passwords, `${await passwordLine('bench', Buffer.from(PASSWORD))}\n`, {
    mode: 0o600,
  });
  const acl = join(folder, 'acl.yaml');
  writeFileSync(acl, "rules:\n  - users: [bench]\n    publish: ['site/{client}/#', 'site/+/+']\n");
  const open = await startGateway(join(folder, 'open'));
  const secured = await startGateway(
    join(folder, 'secured'),
    ...['--password-file', passwords, '--acl-file', acl],
    ...['--mqtts', '127.0.0.1:0', '--tls-cert', pair.cert, '--tls-key', pair.key],
  );
  // Mosquitto with the same: a password file, an access list, a TLS listener.
  const theirPasswords = join(folder, 'mosquitto.pw');
  execFileSync('mosquitto_passwd', ['-b', '-c', theirPasswords, 'bench', PASSWORD]);
  const theirAcl = join(folder, 'mosquitto.acl');
  writeFileSync(theirAcl, 'user bench\ntopic write site/+/+\n');
  // It gives up root's rights before it reads them.
  for (const file of [theirPasswords, theirAcl, pair.key, pair.cert]) chmodSync(file, 0o644);
  for (const each of [folder, authority.folder]) chmodSync(each, 0o755);
  const tlsPort = await freePort();
  const mosquitto = await startMosquitto();
  const theirSecured = await startMosquitto(
    `password_file ${theirPasswords}\nacl_file ${theirAcl}\nallow_anonymous false\nlistener ${tlsPort} 127.0.0.1\ncertfile ${pair.cert}\nkeyfile ${pair.key}\nallow_anonymous false\n`,
  );
  chmodSync(pair.key, 0o600);
  const load = (
    port: number,
    isSecured: boolean,
    ca: string | undefined,
    count: number,
  ): Promise<LoadResult> =>
    runLoad({
      host: '127.0.0.1',
      port,
      connections: CONNECTIONS,
      messages: count,
      window: 1000,
      payload,
      topic: (connection) => `site/device${connection}/climate`,
      ...(isSecured
        ? { connect: (id: string) => connectPacket({ id, user: 'bench', password: PASSWORD }) }
        : {}),
      ...(ca === undefined ? {} : { ca }),
    });
  const variants: Variant[] = [
    {
      name: 'open',
      secured: false,
      ca: undefined,
      ours: open.port('mqtt'),
      theirs: mosquitto.port,
    },
    {
      name: 'passwords, access rules',
      secured: true,
      ca: undefined,
      ours: secured.port('mqtt'),
      theirs: theirSecured.port,
    },
    {
      name: 'passwords, access rules, TLS',
      secured: true,
      ca: authority.cert,
      ours: secured.port('mqtts'),
      theirs: tlsPort,
    },
  ];
  const rates = variants.map(() => ({ ours: [] as number[], theirs: [] as number[] }));
  const rate = ({ acknowledged, seconds }: LoadResult): number =>
    Math.round(acknowledged / seconds);
  for (let round = 0; round <= rounds; round++) {
    for (const [index, { secured: isSecured, ca, ours, theirs }] of variants.entries()) {
      const count = round === 0 ? Math.ceil(messages / 10) : messages;
      const mine = await load(ours, isSecured, ca, count);
      if (mine.acknowledged !== count)
        throw new Error(`only ${mine.acknowledged} of ${count} acknowledged`);
      const other = await load(theirs, isSecured, ca, count);
      // The first one warms up.
      if (round === 0) continue;
      rates[index]?.ours.push(rate(mine));
      rates[index]?.theirs.push(rate(other));
    }
  }
  for (const each of [open, secured]) await each.kill();
  for (const each of [mosquitto, theirSecured]) await each.stop();
  const figures = variants.map(({ name }, index) => {
    const { ours, theirs } = rates[index] ?? { ours: [], theirs: [] };
    return {
      variant: name,
      headwaterPerSecond: median(ours),
      mosquittoPerSecond: median(theirs),
      ratio: median(ours.map((value, at) => value / (theirs[at] ?? Number.NaN))),
    };
  });
  const [first, second, third] = figures.map(({ headwaterPerSecond }) => headwaterPerSecond);
  return {
    variants: figures,
    securedToOpen: (second ?? 0) / (first ?? 1),
    tlsToOpen: (third ?? 0) / (first ?? 1),
    codecs: await benchCodecs(smoke ? 5000 : 200_000, smoke ? 1 : 5),
  };
}
