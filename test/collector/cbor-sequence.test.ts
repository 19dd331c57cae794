/** CBOR sequences (RFC 8742). */
import { expect, it } from 'vitest';
import { decodeCborSequence } from '../../collector/decode/codecs/cbor.ts';
import { decodeMessage, mapped } from '../support/decode.ts';

const bytes = (text: string): Buffer => Buffer.from(text, 'hex');

it('each item is a reading, with its own time', () => {
  const mappings = mapped(
    'mappings:\n  - topic: m/#\n    codec: cbor-seq\n    each: "*"\n    measurement: m\n',
  );
  const readings = decodeMessage('m/1', bytes('a1617401a1617402'), { mappings });
  expect(readings.map(({ fields }) => fields)).toEqual([{ t: 1 }, { t: 2 }]);
});

it('one that ends within an item is refused, and so is nothing but a break', () => {
  expect(() => decodeCborSequence(bytes('a1617401a16174'))).toThrow(/not CBOR/);
  expect(() => decodeCborSequence(bytes('ff'))).toThrow(/not CBOR/);
});
