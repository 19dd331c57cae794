/** Messages as they come, by topic: the first question looks back through the log's end, each one after it asks what came since. */
import { useEffect, useState } from 'preact/hooks';
import type { Answer } from '../../../shared/http/client.ts';
import { Refused, get } from './net.ts';
import { shortText, valueText } from './series.ts';
import { failed, useStore } from './store.ts';

export type Message = Answer<'/api/v1/messages'>['messages'][number];
export type Made = NonNullable<Message['made']>;

const EVERY_MS = 2000;
/** Where this token may not: it is asked again now and then. */
const REFUSED_MS = 30_000;
const LIMIT = 500;
const TOPICS_MAX = 3000;

export interface Followed {
  /** The newest of each topic. */
  messages: ReadonlyMap<string, Message>;
  /** Why there are none, or not all. */
  said: string;
  isRead: boolean;
}

export function useMessages(): Followed {
  const { round } = useStore();
  const [followed, setFollowed] = useState<Followed>({
    messages: new Map(),
    said: '',
    isRead: false,
  });
  useEffect(() => {
    let isWanted = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let after = '';
    const messages = new Map<string, Message>();
    const look = async (): Promise<void> => {
      let said = '';
      let waitMs = EVERY_MS;
      try {
        const asked = { each: 'topic', limit: LIMIT, ...(after === '' ? {} : { after }) } as const;
        const answer = await get('/api/v1/messages', asked);
        after = answer.next;
        said = answer.unread ?? '';
        for (const message of answer.messages.toReversed()) {
          messages.delete(message.topic);
          messages.set(message.topic, message);
        }
        for (const oldest of messages.keys()) {
          if (messages.size <= TOPICS_MAX) break;
          messages.delete(oldest);
        }
      } catch (error) {
        if (!isWanted) return;
        failed(error);
        if (error instanceof Refused) {
          said = error.message;
          waitMs = REFUSED_MS;
        }
      }
      if (!isWanted) return;
      setFollowed({ messages, said, isRead: true });
      timer = setTimeout(() => void look(), waitMs);
    };
    void look();
    return () => {
      isWanted = false;
      clearTimeout(timer);
    };
  }, [round]);
  return followed;
}

/** When it came, by the collector's clock; one of a log of before says only what its gateway believed. */
export const cameMs = ({ arrivedMs, receivedMs }: Message): number => arrivedMs ?? receivedMs;

export function madeText({ readings, told }: Made): string {
  const made = readings.flatMap(({ measurement, fields }) =>
    Object.entries(fields).map(
      ([name, value]) => `${shortText(measurement)} ${shortText(name)}=${valueText(value)}`,
    ),
  );
  return [...made, ...told].join('; ') || 'nothing';
}
