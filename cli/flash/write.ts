/**
 * Writes an image to a card and reads it back, past the cache: what a cache says proves nothing of a card.
 *
 * - A card that was left half written does not boot, at whatever write it was left: its first block is emptied first. The
 *   image's end, where a second partition table may be, comes after everything else was read back; then the first block
 *   without its first sector; and that sector last of all. Whatever fails, it is emptied again as far as the card lets us.
 * - Marks behind the image, written before it and read after it, show a card that claims more room than it has; where there
 *   is no room for them, what begins again from its start has written over other blocks, or over the emptied one.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';

const BLOCK = 4 * 1024 * 1024;
/** Where the partition table begins. */
const SECTOR = 512;
/** Of a disk's sector, at most; and where `O_DIRECT` wants memory and offsets to lie. */
const ALIGN = 4096;

/** Memory that begins on a page. Node's own types leave this out where there is no browser. */
const { WebAssembly: wasm } = globalThis as unknown as {
  WebAssembly: { Memory: new (size: { initial: number }) => { buffer: ArrayBuffer } };
};
const aligned = (bytes: number): Buffer =>
  Buffer.from(new wasm.Memory({ initial: Math.ceil(bytes / 65536) }).buffer).subarray(0, bytes);

/** Opened so that nothing lies between us and the card, where the file system can do that. */
async function openCard(path: string, isDevice: boolean): Promise<FileHandle> {
  const { O_RDWR, O_DIRECT, O_EXCL, O_SYNC } = constants;
  try {
    return await open(path, O_RDWR | O_SYNC | (isDevice ? O_DIRECT | O_EXCL : O_DIRECT));
  } catch (error) {
    if (!isDevice && codeOf(error) === 'EINVAL') return await open(path, O_RDWR | O_SYNC);
    throw error;
  }
}

const digest = (data: Buffer): string => createHash('sha256').update(data).digest('base64');
const padded = (length: number): number => Math.ceil(length / ALIGN) * ALIGN;

/** What a card is written through; tests put failing ones here. */
export type Medium = Pick<FileHandle, 'read' | 'write' | 'sync' | 'close'>;

export interface Writing {
  image: string;
  card: string;
  open?: () => Promise<Medium>;
  /** A block device, which knows its size; else a file that stands in for one. */
  isDevice: boolean;
  cardBytes: number;
  /** Rejects where another card is there than the one that was looked at; asked before the first write and before the last. */
  check?: () => Promise<void>;
  progress: (phase: 'write' | 'verify', done: number) => void;
}

function fail(card: string, what: string, error?: unknown, end = HALF): never {
  const why = error === undefined ? '' : `: ${messageOf(error)}`;
  throw new HeadwaterError('DATA_UNUSABLE', `${card}: ${what}${why}; ${end}`, { cause: error });
}

const HALF = 'this card does not boot as it is, take another';
const NOTHING = 'nothing was written to it';

/** Why it cannot even be opened. */
function closed(card: string, error: unknown): never {
  const code = codeOf(error);
  if (code === 'EACCES' || code === 'EPERM')
    fail(card, 'writing to a card needs root (sudo headwater flash …)', error, NOTHING);
  if (code === 'EBUSY') fail(card, 'it is in use (mounted?)', error, NOTHING);
  return fail(card, 'it cannot be opened (pulled out?)', error, NOTHING);
}

/** One card, and a buffer to write it through. */
class Target {
  private readonly medium: Medium;
  readonly buffer = aligned(BLOCK);

  constructor(medium: Medium) {
    this.medium = medium;
  }

  /** What is in the buffer, from `from` on. */
  async put(offset: number, from: number, length: number): Promise<void> {
    for (let done = from; done < from + length; ) {
      const left = from + length - done;
      const { bytesWritten } = await this.medium.write(
        this.buffer,
        done,
        left,
        offset + done - from,
      );
      if (bytesWritten === 0) throw new Error(`it takes nothing more at ${offset + done - from}`);
      done += bytesWritten;
    }
  }

  /** Without it nothing boots. */
  async empty(length: number): Promise<void> {
    this.buffer.fill(0);
    await this.put(0, 0, length);
    await this.medium.sync();
  }

  /** The first block is in the buffer: its first sector comes last, since a write may be cut anywhere. */
  async putFirst(length: number): Promise<void> {
    const sector = Buffer.from(this.buffer.subarray(0, SECTOR));
    this.buffer.fill(0, 0, SECTOR);
    await this.put(0, 0, length);
    await this.medium.sync();
    sector.copy(this.buffer);
    await this.put(0, 0, Math.min(ALIGN, length));
    await this.medium.sync();
  }
}

/** Rejects with one sentence. */
export async function writeCard(writing: Writing): Promise<void> {
  const { image, card, isDevice } = writing;
  const source = await open(image, 'r');
  const openTarget = writing.open ?? (() => openCard(card, isDevice));
  try {
    const medium = await openTarget().catch((error: unknown) => closed(card, error));
    let isOther = false;
    const check = async (): Promise<void> => {
      isOther = true;
      await writing.check?.();
      isOther = false;
    };
    try {
      await check();
      await fill({ ...writing, check }, source, medium);
    } catch (error) {
      // What wraps around may have written over its beginning; a card that is gone cannot be emptied, another is not ours.
      const { size } = await source.stat();
      if (!isOther)
        await new Target(medium).empty(Math.min(BLOCK, padded(size))).catch(() => undefined);
      throw error;
    } finally {
      await medium.close().catch(() => undefined); // A card that was pulled out cannot be closed.
    }
  } finally {
    await source.close();
  }
}

async function fill(writing: Writing, source: FileHandle, medium: Medium): Promise<void> {
  const { card, progress } = writing;
  const target = new Target(medium);
  const { buffer } = target;
  const { size } = await source.stat();
  const hashes: string[] = [];
  const [marks, seed] = [marksOf(writing.cardBytes, size), randomBytes(16)];
  const last = Math.floor((size - 1) / BLOCK) * BLOCK;
  const load = async (offset: number): Promise<number> => {
    const { bytesRead } = await source.read(buffer, 0, BLOCK, offset);
    const length = padded(bytesRead);
    buffer.fill(0, bytesRead, length);
    return length;
  };
  try {
    await putMarks(medium, marks, seed);
    await target.empty(Math.min(BLOCK, padded(size)));
    for (let offset = 0; offset < size; offset += BLOCK) {
      const length = await load(offset);
      if (offset === 0) buffer.fill(0, 0, length);
      if (offset === last) buffer.fill(0, length - ALIGN, length);
      hashes.push(digest(buffer.subarray(0, length)));
      if (offset > 0) await target.put(offset, 0, length);
      progress('write', Math.min(size, offset + BLOCK));
    }
    await medium.sync();
  } catch (error) {
    fail(card, 'it could not be written (pulled out, or worn?)', error);
  }
  for (const [index, hash] of hashes.entries()) {
    const length = padded(Math.min(BLOCK, size - index * BLOCK));
    await verify(writing, medium, index * BLOCK, length, hash);
  }
  await checkMarks(writing, medium, marks, seed);
  await writing.check?.();
  // Only a card that has everything else gets its end, and then its beginning.
  for (const offset of last > 0 ? [last, 0] : [0]) {
    const length = await load(offset);
    const hash = digest(buffer.subarray(0, length));
    try {
      if (offset === 0) await target.putFirst(length);
      else await target.put(offset + length - ALIGN, length - ALIGN, ALIGN);
      await medium.sync();
    } catch (error) {
      fail(card, `its ${offset === 0 ? 'beginning' : 'end'} could not be written`, error);
    }
    await verify(writing, medium, offset, length, hash);
  }
}

async function back(target: Medium, offset: number, length: number): Promise<Buffer> {
  const buffer = aligned(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await target.read(buffer, done, length - done, offset + done);
    if (bytesRead === 0) throw new Error(`it ends at ${offset + done}`);
    done += bytesRead;
  }
  return buffer;
}

async function verify(
  { card, progress }: Writing,
  medium: Medium,
  offset: number,
  length: number,
  hash: string | undefined,
): Promise<void> {
  try {
    let same = digest(await back(medium, offset, length)) === hash;
    // Readers have been seen to err once; a card that does so twice is none.
    if (!same) same = digest(await back(medium, offset, length)) === hash;
    if (!same) throw new Error(`other bytes come back than were written, at ${offset}`);
  } catch (error) {
    fail(card, 'it does not hold what was written', error);
  }
  progress('verify', offset + length);
}

/**
 * Where marks stand, behind the image: never further from each other than the image is long, so that wherever a card
 * begins again from its start, one of them is overwritten by the image; and two at its very end, so that one which throws
 * away what is too much cannot show both.
 */
function marksOf(cardBytes: number, size: number): number[] {
  const end = Math.floor(cardBytes / ALIGN) * ALIGN;
  const first = padded(size);
  const marks = [end - ALIGN, end - 2 * ALIGN];
  for (let at = first; at < end; at += Math.max(first, ALIGN)) marks.push(at);
  return [...new Set(marks)].filter((at) => at >= first);
}

const markAt = (seed: Buffer, at: number): Buffer => {
  const mark = aligned(ALIGN);
  const line = createHash('sha256').update(seed).update(String(at)).digest();
  for (let offset = 0; offset < ALIGN; offset += line.length) line.copy(mark, offset);
  return mark;
};

/** Before the image is written. */
async function putMarks(target: Medium, marks: readonly number[], seed: Buffer): Promise<void> {
  for (const at of marks) {
    const { bytesWritten } = await target.write(markAt(seed, at), 0, ALIGN, at);
    if (bytesWritten !== ALIGN) throw new Error(`it ends at ${at}`);
  }
}

/** After it. */
async function checkMarks(
  { card }: Writing,
  target: Medium,
  marks: readonly number[],
  seed: Buffer,
): Promise<void> {
  try {
    for (const at of marks)
      if (!(await back(target, at, ALIGN)).equals(markAt(seed, at)))
        throw new Error(`what was written at ${Math.round(at / 1e6)} MB did not stay there`);
  } catch (error) {
    fail(card, 'it seems to claim more room than it has', error);
  }
}
