/** An answer with a long list, told item by item: it stands nowhere as a whole, and what makes an item may take its time. */
import type { StreamReply } from './route.ts';

/** Characters that go out together. */
const PART_CHARACTERS = 32 * 1024;

export interface Listed {
  /** What stands before the list. */
  before?: object;
  /** Under which name the list stands. */
  name: string;
  items: Iterable<unknown> | AsyncIterable<unknown>;
  /** What stands behind it, once it is told. */
  after?: () => object;
}

const inner = (value: object): string => JSON.stringify(value).slice(1, -1);

async function* textOf({ before = {}, name, items, after }: Listed): AsyncGenerator<string> {
  const head = inner(before);
  let text = `{${head}${head === '' ? '' : ','}${JSON.stringify(name)}:[`;
  let isFirst = true;
  for await (const item of items) {
    text += `${isFirst ? '' : ','}${JSON.stringify(item)}`;
    isFirst = false;
    if (text.length < PART_CHARACTERS) continue;
    yield text;
    text = '';
  }
  const tail = inner(after?.() ?? {});
  yield `${text}]${tail === '' ? '' : `,${tail}`}}`;
}

export const listReply = (listed: Listed): StreamReply => ({
  type: 'application/json; charset=utf-8',
  parts: textOf(listed),
});
