/** How many messages a second the decode stage makes readings of, by codec, in one process: from frames to records of the log. */
import { encode as encodeCbor } from 'cborg';
import { encode as encodeMsgpack } from '@msgpack/msgpack';
import { CodecStates } from '../../collector/decode/codec-state.ts';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { FrameDecoder } from '../../collector/decode/frame-decoder.ts';
import { parseMappings } from '../../collector/decode/mapping/mapping.ts';
import { Mappings } from '../../collector/decode/mapping/mappings.ts';
import { shippedMappings } from '../../collector/decode/mapping/shipped.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { checkFrame } from '../../shared/frame/frame.ts';
import { median } from './measure.ts';

const PER_FRAME = 500;
const WALL_MS = 1_700_000_000_000;

export interface Case {
  name: string;
  topic: string;
  payload: (index: number) => string | Uint8Array;
  mapping?: string;
  /** As the collector is by default. */
  shipped?: boolean;
}

const climate = (index: number): { temperature: number; humidity: number; ts: number } => ({
  temperature: (1500 + (index % 1000)) / 100,
  humidity: (3000 + (index % 2000)) / 100,
  ts: WALL_MS + index,
});

export const CASES: readonly Case[] = [
  { name: 'json', topic: 'site/d/climate', payload: (i) => JSON.stringify(climate(i)) },
  {
    name: 'json, shipped mappings loaded',
    topic: 'site/d/climate',
    payload: (i) => JSON.stringify(climate(i)),
    shipped: true,
  },
  {
    name: 'json, mapping with names, tags and time',
    topic: 'site/d/climate',
    payload: (i) => JSON.stringify(climate(i)),
    mapping: 'mappings: [{topic: "site/{device}/{measurement}", tags: {plant: leeds}, time: ts}]',
  },
  { name: 'bare value', topic: 'site/d/temperature', payload: (i) => String(20 + (i % 100) / 10) },
  {
    name: 'line protocol',
    topic: 'lines',
    payload: (i) => `climate,room=a temperature=${20 + (i % 10)},humidity=50 ${WALL_MS + i}000000`,
  },
  {
    name: 'cbor',
    topic: 'site/d/climate',
    payload: (i) => encodeCbor(climate(i)),
    mapping: 'mappings: [{topic: "#", codec: cbor}]',
  },
  {
    name: 'messagepack',
    topic: 'site/d/climate',
    payload: (i) => encodeMsgpack(climate(i)),
    mapping: 'mappings: [{topic: "#", codec: msgpack}]',
  },
  {
    name: 'senml, two records',
    topic: 'site/d/pack',
    payload: (i) =>
      `[{"bn":"urn:dev:1:","bt":${1_700_000_000 + i},"n":"t","u":"Cel","v":${20 + (i % 10)}},{"n":"h","u":"%RH","v":50}]`,
  },
  {
    name: 'cayenne lpp',
    topic: 'lpp',
    payload: (i) => Uint8Array.from([1, 0x67, 0, i % 256, 2, 0x68, 100]),
    mapping: 'mappings: [{topic: lpp, codec: cayenne-lpp}]',
  },
  {
    name: 'sparkplug b',
    topic: 'spBv1.0/G/NDATA/N',
    payload: () =>
      Buffer.from(
        '08eaf2f5a8a02b121e0a0e537570706c7920566f6c7461676518eaf2f5a8a02b200965cdcc4441',
        'hex',
      ),
    shipped: true,
  },
  {
    name: 'zigbee2mqtt',
    topic: 'zigbee2mqtt/kitchen/window',
    payload: (i) =>
      `{"battery":null,"contact":false,"temperature":${20 + (i % 10)},"linkquality":${i % 255}}`,
    shipped: true,
  },
  {
    name: "a user's codec in the sandbox",
    topic: 'script',
    payload: (i) => Uint8Array.from([i % 256, 1, 2, 3]),
    mapping: 'mappings: [{topic: script, codec: bytes, script: s.js}]',
  },
];
export const SCRIPT =
  'function decodeUplink(input) { return { data: { temperature: input.bytes[0] / 10, count: input.bytes[1] } }; }';

export function framesOf({ topic, payload }: Case, messages: number): Buffer[] {
  const frames: Buffer[] = [];
  for (let sequence = 1; sequence <= messages; sequence += PER_FRAME) {
    const builder = new FrameBuilder();
    for (let index = 0; index < PER_FRAME; index++)
      builder.add(
        {
          client: 'c',
          topic,
          qos: 1,
          retain: false,
          dup: false,
          payload: Buffer.from(payload(sequence + index) as Uint8Array),
        },
        (WALL_MS + sequence) * 1000,
        1,
      );
    frames.push(
      builder.finish(
        { gateway: 'bench', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(8) },
        sequence,
        2,
        true,
      ),
    );
  }
  return frames;
}

export interface CodecFigure {
  codec: string;
  messagesPerSecond: number;
  /** Beside JSON without a mapping, in the same run. */
  toJson: number;
}

export async function benchCodecs(messages: number, rounds: number): Promise<CodecFigure[]> {
  await loadEngine();
  const figures: CodecFigure[] = [];
  for (const each of CASES) {
    const own =
      each.mapping === undefined ? [] : parseMappings(each.mapping, 'bench', () => SCRIPT);
    const shipped =
      each.shipped === true
        ? shippedMappings().flatMap(({ file, text }) => parseMappings(text, file))
        : [];
    const mappings = new Mappings([...own, ...shipped]);
    const count = each.topic === 'script' ? messages / 10 : messages;
    const frames = framesOf(each, count).map((frame) => ({ frame, header: checkFrame(frame) }));
    const rates: number[] = [];
    for (let round = 0; round <= rounds; round++) {
      const decoder = new FrameDecoder(mappings, { perClient: 1e6, perGateway: 1e6 }, (item) => {
        throw new Error(`${each.name}: ${item.reason}`);
      });
      const state = new CodecStates().of('bench');
      const began = performance.now();
      for (const { frame, header } of frames)
        decoder.readings({
          frame,
          header,
          arrivedMs: WALL_MS,
          offsetUs: 0,
          isFresh: () => true,
          state,
          partition: 0,
          hasAll: () => true,
        });
      // The first one warms up.
      if (round > 0) rates.push((count / (performance.now() - began)) * 1000);
    }
    const messagesPerSecond = Math.round(median(rates));
    const json = figures[0]?.messagesPerSecond ?? messagesPerSecond;
    figures.push({ codec: each.name, messagesPerSecond, toJson: messagesPerSecond / json });
  }
  return figures;
}
