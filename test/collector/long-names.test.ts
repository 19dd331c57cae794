/** What a collector remembers by topics and tags is bounded in characters: each may be as long as a device likes. */
import { expect, it } from 'vitest';
import { Admission } from '../../collector/decode/admission.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { shippedMappings } from '../../collector/decode/mapping/shipped.ts';
import { decodeMessage, freshState } from '../support/decode.ts';
import { heldBytes } from '../support/heap.ts';

const MIB = 1024 * 1024;
const SHIPPED = shippedMappings().flatMap(({ text, file }) => parseMappings(text, file));

it('ever new topics of 60 kB leave nothing behind in memory', () => {
  const mappings = new Mappings(SHIPPED);
  const state = freshState();
  const decode = (from: number, to: number): void => {
    for (let at = from; at < to; at++)
      decodeMessage(`a/${at}/${'x'.repeat(60_000)}`, '{"a":1}', { mappings, state });
  };
  decode(0, 50);
  const before = heldBytes();
  decode(50, 1050);
  expect(heldBytes() - before).toBeLessThan(8 * MIB); // They were 60 and more.
});

it('a topic that is known shares its tags, as before', () => {
  const mappings = new Mappings(SHIPPED);
  const of = (topic: string) => decodeMessage(topic, '{"a":1}', { mappings })[0]?.tags;
  expect(of('plant/1')).toBe(of('plant/1'));
  const long = `plant/${'x'.repeat(2000)}`;
  expect(of(long)).toEqual(of(long));
});

it('a series with a long text counts as many as it takes memory for', () => {
  const admission = new Admission({ perClient: 20, perGateway: 30 });
  const state = freshState();
  const admit = (client: string, topic: string): unknown =>
    admission.admit(state, client, topic, {
      measurement: 'm',
      tags: { topic },
      fields: { a: 1 },
      timeMs: 0,
      digits: 0,
    } as never);
  const long = (at: number): string => `${at}`.padEnd(9000, 'x');
  expect(admit('bad', long(1))).toBeUndefined();
  expect(admit('bad', long(1))).toBeUndefined();
  expect(admit('bad', long(2))).toBeUndefined();
  expect(() => admit('bad', long(3))).toThrow(/seriesPerClientMax/);
  for (let at = 0; at < 2; at++) expect(admit('bad', `short-${at}`)).toBeUndefined();
  expect(() => admit('bad', 'short-2')).toThrow(/seriesPerClientMax/);
  expect(() => admit('worse', long(4))).not.toThrow();
  expect(() => admit('worse', long(5))).toThrow(/seriesPerGatewayMax/);
});
