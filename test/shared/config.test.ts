import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { brokersOf } from '../../collector/log/kafka-access.ts';
import { changed, noteServed, servedBefore } from '../../collector/ops/served.ts';
import { parseRoles } from '../../collector/roles.ts';
import { parseInfluxAddress } from '../../collector/store/influxdb.ts';
import { createStore } from '../../collector/store/open.ts';
import { QUERY, parseQuery } from '../../collector/api/parameters.ts';
import { checkParameters } from '../../shared/http/route.ts';
import { GATEWAY_CONFIG } from '../../gateway/config.ts';
import { gatewayId } from '../../gateway/gateway.ts';
import { checkFolder, claimFolder } from '../../shared/config/data-folder.ts';
import { readyLine } from '../../shared/config/process.ts';
import { strayVariables } from '../../shared/config/environment.ts';
import { readSecretFile } from '../../shared/config/secrets.ts';
import {
  environmentName,
  loadConfig,
  parseAddress,
  parseFolder,
} from '../../shared/config/spec.ts';
import { codeOf } from '../../shared/errors.ts';
import { crc32c } from '../../shared/frame/crc32c.ts';
import { FolderLock, LOCK } from '../../shared/kv/folder-lock.ts';
import { printable } from '../../shared/telemetry/log.ts';
import { temporaryFolder } from '../support/process.ts';

function yaml(text: string): string {
  const file = join(temporaryFolder(), 'config.yaml');
  writeFileSync(file, text);
  return file;
}

describe('configuration', () => {
  it('a flag is stronger than the environment, that than the file, that than the default', () => {
    const file = yaml(
      'id: from-file\nmqtt: { listen: 127.0.0.1:1 }\nbuffer:\n  frameBytes: 2048\n',
    );
    const environment = { HEADWATER_ID: 'from-environment', HEADWATER_MQTT_LISTEN: '127.0.0.1:2' };
    const config = loadConfig(GATEWAY_CONFIG, { file, environment, flags: { id: 'from-flag' } });
    expect([
      config.id,
      config['mqtt.listen']?.port,
      config['buffer.frameBytes'],
      config['limits.filtersMax'],
    ]).toEqual(['from-flag', 2, 2048, 100]);
    expect(Object.isFrozen(config)).toBe(true);
  });

  it.each([
    ['bufer: { frameBytes: 2048 }', 'CONFIG_UNKNOWN_KEY', /unknown key 'bufer\.frameBytes'/],
    ['frameBytes: 2048', 'CONFIG_UNKNOWN_KEY', /did you mean 'buffer\.frameBytes'/],
    [
      'buffer: { frameBytes: 12 }',
      'CONFIG_INVALID',
      /buffer\.frameBytes: '12' is not between 1024/,
    ],
    ['buffer: { compress: maybe }', 'CONFIG_INVALID', /true or false/],
    ['mqtt: { listen: nowhere }', 'CONFIG_INVALID', /HOST:PORT/],
    ['id: [', 'CONFIG_INVALID', /config\.yaml/],
    ['just text', 'CONFIG_INVALID', /top level/],
    ['bufer.x: 1', 'CONFIG_UNKNOWN_KEY', /unknown key 'bufer\.x'/],
    ['buffer: { frameByts: 2048 }', 'CONFIG_UNKNOWN_KEY', /did you mean 'buffer\.frameBytes'/],
    [
      'mqtt: 127.0.0.1:1883',
      'CONFIG_UNKNOWN_KEY',
      /'mqtt': it is a section, with keys such as 'mqtt\.listen'/,
    ],
    ['gateway: { id: x }', 'CONFIG_UNKNOWN_KEY', /of headwater up: here it is 'id'/],
    ['data:', 'CONFIG_INVALID', /config\.yaml: data: it has no value, and wants a text/],
    ['data: [a]', 'CONFIG_INVALID', /data: '\["a"\]' is not a text/],
    ['collectors: [{ a: 1 }]', 'CONFIG_INVALID', /collectors: .*is not a list of texts/],
  ])('%s is refused with its place', (text, code, sentence) => {
    let error: unknown;
    try {
      loadConfig(GATEWAY_CONFIG, { file: yaml(text), environment: {} });
    } catch (caught) {
      error = caught;
    }
    expect(codeOf(error)).toBe(code);
    expect(String(error)).toMatch(sentence);
  });

  it('a section of a file for both sides has keys with values', () => {
    for (const text of ['gateway: 5', 'gateway: no', 'gateway: [id]'])
      expect(() =>
        loadConfig(GATEWAY_CONFIG, { file: yaml(text), section: 'gateway', sections: ['gateway'] }),
      ).toThrow(/config\.yaml: the section 'gateway' must be keys with values/);
  });

  it('a variable that looks like a setting and is none is named, with the one that was meant', () => {
    const config = loadConfig(COLLECTOR_CONFIG, {
      flags: { store: 'some-store://x' },
      environment: {},
    });
    const strays = (names: string[]): string[] =>
      strayVariables(
        [{ spec: COLLECTOR_CONFIG, config }],
        'a collector',
        Object.fromEntries(names.map((name) => [name, 'x'])),
      );
    expect(strays(['HEADWATER_KAFKA_TOPICPREFIX'])).toEqual([
      "HEADWATER_KAFKA_TOPICPREFIX is in the environment, and a collector has no setting of that name (did you mean 'HEADWATER_KAFKA_TOPIC_PREFIX'?): it does nothing; docs/configuration.md lists those that do",
    ]);
    expect(strays(['headwater_data'])[0]).toContain("did you mean 'HEADWATER_DATA'?");
    expect(strays(['HEADWATER_INFLUXDB_TOKN'])[0]).toContain("'HEADWATER_INFLUXDB_TOKEN'");
    expect(strays(['HEADWATER_FOO', 'HEADWATER_BUFFER_DISK_BYTES_MAX'])).toHaveLength(2);
    const fine = ['DATA', 'TOKEN', 'INFLUXDB_TOKEN', 'SOME_STORE_PASSWORD', 'TEST_FOLDER'];
    const service = ['SERVICE_HOST', 'PORT_1884_TCP_ADDR', 'COLLECTOR_SERVICE_PORT_HTTP', 'PORT'];
    expect(strays([...fine, ...service].map((name) => `HEADWATER_${name}`))).toEqual([]);
  });

  it('every key has an environment variable of its own', () => {
    for (const spec of [GATEWAY_CONFIG, COLLECTOR_CONFIG]) {
      const names = Object.keys(spec).map(environmentName);
      expect(new Set(names).size).toBe(names.length);
      for (const name of names) expect(name).toMatch(/^HEADWATER_[A-Z0-9_]+$/);
    }
  });

  it('a folder is one of this machine', () => {
    for (const fine of ['./data', '/var/lib/x', 'c', 'C:\\data', 'a b/ü', '../x'])
      expect(parseFolder(fine, 'x')).toBe(fine);
    for (const name of [
      '//server/share',
      '\\\\server\\share',
      'smb://server/share',
      'nfs:/x',
      's3://bucket',
    ])
      expect(() => parseFolder(name, '--data'), name).toThrow(/--data: .* is a network address/);
    expect(() => parseFolder('', '--data')).toThrow('--data is empty');
    expect(() =>
      loadConfig(COLLECTOR_CONFIG, { flags: { data: 'smb://x/y' }, environment: {} }),
    ).toThrow(/network address/);
  });

  it('a log on Kafka, and a store on InfluxDB, are named with their brokers and buckets', async () => {
    expect(brokersOf('kafka://a:9092,[::1]:9093')).toBe('a:9092,[::1]:9093');
    for (const name of ['kafka', 'kafka://', 'kafka://a', 'kafka://a:9092,', 'kafka://u:p@a:9092'])
      expect(() => brokersOf(name), name).toThrow(/is not of the form kafka:\/\/HOST:PORT/);
    for (const store of ['influxdb', 'http://127.0.0.1:8086', 'influxdb://127.0.0.1:8086']) {
      const config = loadConfig(COLLECTOR_CONFIG, { flags: { store }, environment: {} });
      const context = { config, notify: () => undefined, nowMs: () => 0, token: undefined };
      await expect(createStore(context), store).rejects.toThrow(/is not of the form influxdb:\/\//);
    }
  });

  it('addresses, ids, roles and store addresses are checked', () => {
    expect(readyLine({ mqtt: { host: '::1', port: 1883 }, http: undefined })).toBe(
      'ready mqtt=[::1]:1883\n',
    );
    expect(parseAddress('[::1]:1883', 'x')).toEqual({ host: '::1', port: 1883 });
    expect(parseAddress(':0', 'x')).toEqual({ host: '127.0.0.1', port: 0 });
    expect(() => parseAddress('a:99999', '--mqtt')).toThrow(/--mqtt/);
    for (const bad of ['..', '/etc', 'a%2f..', 'year=2026', 'x'.repeat(65), '-a'])
      expect(() => gatewayId(bad)).toThrow(/gateway's id/);
    expect(() => parseRoles(['ingest', 'cook'])).toThrow(/'cook' is no role/);
    expect(parseInfluxAddress('influxdb://h:1/o%20rg/b')).toEqual({
      url: 'http://h:1',
      org: 'o rg',
      bucket: 'b',
    });
    expect(() => parseInfluxAddress('influxdb://user@h:1/b')).toThrow(/HEADWATER_INFLUXDB_TOKEN/);
  });

  it('a log, store or lake that is another one than at the last start is told, without what may be a secret', async () => {
    const data = temporaryFolder();
    const usual = { log: 'embedded', store: 'embedded', lake: 'local' };
    expect(changed(await servedBefore(data), { ...usual, log: 'kafka://a:1' })).toEqual([]);
    await noteServed(data, usual);
    expect(existsSync(join(data, 'served.json'))).toBe(false);
    mkdirSync(join(data, 'log'));
    const kafka = { ...usual, log: 'kafka://a:1' };
    expect(changed(await servedBefore(data), kafka)).toEqual([
      expect.stringMatching(
        /^the log is kafka:\/\/a:1, and was embedded until this start: .*rebuild/,
      ),
    ]);
    await noteServed(data, { ...kafka, store: 'some://user:secret@b:2/x?password=secret' });
    expect(changed(await servedBefore(data), { ...kafka, store: 'some://b:2/x' })).toEqual([]);
    expect(readFileSync(join(data, 'served.json'), 'utf8')).not.toContain('secret');
    expect(changed(await servedBefore(data), usual)).toHaveLength(2);
    writeFileSync(join(data, 'served.json'), '{"log":');
    expect(changed(await servedBefore(data), usual)).toEqual([]);
  });

  it('one process at a time has a data folder; what is damaged of its lock is made again', async () => {
    const folder = temporaryFolder();
    const lock = await FolderLock.take(folder);
    await expect(FolderLock.take(folder)).rejects.toThrow(/another process has .* open: stop it/);
    await lock.close();
    writeFileSync(join(folder, LOCK, 'CURRENT'), 'nothing');
    await (await FolderLock.take(folder)).close();
  });

  it("another version's or part's folder is refused, a damaged note is mended", async () => {
    const folder = temporaryFolder();
    await claimFolder(folder, 'gateway', 'a');
    await claimFolder(folder, 'gateway', 'a');
    await expect(claimFolder(folder, 'gateway', 'b')).rejects.toThrow(/belongs to 'a'/);
    await expect(claimFolder(folder, 'collector', '')).rejects.toThrow(/belongs to a gateway/);
    writeFileSync(join(folder, 'headwater.json'), '{"layout":99,"part":"gateway","id":"a"}');
    await expect(claimFolder(folder, 'gateway', 'a')).rejects.toThrow(/layout 99/);
    writeFileSync(join(folder, 'headwater.json'), '{"lay');
    await claimFolder(folder, 'gateway', 'a');
  });

  it('a change to a later layout that was cut between note and copy has begun: both are left as they are', async () => {
    const names = ['headwater.json', 'headwater.json.copy'] as const;
    for (const name of names) {
      const folder = temporaryFolder();
      await claimFolder(folder, 'gateway', 'a');
      // More than this version knows, and its checksum over the same three.
      const crc = crc32c(Buffer.from('[2,"gateway","a"]')).toString(16).padStart(8, '0');
      const note = { layout: 2, part: 'gateway', id: 'a', crc, converting: { from: 1 } };
      writeFileSync(join(folder, name), JSON.stringify(note));
      const texts = (): string[] => names.map((each) => readFileSync(join(folder, each), 'utf8'));
      const before = texts();
      for (const look of [claimFolder, checkFolder])
        await expect(look(folder, 'gateway', 'a')).rejects.toMatchObject({
          code: 'DATA_VERSION',
          message: expect.stringMatching(
            /has layout 2, this version knows 1: .*; nothing in it was changed$/,
          ) as string,
        });
      expect(texts()).toEqual(before);
    }
  });

  it("what is wrong with a folder's note is said, and whose it is asked of what lies in it", async () => {
    const [first, second] = ['headwater.json', 'headwater.json.copy'] as const;
    const made = async (): Promise<string> => {
      const folder = temporaryFolder();
      expect(await claimFolder(folder, 'gateway', 'a')).toBeUndefined();
      mkdirSync(join(folder, 'buffer'));
      return folder;
    };
    for (const [name, other] of [
      [first, second],
      [second, first],
    ] as const)
      for (const [damage, word] of [
        [(path: string) => rmSync(path), 'gone'],
        [(path: string) => writeFileSync(path, 'x'), 'damaged'],
      ] as const) {
        const folder = await made();
        const whole = readFileSync(join(folder, name), 'utf8');
        damage(join(folder, name));
        expect(await checkFolder(folder, 'gateway', 'a')).toMatch(`${name} is ${word}`);
        expect(await claimFolder(folder, 'gateway', 'a')).toMatch(`${name} is ${word}`);
        expect(readFileSync(join(folder, name), 'utf8')).toBe(whole);
        expect(readFileSync(join(folder, other), 'utf8')).toBe(whole);
        expect(await claimFolder(folder, 'gateway', 'a')).toBeUndefined();
      }
    const both = await made();
    for (const name of [first, second]) rmSync(join(both, name));
    await expect(claimFolder(both, 'collector', '')).rejects.toThrow(/belongs to a gateway/);
    const owner = (): Promise<string> => Promise.resolve('b');
    await expect(claimFolder(both, 'gateway', 'a', owner)).rejects.toThrow(/belongs to 'b'/);
    expect(existsSync(join(both, first))).toBe(false);
    expect(await claimFolder(both, 'gateway', 'b', owner)).toMatch(
      /headwater\.json is gone.*nothing says any more whose it is; it is taken for the gateway 'b'/,
    );
    // A version before kept neither checksum nor copy: nothing is wrong with it.
    const older = temporaryFolder();
    writeFileSync(join(older, first), '{"layout":1,"part":"collector","id":""}');
    expect(await claimFolder(older, 'collector', '')).toBeUndefined();
  });

  it('a secret that others can read, or that is short, is refused', () => {
    const file = join(temporaryFolder(), 'secret');
    writeFileSync(file, 'a-long-enough-secret\n', { mode: 0o600 });
    expect(readSecretFile(file, 'x')).toBe('a-long-enough-secret');
    chmodSync(file, 0o644);
    expect(() => readSecretFile(file, 'x')).toThrow(/chmod 600/);
    writeFileSync(file, 'short');
    chmodSync(file, 0o600);
    expect(() => readSecretFile(file, 'x')).toThrow(/16 characters/);
  });

  it('a log line stays one line, whatever a device sent', () => {
    expect(printable('a\r\nb\u001b[31m\u2028')).toBe('a\\u000d\\u000ab\\u001b[31m\\u2028');
  });
});

describe('query parameters', () => {
  const now = Date.UTC(2026, 0, 1);
  const parse = (text: string) => {
    const query = new URLSearchParams(text);
    checkParameters(QUERY, query);
    return parseQuery(query, now);
  };
  it('understands times, durations, functions and tags', () => {
    expect(
      parse('measurement=m&tag.a=b&tag.c d=e&from=2019-03-10T00:00:00Z&to=now-1h&every=5m&fn=max'),
    ).toEqual({
      measurement: 'm',
      tags: { a: 'b', 'c d': 'e' },
      fromMs: 1552176000000,
      toMs: now - 3_600_000,
      everyMs: 300_000,
      fn: 'max',
    });
    expect(parse('from=1552176000000')).toEqual({ fromMs: 1552176000000 });
  });
  it.each([
    'from=yesterday',
    'every=0',
    'every=5 minutes',
    'fn=average',
    'limit=none',
    'from=2&to=1',
  ])('%s is refused', (text) => {
    expect(() => parse(text)).toThrow(/from|every|fn|limit/);
  });
});
