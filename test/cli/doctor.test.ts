/** `headwater doctor --config`: each check once well and once ill, on real files; it makes nothing. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { createServer as createTlsServer } from 'node:tls';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { configuration, type Side } from '../../cli/doctor/configuration.ts';
import type { Finding } from '../../cli/doctor/finding.ts';
import { clock, node, writable } from '../../cli/doctor/machine.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { passwordLine } from '../../shared/config/secrets.ts';
import { Authority, type Pair } from '../support/certificates.ts';
import { run, temporaryFolder } from '../support/process.ts';

const stamp = (ms: number): string =>
  `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;
const DAY_MS = 86_400_000;

let authority: Authority;
let good: Pair;
beforeAll(() => {
  authority = new Authority(join(temporaryFolder(), 'ca'));
  good = authority.issue({ name: 'edge', hosts: ['127.0.0.1'] });
});

/** A private file with a content. */
function file(content: string, mode = 0o600): string {
  const path = join(temporaryFolder(), 'file');
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

/** What the doctor says of settings, which also have a data folder that is not there. */
async function look(settings: Record<string, unknown>, side?: Side): Promise<Finding[]> {
  const data = join(temporaryFolder(), 'not', 'yet');
  const findings = await configuration({
    file: file(stringify({ data, ...settings })),
    side,
    flags: {},
  });
  expect(existsSync(data)).toBe(false);
  return findings;
}
const failures = (findings: readonly Finding[]): string[] =>
  findings.filter(({ level }) => level === 'fail').map(({ text }) => text);
const warnings = (findings: readonly Finding[]): string[] =>
  findings.filter(({ level }) => level === 'warn').map(({ text }) => text);

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port; // Of a TCP server.
}

describe('the file', () => {
  it('is taken for the side whose keys it has, and a good one fails nothing', async () => {
    const gateway = await look({ mqtt: { listen: '127.0.0.1:1883' } });
    expect(gateway.some(({ text }) => text.includes("taken for a gateway's, is valid"))).toBe(true);
    expect(failures(gateway)).toEqual([]);
    const collector = await look({ lake: 'none' });
    expect(collector.some(({ text }) => text.includes("taken for a collector's"))).toBe(true);
    expect(failures(collector)).toEqual([]);
    const asked = await look({ id: 'x' }, 'collector');
    expect(failures(asked)).toEqual([expect.stringContaining("unknown key 'id'")]);
  });

  it('is told with every sentence, not only the first', async () => {
    const found = failures(
      await look({
        mqtt: { listen: 'nowhere' },
        buffer: { whenFull: 'panic', frameBytes: 1 },
        nonsense: 1,
        uplink: { more: 2 },
      }),
    );
    expect(found).toEqual([
      expect.stringMatching(/mqtt\.listen: 'nowhere' is not an address/),
      expect.stringMatching(/buffer\.whenFull: 'panic' is not one of/),
      expect.stringMatching(/buffer\.frameBytes: '1' is not between/),
      expect.stringMatching(/unknown key 'nonsense'/),
      expect.stringMatching(/unknown key 'uplink\.more'/),
    ]);
  });

  it('of `up` is looked at section by section', async () => {
    const path = file(stringify({ gateway: { id: 'a b' }, collector: { nonsense: 1 } }));
    const flags = { data: join(temporaryFolder(), 'up') };
    const found = failures(await configuration({ file: path, side: undefined, flags }));
    expect(found).toContainEqual(expect.stringContaining("unknown key 'nonsense'"));
    expect(found).toContainEqual(expect.stringContaining("'a b'"));
    expect(existsSync(flags.data)).toBe(false);
  });

  it('that would open an address to everybody is a failure', async () => {
    const listen = '0.0.0.0:1883';
    expect(failures(await look({ mqtt: { listen } }))).toContainEqual(
      expect.stringContaining('--password-file'),
    );
  });
});

describe('certificates', () => {
  const tls = ({ cert, key }: Pair, more = {}) =>
    look({ tls: { certFile: cert, keyFile: key, ...more } });

  it('of a good pair are well, with their names', async () => {
    const found = await tls(good, { clientCaFile: authority.cert });
    expect([failures(found), warnings(found)]).toEqual([[], []]);
    expect(found).toContainEqual({
      level: 'ok',
      text: expect.stringContaining('IP Address:127.0.0.1'),
    });
  });

  it('that expire soon, have expired or are of the future are told', async () => {
    const now = Date.now();
    const hosts = ['127.0.0.1'];
    const soon = await tls(
      authority.issue({ name: 'soon', hosts, to: stamp(now + 20.5 * DAY_MS) }),
    );
    expect(warnings(soon)).toEqual([expect.stringContaining('expires in 20 days')]);
    expect(failures(soon)).toEqual([]);
    const past = await tls(authority.issue({ name: 'past', hosts, to: stamp(now - DAY_MS) }));
    expect(failures(past)).toEqual([expect.stringMatching(/'CN=past' has expired .* renew it/)]);
    const from = stamp(now + DAY_MS);
    const next = await tls(authority.issue({ name: 'next', hosts, from }));
    expect(failures(next)).toEqual([expect.stringContaining('is not valid before')]);
  });

  it('with another key, a missing file or a key for everybody are told', async () => {
    const other = authority.issue({ name: 'other' });
    expect(failures(await tls({ cert: good.cert, key: other.key }))).toContainEqual(
      expect.stringMatching(/TLS certificate: .*mismatch/),
    );
    expect(failures(await tls({ cert: '/nowhere.pem', key: good.key }))).toContainEqual(
      expect.stringContaining('/nowhere.pem'),
    );
    const open = join(temporaryFolder(), 'key');
    copyFileSync(good.key, open);
    chmodSync(open, 0o644);
    expect(failures(await tls({ cert: good.cert, key: open }))).toEqual([
      expect.stringContaining(`chmod 600 ${open}`),
    ]);
  });

  it("without a host's name, or of another gateway, are told", async () => {
    expect(warnings(await tls(authority.issue({ name: 'bare' })))).toEqual([
      expect.stringContaining('names no host'),
    ]);
    const uplink = { certFile: good.cert, keyFile: good.key };
    expect(failures(await look({ id: 'edge', uplink }, 'gateway'))).toEqual([]);
    expect(failures(await look({ id: 'shed', uplink }, 'gateway'))).toEqual([
      expect.stringContaining("this gateway is 'shed'"),
    ]);
  });
});

describe('secrets and access', () => {
  const long = 'a secret that is long enough';

  it('that are private and valid are well, and counted', async () => {
    const found = await look({
      mqtt: {
        passwordFile: file(`${await passwordLine('anna', Buffer.from(long))}\n`),
        aclFile: file('rules: [{ publish: ["a/#"] }]'),
      },
      http: {
        tokenFile: file(long),
        tokensFile: file(`ops:read:*:${hashOf(long).toString('hex')}\n`),
      },
      uplink: { secretFile: file(long) },
    });
    expect(failures(found)).toEqual([]);
    const text = found.map((each) => each.text).join('\n');
    expect(text).toMatch(/passwordFile: \S+ has 1 users/);
    expect(text).toMatch(/aclFile: \S+ has 1 rules/);
    expect(text).toMatch(/tokensFile: \S+ has 1 tokens/);
  });

  it('that group or others may read, are short or do not parse are told, each', async () => {
    const [tokenFile, secretFile] = [file(long, 0o640), file('short')];
    const found = failures(
      await look({
        mqtt: { passwordFile: file('anna:plain\n'), aclFile: file('rules: [{ publihs: [a] }]') },
        http: { tokenFile, tokensFile: file('nonsense\n') },
        uplink: { secretFile },
      }),
    );
    expect(found).toEqual([
      expect.stringContaining(`chmod 600 ${tokenFile}`),
      expect.stringContaining('fewer than 16 characters'),
      expect.stringContaining("line 1 is not a token as 'headwater token' prints it"),
      expect.stringContaining("line 1 is not a credential as 'headwater password' prints it"),
      expect.stringContaining("unknown key 'publihs'"),
    ]);
    const empty = warnings(
      await look({ mqtt: { aclFile: file('') }, http: { tokensFile: file('') } }),
    );
    expect(empty).toContainEqual(expect.stringContaining('nobody may do anything'));
    expect(empty).toContainEqual(expect.stringContaining('nobody may come'));
  });

  it("of a collector's store and Kafka are looked at too", async () => {
    const open = file(long, 0o604);
    const found = await look(
      { store: { tokenFile: open }, kafka: { passwordFile: open } },
      'collector',
    );
    expect(failures(found).filter((text) => text.includes(`chmod 600 ${open}`))).toHaveLength(2);
  });
});

describe('programs of a collector', () => {
  it('that are valid are well', async () => {
    const jobs = temporaryFolder();
    writeFileSync(join(jobs, 'mine.sql'), 'SELECT 1');
    const found = await look({
      mappings: file('mappings: [{ topic: "a/{b}" }]'),
      stream: { rules: file('rules: []\n') },
      batch: { jobs },
    });
    expect(failures(found)).toEqual([]);
    expect(found).toContainEqual({ level: 'ok', text: `batch.jobs: ${jobs} has 1 jobs` });
  });

  it('that are not are told, each in the sentence of its loader', async () => {
    const jobs = temporaryFolder();
    writeFileSync(join(jobs, 'mine.sql'), 'DELETE FROM x');
    const found = failures(
      await look({
        mappings: file('mappings: [{ topik: "a/#" }]'),
        stream: { rules: file('rules: [{ nam: x }]') },
        batch: { jobs },
      }),
    );
    expect(found).toEqual([
      expect.stringContaining('topik'),
      expect.stringContaining('nam'),
      expect.stringContaining('is not a SELECT'),
    ]);
  });
});

describe('what is elsewhere', () => {
  it('the uplink is reached by TCP and by TLS, and one of several collectors is enough', async () => {
    const port = await listening(createServer());
    const tls = await listening(
      createTlsServer({ cert: readFileSync(good.cert), key: readFileSync(good.key) }),
    );
    const uplink = { caFile: authority.cert };
    const both = [`mqtt://127.0.0.1:${port}`, `mqtts://127.0.0.1:${tls}`];
    expect(failures(await look({ collectors: both, uplink }))).toEqual([]);
    const dead = 'mqtt://127.0.0.1:1';
    const one = await look({ collectors: [...both, dead], uplink });
    expect(failures(one)).toEqual([]);
    expect(warnings(one)).toContainEqual(expect.stringContaining(`${dead} cannot be reached`));
    expect(failures(await look({ collectors: [dead] }))).toEqual([
      expect.stringMatching(/ECONNREFUSED.*start it/),
    ]);
    const stranger = new Authority(join(temporaryFolder(), 'ca'), 'Stranger').cert;
    expect(failures(await look({ collectors: [both[1]], uplink: { caFile: stranger } }))).toEqual([
      expect.stringContaining('certificate is not accepted'),
    ]);
  });

  it('those to whom alerts go are reached, and a certificate that is not believed is a failure', async () => {
    const pair = { cert: readFileSync(good.cert), key: readFileSync(good.key) };
    const [plain, tls] = [await listening(createServer()), await listening(createTlsServer(pair))];
    const mqtt = `mqtt: "mqtts://127.0.0.1:${tls}", topic: t`;
    const rules = file(
      `deliver: [{ name: a, webhook: "http://127.0.0.1:${plain}/x" }, { name: b, ${mqtt}, caFile: ${authority.cert} }, { name: c, ${mqtt} }, { name: d, webhook: "http://127.0.0.1:1/x" }]\n`,
    );
    const found = await look({ stream: { rules } });
    expect(failures(found)).toEqual([
      expect.stringContaining(
        `alerts: mqtt 'c' at mqtts://127.0.0.1:${tls}: its certificate is not accepted, so nothing was sent: it is not signed by`,
      ),
      expect.stringMatching(/webhook 'd' .*ECONNREFUSED/),
    ]);
    expect(found.filter(({ text }) => text.includes('can be reached'))).toHaveLength(2);
  });

  it('a store that is away is a failure, and a lake in a folder is not made', async () => {
    const lake = join(temporaryFolder(), 'lake');
    expect(failures(await look({ lake }))).toEqual([]);
    expect(existsSync(lake)).toBe(false);
    expect(failures(await look({ store: 'influxdb://127.0.0.1:1/db' }))).toEqual([
      expect.stringContaining('ECONNREFUSED'),
    ]);
  });
});

describe('the machine', () => {
  it('a clock before this version was made is a failure, and for a gateway that is told the time a warning', () => {
    expect(clock(Date.now(), false).level).toBe('ok');
    expect(clock(Date.UTC(2023, 0), false)).toMatchObject({ level: 'fail' });
    expect(clock(Date.UTC(1970, 0), true)).toMatchObject({ level: 'warn' });
  });

  it('an old Node is a failure', () => {
    expect(node().level).toBe('ok');
    expect(node('18.20.0').level).toBe('fail');
  });

  it('a data folder is written without a trace; a file, a full disk and another part’s folder are failures', async () => {
    const folder = temporaryFolder();
    expect(failures(await writable(folder, 0))).toEqual([]);
    expect(readdirSync(folder)).toEqual([]);
    expect(failures(await writable(folder, 2 ** 60))).toEqual([
      expect.stringContaining('make room'),
    ]);
    expect(failures(await writable(join(file(''), 'below'), 0))).toEqual([
      expect.stringContaining('cannot be written'),
    ]);
    // Not even root writes there.
    expect(failures(await writable('/sys/headwater', 0))).toHaveLength(1);
    const data = join(folder, 'data');
    mkdirSync(data);
    writeFileSync(
      join(data, 'headwater.json'),
      JSON.stringify({ layout: 1, part: 'gateway', id: 'x' }),
    );
    const path = file(stringify({ data, lake: 'none' }));
    expect(failures(await configuration({ file: path, side: undefined, flags: {} }))).toEqual([
      expect.stringContaining('belongs to a gateway'),
    ]);
    expect(readdirSync(data)).toEqual(['headwater.json']);
  });
});

describe('the command', () => {
  it('ends with 0, 1 when something fails, and 2 for a wrong line; a line for each check', async () => {
    const data = join(temporaryFolder(), 'data');
    const config = file(stringify({ id: 'a', data }));
    const well = await run(['doctor', '--config', config]);
    expect(well, well.output).toMatchObject({ code: 0 });
    expect(
      well.stdout
        .trim()
        .split('\n')
        .every((line) => /^(ok|warn) {2,4}\S/.test(line)),
    ).toBe(true);
    const ill = await run(['doctor', '--config', '/nowhere.yaml']);
    expect(ill).toMatchObject({ code: 1 });
    expect(ill.stdout).toMatch(/^fail {2}\/nowhere\.yaml: /m);
    expect(await run(['doctor', '--config', config, '--as', 'toaster'])).toMatchObject({ code: 2 });
    expect(existsSync(data)).toBe(false);
  });
});
