/** What a gateway holds, asked at its own API, against what was acknowledged. */
import { askGateway } from '../api.ts';
import type { TriedGateway } from './child.ts';
import { topicOf, CHUNK } from './load.ts';

/** As many as a query gives. */
const LIMIT = 2 * CHUNK;

export interface Verdict {
  acknowledged: number;
  /** Acknowledged, and not there. */
  lost: number;
  /** Copies beyond the first. */
  doubled: number;
  /** The first of the lost. */
  firstLost: number | undefined;
}

/** Numbers from `from` up to the greatest of `acknowledged`. Rejects with UNREACHABLE when the gateway does not answer. */
export async function compare(
  gateway: TriedGateway,
  acknowledged: ReadonlySet<number>,
): Promise<Verdict> {
  const chunks = new Set([...acknowledged].map((n) => Math.floor(n / CHUNK)));
  const counts = new Map<number, number>();
  let doubled = 0;
  for (const chunk of chunks) {
    const topic = encodeURIComponent(topicOf(chunk * CHUNK));
    const path = `/api/v1/query?topic=${topic}&from=0&limit=${LIMIT}`;
    const { messages } = (await askGateway(gateway.http, path)) as {
      messages: { payload: string }[];
    };
    for (const { payload } of messages) {
      const { n } = JSON.parse(payload) as { n: number };
      const before = counts.get(n) ?? 0;
      if (before > 0) doubled++;
      counts.set(n, before + 1);
    }
  }
  const lost = [...acknowledged].filter((n) => !counts.has(n)).sort((a, b) => a - b);
  return { acknowledged: acknowledged.size, lost: lost.length, doubled, firstLost: lost[0] };
}
