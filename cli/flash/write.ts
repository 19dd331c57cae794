/**
 * Writes an image to a card and reads it back, past the cache: what a cache says proves nothing of a card. The first
 * block, which has the partition table, is emptied first and written last, so a card that was left half written does not
 * boot. Marks behind the image, written before it and read after it, show a card that claims more room than it has.
 */
import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { HeadwaterError, codeOf, messageOf } from '../../shared/errors.ts';

const BLOCK = 4 * 1024 * 1024;
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
  progress: (phase: 'write' | 'verify', done: number) => void;
}

function fail(card: string, what: string, error?: unknown): never {
  const why = error === undefined ? '' : `: ${messageOf(error)}`;
  throw new HeadwaterError(
    'DATA_UNUSABLE',
    `${card}: ${what}${why}; this card does not boot as it is, take another`,
    { cause: error },
  );
}

/** Rejects with one sentence. */
export async function writeCard(writing: Writing): Promise<void> {
  const { image, card, isDevice, progress } = writing;
  const source = await open(image, 'r');
  const openTarget = writing.open ?? (() => openCard(card, isDevice));
  const target = await openTarget().catch((error: unknown) =>
    fail(
      card,
      codeOf(error) === 'EBUSY' ? 'it is in use (mounted?)' : 'it cannot be opened',
      error,
    ),
  );
  try {
    const { size } = await source.stat();
    const hashes: string[] = [];
    const [marks, seed] = [marksOf(writing.cardBytes, size), randomBytes(16)];
    const buffer = aligned(BLOCK);
    const put = async (offset: number, length: number): Promise<void> => {
      for (let done = 0; done < length; ) {
        const { bytesWritten } = await target.write(buffer, done, length - done, offset + done);
        if (bytesWritten === 0) throw new Error(`it takes nothing more at ${offset + done}`);
        done += bytesWritten;
      }
    };
    const load = async (offset: number): Promise<number> => {
      const { bytesRead } = await source.read(buffer, 0, BLOCK, offset);
      const length = padded(bytesRead);
      buffer.fill(0, bytesRead, length);
      return length;
    };
    try {
      await putMarks(target, marks, seed);
      buffer.fill(0);
      await put(0, Math.min(BLOCK, padded(size)));
      for (let offset = 0; offset < size; offset += BLOCK) {
        const length = await load(offset);
        hashes.push(digest(buffer.subarray(0, length)));
        if (offset > 0) await put(offset, length);
        progress('write', Math.min(size, offset + BLOCK));
      }
      await target.sync();
    } catch (error) {
      fail(card, 'it could not be written (pulled out, or worn?)', error);
    }
    await verify(writing, target, size, hashes);
    await checkMarks(writing, target, marks, seed);
    // Only a card that has everything else gets its beginning.
    try {
      const length = await load(0);
      await put(0, length);
      await target.sync();
      if (digest(await back(target, 0, length)) !== hashes[0])
        throw new Error('it reads back otherwise');
    } catch (error) {
      fail(card, 'its first block could not be written', error);
    }
  } finally {
    await source.close();
    await target.close().catch(() => undefined); // A card that was pulled out cannot be closed.
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
  target: Medium,
  size: number,
  hashes: readonly string[],
): Promise<void> {
  for (let index = 1; index < hashes.length; index++) {
    const offset = index * BLOCK;
    const length = padded(Math.min(BLOCK, size - offset));
    try {
      let same = digest(await back(target, offset, length)) === hashes[index];
      // Readers have been seen to err once; a card that does so twice is none.
      if (!same) same = digest(await back(target, offset, length)) === hashes[index];
      if (!same) throw new Error(`other bytes come back than were written, at ${offset}`);
    } catch (error) {
      fail(card, 'it does not hold what was written', error);
    }
    progress('verify', Math.min(size, offset + BLOCK));
  }
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
