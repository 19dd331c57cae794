/**
 * Pictures as WebP, packed by a browser. Of an animated one the container alone is made here (RIFF, VP8X, ANIM, ANMF), as
 * https://developers.google.com/speed/webp/docs/riff_container has it. Each frame is a patch over what was there before.
 */
import type { Page } from 'playwright-core';

export interface Frame {
  /** A still WebP, as `canvas.toBlob` gives it. */
  still: Buffer;
  /** Even. */
  x: number;
  y: number;
  width: number;
  height: number;
  ms: number;
}

const ANIMATION = 0x02;
/** A patch covers what was below it. */
const NO_BLEND = 0x02;
const PICTURE = new Set(['VP8 ', 'VP8L', 'ALPH']);

function chunk(name: string, body: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.write(name, 'latin1');
  head.writeUInt32LE(body.length, 4);
  return Buffer.concat([head, body, Buffer.alloc(body.length % 2)]);
}

const uint24 = (value: number): Buffer =>
  Buffer.from([value & 255, (value >> 8) & 255, (value >> 16) & 255]);

/** The chunks of a still that are its picture. */
function pictureOf(still: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 12; at + 8 <= still.length; ) {
    const length = still.readUInt32LE(at + 4);
    const end = at + 8 + length + (length % 2);
    if (PICTURE.has(still.toString('latin1', at, at + 4))) parts.push(still.subarray(at, end));
    at = end;
  }
  return Buffer.concat(parts);
}

/** Plays again and again. */
export function animated(width: number, height: number, frames: readonly Frame[]): Buffer {
  const size = Buffer.concat([uint24(width - 1), uint24(height - 1)]);
  const body = Buffer.concat([
    Buffer.from('WEBP', 'latin1'),
    chunk('VP8X', Buffer.concat([Buffer.from([ANIMATION, 0, 0, 0]), size])),
    chunk('ANIM', Buffer.alloc(6)),
    ...frames.map(({ still, x, y, width: wide, height: high, ms }) =>
      chunk(
        'ANMF',
        Buffer.concat([
          ...[x / 2, y / 2, wide - 1, high - 1, Math.round(ms)].map(uint24),
          Buffer.from([NO_BLEND]),
          pictureOf(still),
        ]),
      ),
    ),
  ]);
  return chunk('RIFF', body);
}

/** A screenshot, smaller, as WebP, in the quality that is just small enough; `page` is one that draws it. */
export async function packed(
  page: Page,
  png: Buffer,
  width: number,
  bytesMax: number,
): Promise<Buffer> {
  const text = (await page.evaluate(`(async () => {
    const bytes = Uint8Array.from(atob('${png.toString('base64')}'), (each) => each.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    const height = Math.round((image.height * ${width}) / image.width);
    const canvas = new OffscreenCanvas(${width}, height);
    const context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, 0, 0, ${width}, height);
    for (let quality = 0.8; ; quality -= 0.1) {
      const blob = await canvas.convertToBlob({ type: 'image/webp', quality });
      if (blob.size > ${bytesMax} && quality > 0.25) continue;
      let binary = '';
      for (const each of new Uint8Array(await blob.arrayBuffer())) binary += String.fromCharCode(each);
      return btoa(binary);
    }
  })()`)) as string;
  return Buffer.from(text, 'base64');
}
