/**
 * Public payloads of named devices become what a person has reviewed (`test/vectors/corpus`), and how much a user has to
 * write for it. The 500 LoRaWAN messages of `vectors.test.ts` are counted with them.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { loadEngine } from '../../collector/sandbox/sandbox.ts';
import { become, corpus, corpusFiles, golden, yamlOf, type Message } from '../support/corpus.ts';

const MAPPING_LINES_MAX = 5;
const files = corpusFiles();
/** `kinds` has examples of what can be wrong, of no device. */
const all = files.filter((file) => file !== 'kinds').flatMap(corpus);

beforeAll(async () => await loadEngine());

describe.each(files)('%s', (file) => {
  const messages = corpus(file);
  const expected = golden(file);

  it('each message becomes what was reviewed', () => {
    expect(expected).toHaveLength(messages.length);
    for (const [index, message] of messages.entries())
      expect([message.topic, become(message)]).toEqual([message.topic, expected[index]]);
  });
});

describe('the corpus', () => {
  it('each message says where it comes from, under which licence, and whether it was copied', () => {
    for (const { topic, source, licence, how } of all)
      expect([topic, source, licence, how]).toEqual([
        topic,
        expect.stringMatching(/\S/),
        expect.stringMatching(/\S/),
        expect.stringMatching(/copied|written/),
      ]);
    // Nothing is copied from where the licence does not allow it.
    for (const { how, licence } of all)
      if (/copied/.test(how)) expect(licence).toMatch(/^(Apache-2\.0|MIT)$/);
  });

  it('what needs a mapping is without it something else, and five lines are enough', () => {
    const plain = (message: Message): Message => ({ ...message, mapping: [], script: undefined });
    for (const message of all) {
      if (yamlOf(message) === undefined) continue;
      expect([message.topic, become(plain(message))]).not.toEqual([message.topic, become(message)]);
      expect(message.mapping.length).toBeLessThanOrEqual(MAPPING_LINES_MAX);
    }
  });

  it('shares: of 1,388 messages 1,345 need nothing, 31 a mapping, 12 a script', () => {
    const lorawan = 500;
    const mapped = all.filter(({ mapping }) => mapping.length > 0).length;
    const scripted = all.filter(({ script }) => script !== undefined).length;
    // A network without a decoder of its own, bytes of a format that nobody named, and what only looks like JSON: in quarantine, and the reason says why.
    const waiting = all
      .filter((message) => yamlOf(message) === undefined)
      .filter((message) =>
        become(message).some((each) => typeof each === 'string' && each.startsWith('quarantine')),
      ).length;
    const copied = all.filter(({ how }) => /copied/.test(how)).length;
    expect({ messages: all.length + lorawan, copied, mapped, scripted, waiting }).toEqual({
      messages: 1388,
      copied: 79,
      mapped: 31,
      scripted: 12,
      waiting: 11,
    });
  });
});
