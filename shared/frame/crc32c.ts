/**
 * CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected 0x82F63B78; RFC 3720 B.4), slicing by eight.
 * Node's `zlib.crc32` is the other polynomial (IEEE), and LevelDB's log uses this one too.
 */
const TABLES: readonly Uint32Array[] = buildTables();

function buildTables(): Uint32Array[] {
  const tables = Array.from({ length: 8 }, () => new Uint32Array(256));
  const first = tables[0] as Uint32Array;
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
    first[n] = c >>> 0;
  }
  for (let t = 1; t < 8; t++) {
    const before = tables[t - 1] as Uint32Array;
    const table = tables[t] as Uint32Array;
    for (let n = 0; n < 256; n++) {
      const c = before[n] as number;
      table[n] = ((c >>> 8) ^ (first[c & 0xff] as number)) >>> 0;
    }
  }
  return tables;
}

const [T0, T1, T2, T3, T4, T5, T6, T7] = TABLES as unknown as readonly [
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
];

/**
 * CRC-32C of `bytes[start, end)`. `seed` is the result for the bytes before, so that a checksum can be taken in parts.
 * The casts hold: every index is masked to eight bits or below `end`.
 */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length, seed = 0): number {
  let c = ~seed;
  let i = start;
  for (const last = end - 7; i < last; i += 8) {
    c ^=
      (bytes[i] as number) |
      ((bytes[i + 1] as number) << 8) |
      ((bytes[i + 2] as number) << 16) |
      ((bytes[i + 3] as number) << 24);
    c =
      (T7[c & 0xff] as number) ^
      (T6[(c >>> 8) & 0xff] as number) ^
      (T5[(c >>> 16) & 0xff] as number) ^
      (T4[c >>> 24] as number) ^
      (T3[bytes[i + 4] as number] as number) ^
      (T2[bytes[i + 5] as number] as number) ^
      (T1[bytes[i + 6] as number] as number) ^
      (T0[bytes[i + 7] as number] as number);
  }
  for (; i < end; i++) c = (T0[(c ^ (bytes[i] as number)) & 0xff] as number) ^ (c >>> 8);
  return ~c >>> 0;
}

/** A 32 by 32 matrix over GF(2) times a vector. */
function times(matrix: Uint32Array, vector: number): number {
  let sum = 0;
  for (let bit = 0, rest = vector >>> 0; rest !== 0; bit++, rest >>>= 1)
    if ((rest & 1) !== 0) sum ^= matrix[bit] as number;
  return sum >>> 0;
}

const squared = (matrix: Uint32Array): Uint32Array =>
  Uint32Array.from(matrix, (row) => times(matrix, row));

/** The checksum of two parts from theirs; `bytes` is the length of the second. As zlib's `crc32_combine`. */
export function crc32cCombine(first: number, second: number, bytes: number): number {
  // One zero bit behind it, as a matrix; squared thrice one zero byte, and so on.
  let zeros: Uint32Array = Uint32Array.from({ length: 32 }, (_, bit) =>
    bit === 0 ? 0x82f63b78 : (1 << (bit - 1)) >>> 0,
  );
  for (let power = 0; power < 3; power++) zeros = squared(zeros);
  let crc = first;
  for (let rest = bytes; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) crc = times(zeros, crc);
    zeros = squared(zeros);
  }
  return (crc ^ second) >>> 0;
}
