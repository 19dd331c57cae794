/**
 * MessagePack as a tree, by @msgpack/msgpack: 64-bit integers stay whole, the extension -1 is a time to the
 * nanosecond, other extensions are their bytes. The only file that imports it.
 */
import { Decoder, ExtData, ExtensionCodec, decodeTimestampToTimeSpec } from '@msgpack/msgpack';
import { Undecodable } from '../../../shared/codecs/codec.ts';
import { Moment, isObject, type Tree } from '../../../shared/codecs/tree.ts';
import { messageOf } from '../../../shared/errors.ts';
import { Entries, treeOf } from './cbor.ts';

const extensions = new ExtensionCodec();
extensions.register({
  type: -1,
  encode: () => null,
  decode: (data) => {
    const { sec, nsec } = decodeTimestampToTimeSpec(data);
    const ns = nsec % 1_000_000;
    return new Moment({ ms: sec * 1000 + Math.floor(nsec / 1_000_000), ns, fine: ns !== 0 });
  },
});

/** Extensions that nobody knows, as their bytes; objects as their entries, by the keys that they came with. */
function plain(value: unknown, keyOf: ((key: string) => string) | undefined): unknown {
  if (value instanceof ExtData) return value.data;
  if (Array.isArray(value)) return value.map((each) => plain(each, keyOf));
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Moment || value instanceof Uint8Array) return value;
  return new Entries(
    Object.entries(value).map(([key, child]) => [
      keyOf === undefined ? key : keyOf(key),
      plain(child, keyOf),
    ]),
  );
}

function entriesOf(value: Tree): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, each) => sum + entriesOf(each), 0);
  if (!isObject(value)) return 0;
  return Object.values(value).reduce<number>((sum, each) => sum + 1 + entriesOf(each), 0);
}

/** The tree, and how many keys its maps have. `isNumbered`: with a number before each key, so that none is another's. */
function treeAndKeys(payload: Uint8Array, isNumbered: boolean): { tree: Tree; keys: number } {
  let keys = 0;
  const decoder = new Decoder({
    extensionCodec: extensions,
    useBigInt64: true,
    mapKeyConverter: (key) => {
      if (typeof key !== 'string' && typeof key !== 'number' && typeof key !== 'bigint')
        throw new Undecodable('a map has a key that is neither text nor a whole number');
      keys++;
      return isNumbered ? `${keys}:${key}` : String(key);
    },
  });
  const keyOf = isNumbered ? (key: string): string => key.slice(key.indexOf(':') + 1) : undefined;
  try {
    return { tree: treeOf(plain(decoder.decode(payload), keyOf)), keys };
  } catch (error) {
    if (error instanceof Undecodable) throw error;
    throw new Undecodable(`not MessagePack: ${messageOf(error)}`, { cause: error });
  }
}

/** Throws Undecodable. */
export function decodeMsgpack(payload: Uint8Array): Tree {
  const { tree, keys } = treeAndKeys(payload, false);
  // The library's objects lose a key that comes twice; the count tells.
  return entriesOf(tree) === keys ? tree : treeAndKeys(payload, true).tree;
}
