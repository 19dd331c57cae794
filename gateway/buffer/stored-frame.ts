/** A frame in the buffer: where it lies, and what is kept of it while it is on its way. */
import { readHeader } from '../../shared/frame/frame.ts';

/** A stored frame and its place in the order of commits. */
export interface StoredFrame {
  /** Opaque; compares in commit order. */
  position: Buffer;
  /** The position right behind it, where a reader goes on. */
  end: Buffer;
  frame: Buffer;
}

/** What the reader keeps of a frame until it may be released. */
export interface FrameRef {
  position: Buffer;
  /** Bytes of the frame and messages in it. */
  bytes: number;
  count: number;
}

export const refOf = ({ position, frame }: StoredFrame): FrameRef => ({
  position,
  bytes: frame.length,
  count: readHeader(frame).count,
});
