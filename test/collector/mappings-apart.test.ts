/** Shipped mappings claim what is their own: what one file's example is, no other file's mappings take. */
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { shippedMappings } from '../../collector/decode/mapping/shipped.ts';
import { messageOf } from '../../shared/errors.ts';
import { decodeAll } from '../support/decode.ts';

interface Example {
  topic: string;
  payload?: string;
  hex?: string;
}

const files = shippedMappings().map(({ file, text }) => ({
  file,
  mappings: new Mappings(parseMappings(text, file)),
  examples: (parse(text) as { examples: Example[] }).examples,
}));
const none = new Mappings([]);

/**
 * Two dialects with one form of topic. The file that comes first decides, and its own example (mappings.test.ts) shows that
 * it does; one that no longer overlaps is to be taken off.
 */
const SAME_TOPICS = new Map([
  ['12-home-assistant.yaml homeassistant/sensor/outside_temperature/state', ['24-esphome.yaml']],
  // SenseCAP's decoder within the networks' envelopes.
  ['26-sensecap.yaml v3/app1@ttn/devices/s2101/up', ['30-ttn-v3.yaml']],
  // OPC Publisher within Azure's topics.
  ['42-opc-ua.yaml devices/publisher/messages/events', ['47-cloud.yaml']],
  ['26-sensecap.yaml application/1/device/2cf7f1c0443000ab/event/up', ['31-chirpstack-v4.yaml']],
]);

/** What comes out, as far as a mapping can change it. */
function outcome(mappings: Mappings, { topic, payload, hex }: Example): string {
  const bytes = hex === undefined ? (payload ?? '') : Buffer.from(hex, 'hex');
  try {
    const { readings, problems, left } = decodeAll(topic, bytes, { mappings });
    const made = readings.map(({ measurement, tags, fields, timeMs }) => [
      measurement,
      tags,
      fields,
      timeMs,
    ]);
    return JSON.stringify([made, problems, left]);
  } catch (error) {
    return messageOf(error);
  }
}

describe.each(files)('$file', ({ file, examples }) => {
  it.each(examples)('no other file takes $topic', (example) => {
    const plain = outcome(none, example);
    const claims = files
      .filter((other) => other.file !== file && outcome(other.mappings, example) !== plain)
      .map((other) => other.file);
    expect(claims).toEqual(SAME_TOPICS.get(`${file} ${example.topic}`) ?? []);
  });
});
