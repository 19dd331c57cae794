/** Kafka's protocol as bytes: numbers, texts and lists, as plain and as flexible versions of requests write them (KIP-482). */
export class Writer {
  private readonly parts: Buffer[] = [];
  int(size: 1 | 2 | 4, value: number): this {
    const bytes = Buffer.alloc(size);
    bytes.writeIntBE(value, 0, size);
    this.parts.push(bytes);
    return this;
  }
  text(value: string): this {
    const bytes = Buffer.from(value);
    this.int(2, bytes.length).parts.push(bytes);
    return this;
  }
  bytes(value: Buffer): this {
    this.int(4, value.length).parts.push(value);
    return this;
  }
  done(): Buffer {
    return Buffer.concat(this.parts);
  }

  // ---- in the flexible versions of requests (KIP-482) ----

  fill(zeros: number): this {
    this.parts.push(Buffer.alloc(zeros));
    return this;
  }
  private length(value: number): this {
    for (let rest = value; ; rest >>>= 7) {
      this.parts.push(Buffer.from([rest > 127 ? (rest & 127) | 128 : rest]));
      if (rest <= 127) return this;
    }
  }
  word(value: string): this {
    const bytes = Buffer.from(value);
    this.length(bytes.length + 1).parts.push(bytes);
    return this;
  }
  many<T>(list: readonly T[], one: (item: T) => void): this {
    this.length(list.length + 1);
    for (const item of list) one(item);
    return this;
  }
  /** No tagged fields. */
  end(): this {
    return this.length(0);
  }
}

export class Reader {
  private at = 0;
  private readonly from: Buffer;
  constructor(from: Buffer) {
    this.from = from;
  }
  int(size: 1 | 2 | 4): number {
    this.at += size;
    return this.from.readIntBE(this.at - size, size);
  }
  text(): string {
    const length = this.int(2);
    if (length < 0) return '';
    this.at += length;
    return this.from.toString('utf8', this.at - length, this.at);
  }
  bytes(): Buffer {
    const length = Math.max(0, this.int(4));
    this.at += length;
    return this.from.subarray(this.at - length, this.at);
  }
  list<T>(one: () => T): T[] {
    return Array.from({ length: Math.max(0, this.int(4)) }, one);
  }
  take(length: number): Buffer {
    this.at += length;
    return this.from.subarray(this.at - length, this.at);
  }
  private length(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.take(1)[0] ?? 0;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  }
  word(): string {
    return this.take(Math.max(0, this.length() - 1)).toString('utf8');
  }
  many<T>(one: () => T): T[] {
    return Array.from({ length: Math.max(0, this.length() - 1) }, one);
  }
  tags(): void {
    for (let left = this.length(); left > 0; left--) {
      this.length();
      this.take(this.length());
    }
  }
}
