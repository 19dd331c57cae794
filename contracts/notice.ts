/** What an adapter says of itself: one event, one line, for whoever looks after the machine. */

export type Level = 'info' | 'warn' | 'error';

export interface Notice {
  level: Level;
  /** A stable name, snake_case. */
  event: string;
  /** A sentence for a person. */
  text: string;
}

export type Notify = (notice: Notice) => void;
