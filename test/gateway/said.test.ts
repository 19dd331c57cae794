/** What is said to people: of packets that are too large, of gateways that are two, and never what a device wrote as it is. */
import { afterEach, describe, expect, it } from 'vitest';
import { Twins } from '../../collector/ingest/twins.ts';
import { waitingReason, type Waiting } from '../../gateway/ops/http.ts';
import type { Health } from '../../shared/telemetry/health.ts';
import type { Notice } from '../../shared/telemetry/log.ts';
import { printable, printableLines } from '../../shared/telemetry/log.ts';
import { runGateway, type RunningGateway } from '../support/gateway.ts';
import { encodePublish } from '../support/load.ts';
import { temporaryFolder, until } from '../support/process.ts';
import { connected } from '../support/raw-mqtt.ts';

let running: RunningGateway | undefined;
afterEach(async () => {
  await running?.gateway.close();
  running = undefined;
});

describe('the packet limit', () => {
  it('takes what zigbee2mqtt sends of a large house, 800 kB, retained', async () => {
    running = await runGateway(temporaryFolder());
    const client = await connected(running.port, 'zigbee2mqtt');
    const payload = `[${'{"ieee_address":"0x00158d0001a2b3c4"},'.repeat(21_000)}{}]`;
    client.send(encodePublish('zigbee2mqtt/bridge/devices', payload, 1, 1, 1));
    expect((await client.bytes(8)).subarray(4).toString('hex')).toBe('40020001');
    expect(await running.metric('headwater_ingress_retained_messages')).toBe(1);
    client.socket.destroy();
  });

  it('a packet that is too large is said once a minute for each client, with the setting to raise', async () => {
    running = await runGateway(temporaryFolder(), { 'limits.packetBytesMax': '2000' });
    const tooLarge = (): Notice[] =>
      running?.notices.filter(({ event }) => event === 'packet_too_large') ?? [];
    for (const id of ['one', 'one', 'one', 'two']) {
      const client = await connected(running.port, id);
      client.send(encodePublish('t', 'x'.repeat(3000), 1, 1));
      await client.closed();
    }
    await until('both to be said', () => tooLarge().length === 2 || undefined);
    expect(tooLarge()[0]?.text).toMatch(
      /client 'one' at 127\.0\.0\.1 .*3008 bytes, 2000 allowed.*raise limits\.packetBytesMax/,
    );
  });
});

describe('two gateways of one name', () => {
  it('are told when an earlier epoch comes back, with both addresses, once a minute', () => {
    const said: string[] = [];
    const twins = new Twins(
      () => 0,
      ({ text }) => void said.push(text),
    );
    twins.see('roof', 'aa', '192.0.2.1');
    twins.see('roof', 'aa', '192.0.2.1');
    // A restart, also from another address, is none.
    twins.see('roof', 'bb', '192.0.2.9');
    twins.see('other', 'aa', '192.0.2.3');
    expect(said).toEqual([]);
    twins.see('roof', 'aa', '192.0.2.1');
    twins.see('roof', 'bb', '192.0.2.9');
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(
      /two gateways call themselves roof, from 192\.0\.2\.9 and 192\.0\.2\.1/,
    );
    expect(twins.count()).toBe(1);
  });
});

describe('why messages wait', () => {
  const part = (name: string, why?: string): Health => ({ name, why, isEssential: false });
  const of = (more: Partial<Waiting>): string =>
    waitingReason({ health: [], messages: 3, hasCollector: true, isEnrolled: true, ...more });
  const renewal = part('enrolment', 'the certificate could not be renewed');
  const down = part('uplink', 'no connection to mqtts://c');

  it('is what holds them up, and not what happens to be unwell as well', () => {
    expect(of({ health: [part('board', 'hot'), renewal, part('uplink')] })).toBe(
      'on the way to the collector',
    );
    expect(of({ health: [part('board', 'hot'), renewal, down] })).toBe(down.why);
    expect(of({ health: [down, part('enrolment', 'not enrolled yet')], isEnrolled: false })).toBe(
      'not enrolled yet',
    );
    expect(of({ health: [renewal], messages: 0 })).toBe('nothing waits');
    expect(of({ messages: undefined })).toBe('on the way to the collector');
    expect(of({ health: [down], hasCollector: false })).toMatch(/no collector is configured/);
  });
});

describe('what comes from outside', () => {
  const NASTY = 'a\u001b[31mb\u009b2Jc\u001b]0;title\u0007d\u202ee\u2066f\r\ng';
  it('is shown with its escapes, C0, C1, OSC and bidirectional controls', () => {
    expect(printable(NASTY)).toBe(
      'a\\u001b[31mb\\u009b2Jc\\u001b]0;title\\u0007d\\u202ee\\u2066f\\u000d\\u000ag',
    );
    expect(printableLines(NASTY)).toContain('\\u000d\ng');
    // In JSON the escape is JSON's own: nothing is changed by it.
    expect(JSON.parse(printableLines(JSON.stringify(NASTY)))).toBe(NASTY);
    expect(printable('Zähler °C שלום 温度')).toBe('Zähler °C שלום 温度');
  });
});
