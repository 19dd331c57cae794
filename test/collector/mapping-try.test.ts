/** `headwater mapping try`: what a file would make of messages, beside what is made of them today, before anything is written. */
import { writeFileSync } from 'node:fs';
import type { Made } from '../../collector/decode/mapping/try.ts';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { mapping } from '../../cli/mapping.ts';
import { Collector } from '../../collector/collector.ts';
import { COLLECTOR_CONFIG } from '../../collector/config.ts';
import { hashOf } from '../../shared/access/tokens.ts';
import { loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { sparkplug } from '../support/sparkplug.ts';

async function said(args: string[]): Promise<string> {
  let text = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  try {
    await mapping(args);
  } finally {
    write.mockRestore();
  }
  return text;
}

const fileOf = (yaml: string): string => {
  const file = join(temporaryFolder(), 'new.yaml');
  writeFileSync(file, yaml);
  return file;
};

describe('headwater mapping try', () => {
  const file = fileOf(
    'mappings: [{topic: "unknown/{device}/up", measurement: tank, types: {level: quantity}, values: {valve: {OPEN: 1, CLOSED: 0}}}]',
  );
  const given = ['--topic', 'unknown/t7/up', '--payload', '{"level":"239 mm","valve":"OPEN"}'];

  it('shows both, and writes nothing', async () => {
    expect(await said(['try', file, ...given])).toBe(
      [
        'unknown/t7/up  {"level":"239 mm","valve":"OPEN"}',
        '  today',
        '    up {topic="unknown/t7/up" gateway="gateway"} level_text="239 mm" valve_text="OPEN" (at receipt)',
        '  with the file',
        '    tank {device="t7" gateway="gateway"} level=239 valve=1 (at receipt)',
        '',
      ].join('\n'),
    );
  });
  it('says what would go to quarantine and what is left out', async () => {
    const other = fileOf(
      'mappings: [{name: mine, topic: "a", points: [{each: "s{n}", is: object, types: {t: number}}]}]',
    );
    const text = await said([
      'try',
      other,
      '--topic',
      'a',
      '--payload',
      '{"s1":{"t":"x","u":2},"b":3}',
    ]);
    expect(text).toMatch(/quarantine, of a part: 't' is to be a number and is 'x'/);
    expect(text).toMatch(/mapping 'mine' leaves out b/);
    expect(await said(['try', other, '--topic', 'a', '--payload', '{"t"'])).toMatch(
      /quarantine: not JSON/,
    );
  });
  it('the same is said once; JSON for programs', async () => {
    expect(await said(['try', file, '--before', file, ...given])).toMatch(
      /today and with the file/,
    );
    const answer = JSON.parse(await said(['try', file, '--json', ...given])) as Record<
      string,
      unknown
    >;
    expect(answer).toMatchObject({
      withFile: { readings: [{ measurement: 'tank', fields: { level: 239 } }] },
    });
  });
  it('a file with an error, and a topic of which nothing is kept, are one sentence', async () => {
    await expect(
      said(['try', fileOf('mappings: [{topic: a, mesure: b}]'), ...given]),
    ).rejects.toThrow(/unknown key 'mesure'/);
    const nowhere = ['--http', '127.0.0.1:1', '--gateway-http', '127.0.0.1:1'];
    await expect(said(['try', file, '--topic', 'x', ...nowhere])).rejects.toThrow(
      /give one with --payload/,
    );
    await expect(said(['try', file])).rejects.toThrow(/--topic TOPIC/);
  });
});

describe('POST /api/v1/mappings/try', () => {
  let collector: Collector;
  let address: string;
  const own = join(temporaryFolder(), 'own.yaml');
  const ask = async (
    body: unknown,
    token = 'all',
  ): Promise<{
    status: number;
    body: { file: string; trials: { today: Made; withFile: Made }[] };
  }> => {
    const response = await fetch(`http://${address}/api/v1/mappings/try`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
    return {
      status: response.status,
      body: (await response.json()) as { file: string; trials: { today: Made; withFile: Made }[] },
    };
  };
  const mappingOf = (rest: string): string => `mappings: [{topic: "t/{device}", ${rest}}]`;

  beforeAll(async () => {
    writeFileSync(own, 'mappings: [{topic: "t/{device}", measurement: mine, types: {v: number}}]');
    const tokens = join(temporaryFolder(), 'tokens');
    const line = (name: string, scope: string, of = '*'): string =>
      `${name}:${scope}:${of}:${hashOf(name).toString('hex')}\n`;
    const lines = [line('all', 'admin'), line('read', 'read'), line('some', 'read', 'gw-1')];
    writeFileSync(tokens, lines.join(''), { mode: 0o600 });
    collector = new Collector(
      realEnv(),
      loadConfig(COLLECTOR_CONFIG, {
        flags: {
          data: temporaryFolder(),
          uplink: '127.0.0.1:0',
          http: '127.0.0.1:0',
          mappings: own,
          'tokens-file': tokens,
        },
        environment: {},
      }),
      () => undefined,
    );
    const { http } = await collector.start(undefined);
    address = `127.0.0.1:${http?.port}`;
  });
  afterAll(() => collector.close());

  it('today is what is in force, of messages that are given and of those that wait', async () => {
    const given = { mapping: mappingOf('measurement: new'), topic: 't/1' };
    const { body } = await ask({
      ...given,
      messages: [{ payload: '{"v":"3"}' }, { payload: '/w==', encoding: 'base64' }],
    });
    expect(body.file).toBe(own); // Where what is right goes.
    expect(body.trials[0]).toMatchObject({
      today: { readings: [{ measurement: 'mine', tags: { device: '1' }, fields: { v: 3 } }] },
      withFile: { readings: [{ measurement: 'new', fields: { v_text: '3' } }] },
    });
    expect(body.trials[1]?.withFile.told[0]).toMatch(/^quarantine: /);
    const written = await fetch(`http://${address}/api/v1/ingest?topic=t%2F1`, {
      method: 'POST',
      headers: { authorization: 'Bearer all', 'content-type': 'application/json' },
      body: '{"v":"x"}',
    });
    expect(written.status).toBeLessThan(300);
    const waiting = await until('the message to wait', async () => {
      const { body: found } = await ask(given);
      return found.trials.length === 1 ? found.trials : undefined;
    });
    expect(waiting[0]?.today.told[0]).toMatch(/'v' is to be a number and is 'x'/);
    expect(waiting[0]?.withFile.readings[0]?.fields).toEqual({ v_text: 'x' });
    // Nothing was written.
    const { body: again } = await ask({ ...given, messages: [{ payload: '{"v":4}' }] });
    expect(again.trials[0]?.today.readings[0]?.measurement).toBe('mine');
  });

  it('messages that were decoded are there too, from the raw log; a topic of nobody has none', async () => {
    for (const body of ['{"v":1}', '{"v":2}'])
      await fetch(`http://${address}/api/v1/ingest?topic=t%2F9`, {
        method: 'POST',
        headers: { authorization: 'Bearer all', 'content-type': 'application/json' },
        body,
      });
    const { body } = await ask({ mapping: mappingOf('measurement: new'), topic: 't/9', limit: 1 });
    expect(body.trials).toMatchObject([
      {
        today: { readings: [{ measurement: 'mine', fields: { v: 2 } }] },
        withFile: { readings: [{ measurement: 'new', fields: { v: 2 } }] },
      },
    ]);
    const none = await ask({ mapping: mappingOf('measurement: new'), topic: 't/nobody' });
    expect(none.body.trials).toEqual([]);
    vi.stubEnv('HEADWATER_TOKEN', 'all');
    const file = fileOf(mappingOf('measurement: new'));
    const args = ['--http', address, '--gateway-http', '127.0.0.1:1'];
    expect(await said(['try', file, '--topic', 't/9', ...args])).toMatch(
      /v":2[^]*new .*v=2[^]*v":1/,
    );
    vi.unstubAllEnvs();
  });

  it('GET /api/v1/messages: each as it came, with what it became, and only what came since', async () => {
    const publish = (topic: string, body: string | Buffer): Promise<Response> =>
      fetch(`http://${address}/api/v1/ingest?topic=${encodeURIComponent(topic)}`, {
        method: 'POST',
        headers: { authorization: 'Bearer all' },
        body,
      });
    type Answer = { next: string; messages: (Record<string, unknown> & { topic: string })[] };
    const get = async (query: string, token = 'read'): Promise<Answer & { status: number }> => {
      const headers = { authorization: `Bearer ${token}` };
      const response = await fetch(`http://${address}/api/v1/messages${query}`, { headers });
      return { status: response.status, ...((await response.json()) as Answer) };
    };
    await publish('look/1', '{"v":1}');
    await publish('look/2', '{"v":');
    await publish('look/1', '{"v":2}');
    await publish('look/3', Buffer.from([0xff, 0, 1]));
    // Names that only a message before it has.
    await publish(
      'spBv1.0/g/NBIRTH/n',
      sparkplug.birth(sparkplug.metric({ name: 'speed', alias: 5, double: 1 })),
    );
    const data = sparkplug.payload(1, [sparkplug.metric({ alias: 5, double: 7.5 })]);
    await publish('spBv1.0/g/NDATA/n', data);
    const whole = await until('what was born', async () => {
      const answer = await get('?each=topic&limit=500');
      const made = answer.messages.find(({ topic }) => topic.includes('NDATA'))?.['made'];
      return JSON.stringify(made).includes('"speed":7.5') ? answer : undefined;
    });
    const looked = whole.messages.filter(({ topic }) => topic.startsWith('look/'));
    expect(looked.map(({ topic, payload, encoding }) => [topic, payload, encoding])).toEqual([
      ['look/3', '/wAB', 'base64'],
      ['look/1', '{"v":2}', 'utf8'],
      ['look/2', '{"v":', 'utf8'],
    ]);
    expect(looked[1]).toMatchObject({ made: { readings: [{ fields: { v: 2 } }], told: [] } });
    expect(JSON.stringify(looked[2]?.['made'])).toMatch(
      /"readings":\[\],"told":\["quarantine: not JSON/,
    );
    const both = await get('?topic=look/1');
    expect(both.messages.map(({ payload }) => payload)).toEqual(['{"v":2}', '{"v":1}']);
    const since = `&after=${encodeURIComponent(whole.next)}`;
    expect((await get(`?each=topic${since}`)).messages).toEqual([]);
    await publish('look/4', 'ä'.repeat(100 * 1024));
    const [cut, ...more] = (await get(`?each=topic${since}`)).messages;
    expect(more).toEqual([]);
    expect(cut).toMatchObject({ topic: 'look/4', isWhole: false, bytes: 200 * 1024 });
    expect(cut?.['payload']).toMatch(/^ä{20000,}$/);
    for (const query of ['?topic=a/%23/b', '?after=x', '?after=0:1e9', '?limit=501', '?each=x'])
      expect([query, (await get(query)).status]).toEqual([query, 400]);
    expect((await get('', 'some')).status).toBe(403);
    // Of another log.
    expect((await get('?topic=look/4&after=0:999999999')).messages).toHaveLength(1);
  });

  it('the command asks the collector what is in force', async () => {
    const file = fileOf(mappingOf('measurement: new'));
    vi.stubEnv('HEADWATER_TOKEN', 'all');
    const args = ['try', file, '--topic', 't/1', '--payload', '{"v":"3"}', '--http', address];
    expect(await said(args)).toMatch(
      /today\n    mine .*v=3.*\n  with the file\n    new .*v_text="3"/,
    );
    vi.stubEnv('HEADWATER_TOKEN', 'read');
    const warned = vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
    expect(await said(args)).toMatch(/today\n    1 .*v_text="3"/);
    expect(String(warned.mock.calls[0]?.[0])).toMatch(
      /^today is as shipped: the collector does not/,
    );
    warned.mockRestore();
    vi.unstubAllEnvs();
  });

  it('a script is given with it, has its limits, and no file of the machine is read', async () => {
    const script = 'function decodeUplink(i) { return { data: { n: i.bytes.length } }; }';
    const body = {
      mapping: mappingOf('codec: bytes, script: s.js'),
      topic: 't/1',
      messages: [{ payload: 'abc' }],
    };
    const ran = await ask({ ...body, scripts: { 's.js': script } });
    expect(ran.body.trials[0]?.withFile.readings[0]?.fields).toEqual({ n: 3 });
    const endless = await ask({
      ...body,
      scripts: { 's.js': 'function decodeUplink() { for (;;); }' },
    });
    expect(endless.body.trials[0]?.withFile.told[0]).toMatch(/longer than 100 ms/);
    for (const file of ['s.js', own, '/etc/passwd', '../../package.json', '__proto__']) {
      const refused = await ask({ ...body, mapping: mappingOf(`script: "${file}"`) });
      expect([file, refused.status]).toEqual([file, 400]);
      expect(JSON.stringify(refused.body)).toMatch(/script .* is not given/);
    }
  });

  it('what it cannot take is told in a sentence, and who may not change mappings may not try them', async () => {
    const good = { mapping: mappingOf('measurement: m'), topic: 't/1', messages: [] };
    const wrong: [unknown, RegExp][] = [
      ['{', /not JSON/],
      ['[]', /not an object/],
      [{ ...good, mapping: 3 }, /'mapping' is not a text/],
      [{ ...good, mapping: 'mappings: [{topic: a, mesure: b}]' }, /unknown key 'mesure'/],
      [{ ...good, mapping: 'mappings: [' }, /mapping/],
      [{ ...good, mapping: bomb() }, /alias/i],
      [{ ...good, topic: '' }, /'topic' is no topic/],
      [{ ...good, limit: 1e9 }, /'limit'/],
      [{ ...good, scripts: [] }, /'scripts'/],
      [{ ...good, messages: Array.from({ length: 21 }, () => ({ payload: '' })) }, /at most 20/],
      [{ ...good, messages: [{ payload: 'a', encoding: 'rot13' }] }, /utf8 nor base64/],
      [{ ...good, messages: [{ payload: 'a', receivedMs: -1 }] }, /no time/],
      [{ ...good, messages: [{ payload: 'a', receivedMs: 1e300 }] }, /no time/],
    ];
    for (const [body, why] of wrong) {
      const { status, body: answer } = await ask(body);
      expect([status, JSON.stringify(answer)]).toEqual([400, expect.stringMatching(why)]);
    }
    expect((await ask(good, 'read')).status).toBe(403);
    expect((await ask(good, 'nobody')).status).toBe(401);
    expect((await ask({ ...good, mapping: 'x'.repeat(2 * 1024 * 1024) })).status).toBe(413);
    expect((await ask(good)).body).toEqual({ file: own, trials: [] });
  });
});

/** A few lines of YAML that are a billion values. */
const bomb = (): string =>
  `a: &a [x,x,x,x,x,x,x,x,x]\n${['b', 'c', 'd', 'e', 'f', 'g', 'h']
    .map((name, at) => `${name}: &${name} [${`*${'abcdefgh'[at]},`.repeat(9)}]`)
    .join('\n')}\nmappings: *h\n`;
