/** Questions to the collector's API. Addresses are relative to the page's own, so that it works under any path of a proxy. */

import { client } from '../../../shared/http/client.ts';

/** The collector answered, and refused. */
export class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** No answer, or a proxy's answer in its place. */
export class Gone extends Error {}

const ANSWER_MS = 20_000;
const PROXY_GONE = new Set([502, 504]);

export const address = (path: string): string => new URL(path, document.baseURI).href;

/** Throws Refused or Gone. */
async function ask(path: string, init: RequestInit): Promise<unknown> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(address(path), { ...init, signal: AbortSignal.timeout(ANSWER_MS) });
    text = await response.text();
  } catch (error) {
    throw new Gone(error instanceof Error ? error.message : String(error));
  }
  if (PROXY_GONE.has(response.status)) throw new Gone(`answer ${response.status}`);
  let answer: unknown;
  try {
    answer = text === '' ? {} : JSON.parse(text);
  } catch {
    throw new Refused(response.status, `an answer that is not JSON (${response.status})`);
  }
  if (response.ok) return answer;
  const said = (answer as { error?: { message?: string } | string }).error;
  const message = typeof said === 'string' ? said : said?.message;
  throw new Refused(response.status, message ?? response.statusText);
}

export const { get, post } = client((path, body) =>
  ask(
    path.slice(1),
    body === undefined
      ? {}
      : {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        },
  ),
);

/** For this browser's session, for the path that the page is under. */
export function keepToken(token: string): void {
  const { pathname } = new URL('.', document.baseURI);
  const secure = location.protocol === 'https:' ? '; Secure' : '';
  document.cookie = `headwater_token=${encodeURIComponent(token)}; SameSite=Strict; path=${pathname}${secure}`;
}

/** One was given in this session. */
export const hasToken = (): boolean => /(?:^|; )headwater_token=./.test(document.cookie);
