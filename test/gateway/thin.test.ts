/** Thinning by itself: what is left of messages. */
import { expect, it } from 'vitest';
import { thin } from '../../gateway/buffer/thin.ts';
import { FrameBuilder } from '../../shared/frame/builder.ts';
import { message } from '../contract/buffer.ts';

/** Messages of one topic in a frame, as the buffer has them. */
function stored(payloads: readonly string[]) {
  const builder = new FrameBuilder();
  for (const [at, payload] of payloads.entries())
    builder.add({ ...message('t'), payload: Buffer.from(payload) }, 1e15 + at, at);
  const identity = { gateway: 'gw', epoch: Buffer.alloc(8, 1), bootId: Buffer.alloc(16) };
  const frame = builder.finish(identity, 1, 0, false);
  return { position: Buffer.alloc(8), end: Buffer.alloc(8), frame };
}

it('fields named as what every object has are thinned like any others, and none is lost', () => {
  const names = ['constructor', '__proto__', 'toString', 'hasOwnProperty', 'n'];
  const payloads = Array.from(
    { length: 10 },
    (_, at) => `{${names.map((name) => `"${name}":${at}`).join(',')},"valueOf":"a text"}`,
  );
  const [series] = thin([stored(payloads)], false)?.summaries[0]?.series ?? [];
  // As it goes through JSON.
  const told = JSON.parse(JSON.stringify(series)) as NonNullable<typeof series>;
  expect(Object.entries(told.numbers)).toEqual(names.map((name) => [name, [10, 0, 9, 4.5]]));
  expect(Object.entries(told.constants)).toEqual([['valueOf_text', 'a text']]);
});
