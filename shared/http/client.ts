/**
 * A client of the collector's API, by the types that `npm run generate` makes of its description: a wrong path or parameter, or
 * a field that an answer does not have, does not compile. How a question is sent is up to whoever asks: the page, the
 * commands and strangers (docs/api.md) each have their own way.
 */
import type { CollectorApi } from './generated/collector-api.d.ts';

type Operations = keyof CollectorApi;
export type Asked = Operations extends infer K ? (K extends `GET ${infer P}` ? P : never) : never;
export type Told = Operations extends infer K ? (K extends `POST ${infer P}` ? P : never) : never;

/** Of `GET PATH`. */
export type Query<P extends Asked> = CollectorApi[`GET ${P}`]['query'];
export type Answer<P extends Asked> = CollectorApi[`GET ${P}`]['answer'];
/** Of `POST PATH`. */
export type Body<P extends Told> = CollectorApi[`POST ${P}`]['body'];
export type Done<P extends Told> = CollectorApi[`POST ${P}`]['answer'];

/** An answer that an earlier version gives without these. */
export type Earlier<T, K extends keyof T> = Omit<T, K> & Partial<Pick<T, K>>;

/** Gives the JSON of an answer; throws what the sender throws for another one. `body` is sent as JSON. */
export type Send = (path: string, body: object | undefined) => Promise<unknown>;

export interface Client {
  /** `URLSearchParams`: as a person gave them, for the collector to judge. */
  get<P extends Asked>(path: P, query?: Query<P> | URLSearchParams): Promise<Answer<P>>;
  post<P extends Told>(path: P, body: Body<P>): Promise<Done<P>>;
}

type Scalar = string | number | boolean | undefined;

/** The path of a question. A map is `NAME.KEY=VALUE` for each of its keys. */
export function pathOf<P extends Asked>(path: P, query?: Query<P> | URLSearchParams): string {
  const given = query instanceof URLSearchParams ? query : new URLSearchParams();
  for (const [name, value] of Object.entries(
    (query ?? {}) as Record<string, Scalar | Record<string, Scalar>>,
  )) {
    if (value === undefined) continue;
    if (typeof value === 'object')
      for (const [key, each] of Object.entries(value)) given.append(`${name}.${key}`, String(each));
    else given.append(name, String(value));
  }
  return given.size === 0 ? path : `${path}?${given.toString()}`;
}

export function client(send: Send): Client {
  return {
    // As the description says; `test/collector/replies.test.ts` compares real answers with it.
    get: async <P extends Asked>(path: P, query?: Query<P> | URLSearchParams) =>
      (await send(pathOf(path, query), undefined)) as Answer<P>,
    post: async <P extends Told>(path: P, body: Body<P>) => (await send(path, body)) as Done<P>,
  };
}
