/** One connection to Redis, whose errors are the contract's. What is asked while it is cut fails at once. */
import { createClient, RESP_TYPES } from '@redis/client';
import { AdapterError, type Health } from '@headwater/contracts';

export interface ConnectionOptions {
  address: string;
  user: string;
  password: string;
  nowMs: () => number;
}

const RECONNECT_MS_MAX = 500;

export class Connection {
  health: Health;
  private readonly client;
  private readonly raw;

  constructor({ address, user, password, nowMs }: ConnectionOptions) {
    this.health = { up: false, sinceMs: nowMs(), reason: 'not open yet' };
    this.client = createClient({
      url: `redis://${address}`,
      ...(user === '' ? {} : { username: user }),
      ...(password === '' ? {} : { password }),
      // The older protocol: every answer is a list.
      RESP: 2,
      disableOfflineQueue: true,
      socket: { reconnectStrategy: (retries) => Math.min(20 * 2 ** retries, RECONNECT_MS_MAX) },
    });
    this.client.on('ready', () => {
      this.health = { up: true, sinceMs: nowMs(), reason: '' };
    });
    this.client.on('error', (error: Error) => {
      const sinceMs = this.health.up ? nowMs() : this.health.sinceMs;
      this.health = { up: false, sinceMs, reason: error.message };
    });
    this.raw = this.client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  }

  async open(): Promise<void> {
    try {
      await this.client.connect();
    } catch (error) {
      throw this.unavailable(error);
    }
  }

  /** A command as it stands in the reference. Throws LOG_UNAVAILABLE, and LOG_FENCED where our script says so. */
  async call(...words: (string | number | Buffer)[]): Promise<unknown> {
    try {
      return await this.raw.sendCommand(
        words.map((word) => (typeof word === 'number' ? String(word) : word)),
      );
    } catch (error) {
      if (error instanceof Error && error.message.includes('FENCED'))
        throw new AdapterError('LOG_FENCED', `Redis: ${error.message}`, { cause: error });
      throw this.unavailable(error);
    }
  }

  private unavailable(error: unknown): AdapterError {
    const text = error instanceof Error ? error.message : String(error);
    return new AdapterError('LOG_UNAVAILABLE', `Redis: ${text}`, { cause: error });
  }

  close(): void {
    this.client.destroy();
  }
}

export const texts = (answer: unknown): string[] => (answer as Buffer[]).map(String);
