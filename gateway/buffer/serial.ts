/** Runs work one after another. What fails is told, and the next has its turn all the same. */
export class Serial {
  private last: Promise<void> = Promise.resolve();
  private readonly onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.onError = onError;
  }

  run(work: () => Promise<void>): Promise<void> {
    this.last = this.last.then(work).catch(this.onError);
    return this.last;
  }
}
