/** Every shipped mapping makes of its examples what it says beside them. */
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { builtDocument, shippedMappings } from '../../collector/decode/mapping/shipped.ts';
import { decodeAll, decodeMessage, shipped } from '../support/decode.ts';

interface Example {
  topic: string;
  payload?: string;
  hex?: string;
  zone?: string;
  readings: {
    measurement: string;
    tags: Record<string, string>;
    fields: Record<string, unknown>;
    time?: number;
    units?: Record<string, string>;
  }[];
}

describe.each(shippedMappings())('$file', ({ text }) => {
  const { examples } = parse(text) as { examples: Example[] };
  it('is in the build as it stands in its file (npm run build)', () => {
    expect(builtDocument(text)).toEqual(parse(text));
  });
  it.each(examples)('$topic', ({ topic, payload, hex, zone, readings }) => {
    const bytes = hex === undefined ? (payload ?? '') : Buffer.from(hex, 'hex');
    const receivedMs = Date.UTC(2026, 5, 1, 12);
    const decoded = decodeMessage(topic, bytes, { mappings: shipped(zone), receivedMs });
    const { problems, left } = decodeAll(topic, bytes, { mappings: shipped(zone), receivedMs });
    expect([problems, left]).toEqual([[], undefined]);
    expect(
      decoded.map(
        ({ measurement, tags: { gateway: _gateway, ...tags }, fields, timeMs, meta }) => ({
          measurement,
          tags,
          fields,
          time: timeMs,
          units: Object.fromEntries([...(meta ?? [])].map(([name, { unit }]) => [name, unit])),
        }),
      ),
    ).toMatchObject(
      readings.map((reading) => ({
        ...reading,
        // Exactly these fields: none beside them.
        fields: expect.toSatisfy((fields) => {
          expect(fields).toEqual(reading.fields);
          return true;
        }) as unknown,
        time: reading.time ?? receivedMs,
      })),
    );
    expect(decoded).toHaveLength(readings.length);
    for (const [index, { tags }] of readings.entries()) {
      const { gateway: _gateway, ...own } = decoded[index]?.tags ?? {};
      expect(own).toEqual(tags);
    }
  });
});
