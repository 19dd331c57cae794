/**
 * Gives up what runs on a connection. One call is not enough: a query that is handed to its thread and has not begun there
 * forgets it, and runs to its end. So it is said again until whoever gave up says that nothing runs any more.
 */
import { HeadwaterError } from '../../shared/errors.ts';
import type { DuckDBConnection } from './database.ts';

const AGAIN_MS = 50;

export interface Interruption {
  /** Idempotent. */
  begin(): void;
  /** Before the connection is closed. */
  end(): void;
}

export function interruption(connection: Pick<DuckDBConnection, 'interrupt'>): Interruption {
  let again: NodeJS.Timeout | undefined;
  return {
    begin: () => {
      connection.interrupt();
      again ??= setInterval(() => connection.interrupt(), AGAIN_MS);
    },
    end: () => clearInterval(again),
  };
}

/**
 * Before a connection is closed whose question did not come to its end: what runs of it is waited for, and what it held is let go
 * of, on a thread of the pool, where the next statement finds it. Closing does the same on the caller's (half a second was seen).
 */
export async function settle(connection: Pick<DuckDBConnection, 'run'>): Promise<void> {
  await connection.run('SELECT 1').catch(() => undefined); // Whatever it says, the connection is closed.
}

/** The same, and the closing. */
export async function leave(
  connection: Pick<DuckDBConnection, 'run' | 'closeSync'>,
): Promise<void> {
  await settle(connection);
  connection.closeSync();
}

/** What a question ends with that nobody waits for any more. */
export const givenUp = (cause: unknown): HeadwaterError =>
  new HeadwaterError('QUERY_LIMIT', 'the query was given up', { cause });
