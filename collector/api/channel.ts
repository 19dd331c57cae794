/** From whoever makes values in a callback to whoever takes them in a loop: one at a time, so that nothing piles up. */
export class Channel<T> implements AsyncIterable<T> {
  private value: { of: T } | undefined;
  private ended: { error: unknown } | undefined;
  private isClosed = false;
  private wakeTaker: () => void = () => undefined;
  private wakeMaker: () => void = () => undefined;

  /** Resolves when it was taken. Throws when nobody takes any more. */
  async put(value: T): Promise<void> {
    if (this.isClosed) throw new Error('nobody reads any more');
    this.value = { of: value };
    this.wakeTaker();
    while (this.value !== undefined && !this.isClosed)
      await new Promise<void>((resolve) => (this.wakeMaker = resolve));
    if (this.isClosed) throw new Error('nobody reads any more');
  }

  /** Nothing more comes; an error is thrown where values are taken. */
  end(error: unknown): void {
    this.ended = { error };
    this.wakeTaker();
  }

  /** Nothing more is taken. */
  close(): void {
    this.isClosed = true;
    this.wakeMaker();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const { value, ended } = this;
      if (value !== undefined) {
        this.value = undefined;
        this.wakeMaker();
        yield value.of;
      } else if (ended !== undefined) {
        if (ended.error !== undefined) throw ended.error;
        return;
      } else await new Promise<void>((resolve) => (this.wakeTaker = resolve));
    }
  }
}

/** What `make` puts, as a loop takes it. Who leaves the loop waits until `make` has ended. */
export async function* through<T>(make: (channel: Channel<T>) => Promise<void>): AsyncGenerator<T> {
  const channel = new Channel<T>();
  const work = make(channel).then(
    () => channel.end(undefined),
    (error: unknown) => channel.end(error),
  );
  try {
    yield* channel;
  } finally {
    channel.close();
    await work;
  }
}
