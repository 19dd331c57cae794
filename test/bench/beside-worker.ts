/**
 * One side of `beside.ts`: decodes frames with the code of a tree. Reads the number of a case a line, answers with
 * messages a second of processor time: what else the machine does takes none of it.
 *
 *     node --import tsx test/bench/beside-worker.ts TREE MESSAGES
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { CASES, SCRIPT, framesOf } from './codecs.ts';

const [tree = '', messages = '0'] = process.argv.slice(2);
const from = async <T>(path: string): Promise<T> =>
  (await import(pathToFileURL(join(tree, path)).href)) as T;

const { loadEngine } = await from<typeof import('../../collector/sandbox/sandbox.ts')>(
  'collector/sandbox/sandbox.ts',
);
const { CodecStates } = await from<typeof import('../../collector/decode/codec-state.ts')>(
  'collector/decode/codec-state.ts',
);
const { FrameDecoder } = await from<typeof import('../../collector/decode/frame-decoder.ts')>(
  'collector/decode/frame-decoder.ts',
);
const { parseMappings } = await from<typeof import('../../collector/decode/mapping/mapping.ts')>(
  'collector/decode/mapping/mapping.ts',
);
const { Mappings } = await from<typeof import('../../collector/decode/mapping/mappings.ts')>(
  'collector/decode/mapping/mappings.ts',
);
const { shippedMappings } = await from<typeof import('../../collector/decode/mapping/shipped.ts')>(
  'collector/decode/mapping/shipped.ts',
);
const { checkFrame } =
  await from<typeof import('../../shared/frame/frame.ts')>('shared/frame/frame.ts');
await loadEngine();

const ready = CASES.map((each) => {
  const own = each.mapping === undefined ? [] : parseMappings(each.mapping, 'bench', () => SCRIPT);
  const shipped =
    each.shipped === true
      ? shippedMappings().flatMap(({ file, text }) => parseMappings(text, file))
      : [];
  const count = each.topic === 'script' ? Number(messages) / 10 : Number(messages);
  const frames = framesOf(each, count).map((frame) => ({ frame, header: checkFrame(frame) }));
  return { name: each.name, mappings: new Mappings([...own, ...shipped]), frames, count };
});

function rate(index: number): number {
  const { name, mappings, frames, count } = ready[index] as (typeof ready)[number]; // Asked for by CASES' indexes.
  const decoder = new FrameDecoder(mappings, { perClient: 1e6, perGateway: 1e6 }, (item) => {
    throw new Error(`${name}: ${item.reason}`);
  });
  const state = new CodecStates().of('bench');
  const began = process.cpuUsage();
  for (const { frame, header } of frames)
    decoder.readings({
      frame,
      header,
      arrivedMs: 1_700_000_000_000,
      offsetUs: 0,
      isFresh: () => true,
      state,
      partition: 0,
      hasAll: () => true,
    });
  const { user, system } = process.cpuUsage(began);
  return count / ((user + system) / 1e6);
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${rate(Number(line))}\n`);
