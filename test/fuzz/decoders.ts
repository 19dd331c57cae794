/**
 * Every decoder of bytes that a stranger, a device or a file may bring: what it is called with, what it begins from, and
 * what it may throw. A decoder without a row here is not fuzzed: add it beside its first caller.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseDelivery } from '../../collector/stream/delivery/targets.ts';
import { parseExpression } from '../../collector/stream/expression.ts';
import { parseRules } from '../../collector/stream/rules.ts';
import { parseJob } from '../../collector/batch/job.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { parsePosition } from '../../collector/api/live/position.ts';
import { decodeSparkplugPayload } from '../../collector/decode/codecs/sparkplug-payload.ts';
import { Script } from '../../collector/decode/codecs/script.ts';
import { CODECS } from '../../collector/decode/codecs/table.ts';
import { compilePath, select } from '../../collector/decode/mapping/path.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { compileTemplate, matchTemplate } from '../../collector/decode/mapping/template.ts';
import { compileTimePattern, readPattern } from '../../collector/decode/mapping/time-pattern.ts';
import { makeOf } from '../../collector/decode/mapping/try.ts';
import { wishOf } from '../../collector/enroll/request.ts';
import { parseQuery } from '../../collector/influxql/parse.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { parseCursor } from '../../collector/store/pages.ts';
import { partitionsOf } from '../../cli/flash/image.ts';
import { readTable } from '../../cli/flash/table.ts';
import { AccessRules, filterCovers } from '../../gateway/ingress/access.ts';
import {
  readAck,
  readConnect5,
  readDisconnect,
  readPublish,
  readSubscribe,
  readUnsubscribe,
  topicNames,
} from '../../gateway/mqtt5/packets.ts';
import { readTokens } from '../../shared/access/tokens.ts';
import { joinTokenText, parseJoinToken } from '../../shared/access/join-token.ts';
import { Undecodable } from '../../shared/codecs/codec.ts';
import { inspectConfig } from '../../shared/config/spec.ts';
import { Passwords } from '../../shared/config/secrets.ts';
import { checkFrame, readRecords, KIND_RECORDS } from '../../shared/frame/frame.ts';
import { parseDuration, parseTime } from '../../shared/http/parameters.ts';
import { parseFields } from '../../shared/http/route.ts';
import { isLoopback, isSameOrigin, parseAuthority } from '../../shared/net/address.ts';
import {
  checkTopicFilter,
  checkTopicName,
  filterMatches,
  readConnect,
  readString,
  readSubscription,
} from '../../shared/mqtt/packets.ts';
import { readProperties } from '../../shared/mqtt/properties.ts';
import { FrameError, FrameReader } from '../../gateway/ingress/websocket-frames.ts';
import { PacketScanner } from '../../shared/mqtt/scanner.ts';
import { decodeDown, decodeUp, encodeUp } from '../../shared/wire/wire.ts';
import { shipped } from '../support/decode.ts';
import { corpus, corpusFiles } from '../support/corpus.ts';
import { connectPacket, subscribePacket } from '../support/hostile.ts';
import { temporaryFolder } from '../support/process.ts';
import { P, connect5, publish5, subscribe5 } from '../support/raw-mqtt5.ts';

export interface Decoder {
  run: (bytes: Buffer) => unknown;
  seeds: () => Buffer[];
  /** Beside errors of the table and Undecodable: a class's name. */
  throws?: readonly string[];
  /** Milliseconds that any input may take, where that is the decoder's own limit. */
  msMax?: number;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const RECEIVED = Date.UTC(2026, 5, 1, 12);
const utf8 = (bytes: Buffer): string => bytes.toString('utf8');
const texts = (...all: string[]): Buffer[] => all.map((each) => Buffer.from(each));
const filesIn = (folder: string, end: string): Buffer[] =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith(end))
    .map((name) => readFileSync(join(ROOT, folder, name)));

let messages: { topic: string; payload: Buffer }[] | undefined;
const inCorpus = (): { topic: string; payload: Buffer }[] =>
  (messages ??= corpusFiles().flatMap(corpus));
const payloads = (): Buffer[] => inCorpus().map(({ payload }) => payload);

/** In a folder of its own, for decoders that read files. */
const inFile = (name: string, run: (path: string) => unknown): Decoder['run'] => {
  let path: string | undefined;
  return (bytes) => {
    path ??= join(temporaryFolder(), name);
    writeFileSync(path, bytes, { mode: 0o600 });
    return run(path);
  };
};

const codecs: Record<string, Decoder> = Object.fromEntries(
  CODECS.flatMap(({ name, parse }) =>
    parse === undefined
      ? []
      : [
          [
            name,
            { run: (bytes: Buffer) => parse(bytes, { receivedMs: RECEIVED }), seeds: payloads },
          ],
        ],
  ),
);

const frames = (): Buffer[] => {
  const text = readFileSync(join(ROOT, 'test/vectors/frames.json'), 'utf8');
  const { about: _about, ...all } = JSON.parse(text) as Record<string, string>;
  return Object.values(all).map((hex) => Buffer.from(hex, 'hex'));
};

/** A topic, a zero, a payload. */
function message(bytes: Buffer): unknown {
  const at = bytes.indexOf(0);
  const [topic, payload] =
    at < 0 ? ['a/b', bytes] : [utf8(bytes.subarray(0, at)), bytes.subarray(at + 1)];
  return makeOf({ topic, payload, receivedMs: RECEIVED }, shipped());
}

/** Two texts, with a zero between them. */
const pair =
  (run: (one: string, other: string) => unknown): Decoder['run'] =>
  (bytes) => {
    const at = bytes.indexOf(0);
    return run(utf8(bytes.subarray(0, Math.max(at, 0))), utf8(bytes.subarray(at + 1)));
  };

function packets311(bytes: Buffer): void {
  const scanner = new PacketScanner(1024 * 1024);
  for (let at = 0; at < bytes.length; at += 1 + (at % 977)) {
    scanner.push(bytes.subarray(at, at + 1 + (at % 977)));
    for (let packet = scanner.next(); packet !== undefined; packet = scanner.next()) {
      const body = packet.body;
      if (packet.type === 1) readConnect(body);
      else if (packet.type === 3) checkTopicName(readString(body, 0, 'topic').text);
      else if (packet.type === 8 || packet.type === 10)
        readSubscription(body, packet.type === 8, 100);
    }
  }
}

function packets5(bytes: Buffer): void {
  const names = topicNames();
  const scanner = new PacketScanner(1024 * 1024);
  scanner.push(bytes);
  for (let packet = scanner.next(); packet !== undefined; packet = scanner.next()) {
    const { type, flags, body } = packet;
    if (type === 1) readConnect5(body);
    else if (type === 3) readPublish(packet, names);
    else if (type >= 4 && type <= 7) readAck(flags, type === 6 ? 2 : 0, body);
    else if (type === 8) readSubscribe(flags, body, 100);
    else if (type === 10) readUnsubscribe(flags, body);
    else if (type === 14) readDisconnect(flags, body);
  }
}

const ECHO = `function decodeUplink({ bytes, topic }) {
  const text = String.fromCharCode(...bytes.slice(0, 2000));
  try { const value = JSON.parse(text); return { data: value, errors: value && value.errors }; } catch { return { data: { text, topic } }; }
}`;
let echo: Script | undefined;

export const DECODERS: Record<string, Decoder> = {
  ...codecs,
  message: {
    run: message,
    seeds: () =>
      inCorpus().map(({ topic, payload }) => Buffer.concat([Buffer.from(`${topic}\0`), payload])),
  },
  'sparkplug-payload': {
    run: decodeSparkplugPayload,
    seeds: () => filesIn('test/vectors/payloads/sparkplug', '.bin'),
  },
  script: {
    run: (bytes) =>
      (echo ??= new Script('echo.js', ECHO, () => performance.now())).decode(bytes, 1, RECEIVED),
    seeds: () =>
      texts(
        '{"a":1}',
        '{"a":"\\u0000int:12"}',
        '{"errors":[{"a":1},null,"x"]}',
        '{"__proto__":{"a":1}}',
        '[[[1]]]',
        'x',
      ),
    msMax: 1500,
  },
  mappings: {
    run: (bytes) => parseMappings(utf8(bytes), 'fuzz.yaml'),
    seeds: () => filesIn('collector/mappings', '.yaml'),
  },
  template: {
    run: pair((template, topic) => {
      const compiled = compileTemplate(template);
      return 'error' in compiled ? undefined : matchTemplate(compiled, topic);
    }),
    seeds: () =>
      texts(
        'a/{b}/{c...}/#\0a/1/2/3/4',
        '{a}-{b}-{c}-{d}/x\0----/y',
        '+/{component}:{id}/#\0x/y:z',
        '{a...}-{b}/c\0-/-/-c',
      ),
  },
  path: {
    run: pair((path, document) => {
      const compiled = compilePath(path);
      if ('error' in compiled) return undefined;
      return select({ [document]: { [document]: 1 }, a: [1, { b: document }] }, compiled);
    }),
    seeds: () => texts('{a}_{b}_{c}.*\0____', 'a.*.b\0x', '^.$\0', 'a\\.b.{x}\0a.b'),
  },
  'time-pattern': {
    run: pair((pattern, text) => {
      const compiled = compileTimePattern(pattern);
      return 'error' in compiled ? undefined : readPattern(compiled, text, 'UTC');
    }),
    seeds: () =>
      texts(
        'DD.MM.YYYY HH:mm:ss\x0025.11.2026 20:00:00',
        'YYMMDDHHmmss\x00261125200000',
        'MMM DD YYYY hh:mm A Z\0Nov 25 2026 08:00 PM +01:00',
      ),
  },
  settings: {
    run: inFile('fuzz.yaml', (file) => inspectConfig(COLLECTOR_CONFIG, { file })),
    seeds: () => [
      ...filesIn('docs/samples', 'collector.yaml').map((each) =>
        Buffer.from(utf8(each).replaceAll(/^# (\S+: )/gm, '$1')),
      ),
      ...texts('http:\n  listen: 127.0.0.1:0\n', 'a: &a [*a, *a]', '{{{{'),
    ],
  },
  'access rules': {
    run: inFile('acl.yaml', (file) => {
      const rules = new AccessRules(file);
      return [
        rules.mayPublish({ user: 'a'.repeat(128), client: 'b' }, 'a/b/c'),
        rules.maySubscribe({ user: 'a', client: 'b' }, 'a/#'),
      ];
    }),
    seeds: () =>
      texts(
        "rules:\n  - users: [sensor-*, '*a*a*a*']\n    publish: ['devices/{user}/#']\n    subscribe: ['{client}/+']\n    retain: false\n",
      ),
  },
  'topic filters': {
    run: pair((filter, topic) => {
      checkTopicFilter(filter);
      return [filterMatches(filter, topic), filterCovers(filter, topic)];
    }),
    seeds: () => texts('a/+/#\0a/b/c', '#\0$SYS/x', '+/+/+\0//'),
  },
  passwords: {
    run: inFile('passwords', (file) => new Passwords(file)),
    seeds: () => texts(`a:scrypt:32768:${'A'.repeat(22)}==:${'A'.repeat(43)}=\n`),
  },
  tokens: {
    run: inFile('tokens', readTokens),
    seeds: () => texts(`a:read,write:*:${'0'.repeat(64)}\nb:admin:gw,x:${'f'.repeat(64)}\n`),
  },
  'join token': {
    run: (bytes) => parseJoinToken(utf8(bytes), 'fuzz'),
    seeds: () =>
      texts(
        joinTokenText({
          gateway: 'roof',
          urls: ['https://a:1'],
          collectors: ['mqtts://a:2'],
          fingerprint: 'AB:'.repeat(31) + 'AB',
          secret: 'x'.repeat(32),
        }),
      ),
  },
  influxql: {
    run: (bytes) => parseQuery(utf8(bytes)),
    seeds: () =>
      texts(
        'SELECT mean("value") FROM "a" WHERE time > now() - 1h AND "t" =~ /^x.*/ GROUP BY time(1m), "host" fill(null) ORDER BY time DESC LIMIT 5',
        `SELECT ${'('.repeat(90)}a${')'.repeat(90)} FROM b`,
        'SHOW TAG VALUES WITH KEY IN ("a", "b") WHERE x = \'y\'; SHOW SERIES',
        'SELECT a + b * -(c / 2) AS d INTO e FROM f, g',
      ),
  },
  rules: {
    run: (bytes) => parseRules(utf8(bytes), 'rules.yaml', () => 'function f() {}'),
    seeds: () =>
      texts(
        'rules:\n  - name: a\n    from: { measurement: x }\n    window: 5m\n    compute: { m: mean(value) }\n  - name: d\n    measurement: y\n    from: { measurement: x }\n    derive: { z: a + sqrt(b) * 2 }\n  - name: al\n    from: { measurement: x, field: a }\n    alert: { above: 3, for: 5m }\n',
      ),
  },
  delivery: {
    run: (bytes) => parseDelivery(utf8(bytes), 'rules.yaml'),
    seeds: () =>
      texts(
        'deliver:\n  - name: w\n    webhook: https://x.example/\n  - name: m\n    mail: smtps://mail.example\n    to: [a@b.c]\n    from: x@y.z\n  - name: q\n    mqtt: mqtts://h:1\n    topic: a/b\n',
      ),
    // Its text is known to be YAML with an object at its top.
    throws: ['YAMLParseError', 'TypeError', 'ReferenceError'],
  },
  expression: {
    run: (bytes) => parseExpression(utf8(bytes), 'fuzz').evaluate(() => 2),
    seeds: () => texts('a + sqrt(b) * 2 > 3 ? min(a, b) : -a', '((((1))))', 'if(a > 1, b, 2)'),
  },
  'batch job (cron)': {
    run: (bytes) => parseJob('fuzz.sql', utf8(bytes)),
    seeds: () => [
      ...filesIn('collector/batch/jobs', '.sql'),
      ...texts(
        '-- schedule: */5 1-3,7 * 1-12/2 MON\nSELECT 1',
        '-- schedule: 0 0 31 2 *\nSELECT 1',
      ),
    ],
  },
  'card table': {
    run: inFile('cards.csv', readTable),
    seeds: () =>
      texts('name,wifi_ssid,wifi_password,wifi_country\nroof,"a, ""b""",secret,DE\nx,,,\n'),
  },
  'partition table': {
    run: inFile('card.img', partitionsOf),
    seeds: () => {
      const mbr = Buffer.alloc(4096);
      mbr.writeUInt16LE(0xaa55, 510);
      mbr[450] = 0x83;
      mbr.writeUInt32LE(1, 454);
      mbr.writeUInt32LE(2, 458);
      const gpt = Buffer.from(mbr);
      gpt[450] = 0xee;
      gpt.write('EFI PART', 512, 'latin1');
      gpt.writeBigUInt64LE(2n, 584);
      gpt.writeUInt32LE(4, 592);
      gpt.writeUInt32LE(128, 596);
      gpt.fill(7, 1024, 1040);
      gpt.writeBigUInt64LE(3n, 1056);
      gpt.writeBigUInt64LE(5n, 1064);
      return [mbr, gpt];
    },
  },
  frame: {
    run: (bytes) => {
      const header = checkFrame(bytes);
      return header.kind === KIND_RECORDS ? readRecords(bytes, header) : header;
    },
    seeds: frames,
  },
  uplink: {
    run: decodeUp,
    seeds: () => [
      encodeUp(0, frames().slice(0, 2)),
      ...frames().map((each) => encodeUp(1, [each])),
    ],
  },
  downlink: {
    run: decodeDown,
    seeds: () =>
      texts(
        '{"v":1,"acks":[{"epoch":"a","ranges":[[1,2]]}],"time":{"echoUs":1,"wallUs":2}}',
        '{"v":1,"config":{"gateway":"a","revision":"b","settings":{},"backAfterSeconds":60},"publish":[{"topic":"a","payload":"eA=="}]}',
      ),
  },
  'mqtt 3.1.1': {
    run: packets311,
    seeds: () => [
      Buffer.concat([
        connectPacket({ id: 'a', user: 'u', password: 'p', will: { topic: 'w', payload: 'x' } }),
        subscribePacket(1, 'a/+', '#'),
      ]),
    ],
    throws: ['UnsupportedVersion'],
  },
  'mqtt 5': {
    run: packets5,
    seeds: () => [
      Buffer.concat([
        connect5('a', { properties: [P.user('a', 'b'), P.sessionExpiry(5)] }),
        publish5('a/b', 'x', { qos: 1, id: 1, properties: [P.topicAlias(1), P.contentType('x')] }),
        subscribe5(2, [['a/#', 1]]),
      ]),
    ],
    throws: ['Refusal', 'UnsupportedVersion'],
  },
  'message properties': {
    run: readProperties,
    seeds: () => [Buffer.from(P.user('a', 'b')), Buffer.from(P.contentType('text/plain'))],
  },
  'certificate request': {
    run: wishOf,
    seeds: () =>
      texts('').concat(Buffer.from('3081c530816c020100300a310830060603550403130161', 'hex')),
  },
  'HTTP fields': {
    run: (bytes) =>
      parseFields(utf8(bytes), {
        sql: { about: '' },
        tag: { about: '', isMap: true },
        n: { about: '', integer: { min: 1, max: 5 } },
      }),
    seeds: () => texts('{"sql":"x","tag.a":"b","n":"3"}', '{"__proto__":"x"}'),
  },
  'API parameters': {
    run: (bytes) => {
      const text = utf8(bytes);
      for (const read of [
        () => parseTime(text, 'from', RECEIVED),
        () => parseDuration(text, 'every'),
        () => parseCursor(text),
        () => parsePosition(text),
      ])
        try {
          read();
        } catch (error) {
          if (!isKnown(error)) throw error;
        }
    },
    seeds: () =>
      texts('2026-11-25T20:00:00.123456789+01:00', 'now-5m', '5m', 'r0.12-s0.3', 'eyJhIjoxfQ'),
  },
  'WebSocket frames': {
    run: (bytes) => {
      const reader = new FrameReader({ ping: () => undefined, close: () => undefined });
      try {
        for (let at = 0; at < bytes.length; at += 1 + (at % 97))
          reader.push(Buffer.from(bytes.subarray(at, at + 1 + (at % 97))));
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
      }
    },
    seeds: () =>
      ['8283010203045051', '8900', '02fe0080000000000000', '82ff000000000000000100000000aa'].map(
        (each) => Buffer.from(each, 'hex'),
      ),
  },
  addresses: {
    run: (bytes) => {
      const text = utf8(bytes);
      return [isLoopback(text), parseAuthority(text), isSameOrigin(text, '127.0.0.1:80')];
    },
    seeds: () =>
      texts(
        '127.0.0.1:80',
        '[::ffff:127.0.0.1]:8080',
        'http://localhost.:80',
        '[::1%eth0]:1',
        '127.0.0.1.evil.example',
      ),
  },
};

/** What a decoder may throw at whoever calls it. */
export function isKnown(error: unknown, also: readonly string[] = []): boolean {
  if (error instanceof Undecodable) return true;
  const { code, constructor } = error as { code?: unknown; constructor: { name: string } };
  if (also.includes(constructor.name) || also.includes((error as Error).name)) return true;
  return (
    typeof code === 'string' &&
    /^[A-Z_]+$/.test(code) &&
    !code.startsWith('ERR_') &&
    constructor.name !== 'SystemError' &&
    !('syscall' in (error as object))
  );
}

export const prepare = loadEngine;
