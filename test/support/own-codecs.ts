/** The rows of the codecs' table as the contract's codecs, with what devices send of each. */
import { AdapterError } from '../../contracts/errors.ts';
import type { Codec, CodecExample, CodecGives, CodecValue } from '../../contracts/codec.ts';
import type { CodecUnderTest } from '../../contracts/suite/codec.ts';
import type { CodecRow } from '../../collector/decode/codecs/table.ts';
import { Undecodable, type Decoded } from '../../shared/codecs/codec.ts';
import { Moment, type Tree } from '../../shared/codecs/tree.ts';

function valueOf(tree: Tree): CodecValue {
  if (tree instanceof Moment) return new Date(tree.time.ms);
  if (Array.isArray(tree)) return tree.map(valueOf);
  if (typeof tree !== 'object' || tree === null || tree instanceof Uint8Array) return tree;
  return Object.fromEntries(Object.entries(tree).map(([key, each]) => [key, valueOf(each)]));
}

const pointOf = ({
  measurement,
  tags,
  fields,
  time,
}: Decoded): Extract<CodecGives, { points: unknown }>['points'][number] => ({
  ...(measurement === undefined ? {} : { measurement }),
  ...(tags === undefined ? {} : { tags }),
  fields: Object.fromEntries(fields),
  ...(time === undefined ? {} : { timeMs: time.ms }),
});

export function ownCodec(row: CodecRow, examples: readonly CodecExample[]): CodecUnderTest {
  const { parse, gives } = row;
  if (parse === undefined || gives === 'protocol' || gives === 'nothing')
    throw new Error(`${row.name} reads no payload by itself`);
  const codec: Codec = {
    examples,
    parse: (payload, hints) => {
      try {
        const made = parse(Buffer.from(payload.buffer, payload.byteOffset, payload.length), hints);
        return 'document' in made
          ? { document: valueOf(made.document) }
          : { points: made.points.map(pointOf) };
      } catch (error) {
        if (!(error instanceof Undecodable)) throw error;
        throw new AdapterError('RECORD_REFUSED', error.message, { cause: error });
      }
    },
  };
  return { supports: { gives }, create: () => codec };
}
