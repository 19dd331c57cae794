/** Times as DuckDB's columns and Parquet files have them, nanoseconds since 1970, and as readings have them. */

export const nanosOf = (timeMs: number, ns: number): bigint =>
  BigInt(timeMs) * 1_000_000n + BigInt(ns);

/** Floored, as it was put together: before 1970 the rest is of the millisecond before. */
export function timeOf(nanos: bigint): { timeMs: number; ns: number } {
  const timeMs = Number(nanos >= 0n ? nanos / 1_000_000n : (nanos - 999_999n) / 1_000_000n);
  return { timeMs, ns: Number(nanos - BigInt(timeMs) * 1_000_000n) };
}
