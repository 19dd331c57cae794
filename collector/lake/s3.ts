/**
 * The lake on S3 or what speaks like it. The only file that imports its client.
 *
 * A PUT is atomic and durable once S3 has answered it, which is what the contract wants; nothing is renamed. What a proxy
 * answers in its place is known by what it lacks: an ETag, a list's own words. Credentials come
 * from where AWS's tools look for them (environment, profile, role); the endpoint of another server by `lake.s3Endpoint`.
 */
import { readFile } from 'node:fs/promises';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { distrust } from '../../shared/net/distrust.ts';
import type { ObjectInfo, ObjectStore } from './object-store.ts';

export interface S3Options {
  bucket: string;
  /** Before every key; '' or ending with `/`. */
  prefix: string;
  /** '' for AWS's own. */
  endpoint: string;
  region: string;
}

const TIMEOUT_MS = 60_000;
const CONNECT_MS = 5000;
const NO_ANSWER = 'that is no answer of S3: look at lake.s3Endpoint, and at proxies in between';

/** S3's are strong, RFC 9110, 8.8.1; a web page's may be weak, and most have none. */
function checkTag(tag: string | undefined): void {
  if (tag === undefined || tag === '' || tag.startsWith('W/')) throw new Error(NO_ANSWER);
}

interface RawAnswer {
  statusCode: number;
  headers: Record<string, string | undefined>;
}

interface Trouble {
  name?: string;
  $metadata?: { httpStatusCode?: number };
  /** Of an answer that could not be read. */
  $response?: { statusCode?: number };
}

export class S3Objects implements ObjectStore {
  readonly kind = 's3';
  readonly address: string;
  private readonly options: S3Options;
  private readonly client: S3Client;

  constructor(options: S3Options) {
    const { bucket, prefix, endpoint, region } = options;
    this.options = options;
    this.address = `s3://${bucket}/${prefix}`;
    this.client = new S3Client({
      region,
      // The loops above try again for as long as it takes, and say so.
      maxAttempts: 2,
      requestHandler: { requestTimeout: TIMEOUT_MS, connectionTimeout: CONNECT_MS },
      // A server that is not AWS may not know virtual hosts.
      ...(endpoint === '' ? {} : { endpoint, forcePathStyle: true }),
    });
    // Before its body is taken for S3's: that of a page may be read as a list of nothing.
    this.client.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        const { statusCode, headers } = result.response as RawAnswer;
        if (/html/i.test(headers['content-type'] ?? ''))
          throw new Error(`HTTP ${statusCode} and a web page: ${NO_ANSWER}`);
        return result;
      },
      { step: 'deserialize', name: 'noWebPage', priority: 'low' },
    );
  }

  private async call<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const { name = '', $metadata, $response } = error as Trouble;
      const status = $metadata?.httpStatusCode ?? 0;
      const where = `the lake at ${this.address}: ${doing}`;
      const isRead = ($response?.statusCode ?? 500) >= 300;
      const why = isRead ? (distrust(error) ?? messageOf(error)) : NO_ANSWER;
      if (name === 'NoSuchKey' || (name === 'NotFound' && doing !== 'opening'))
        throw new HeadwaterError('NOT_FOUND', `${where}: it is not there`, { cause: error });
      if (name === 'NoSuchBucket' || (name === 'NotFound' && doing === 'opening'))
        throw new HeadwaterError(
          'LAKE_UNAVAILABLE',
          `${where}: there is no bucket '${this.options.bucket}'; create it, and it goes on by itself`,
          { cause: error },
        );
      const isRefused = status === 403 || status === 401 || name === 'CredentialsProviderError';
      throw new HeadwaterError(
        'LAKE_UNAVAILABLE',
        isRefused
          ? `${where}: access is refused (${why === '' ? name : why}); look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy`
          : `${where}: ${why === '' ? name : why}`,
        { cause: error },
      );
    }
  }

  private key(key: string): string {
    return `${this.options.prefix}${key}`;
  }

  async open(): Promise<void> {
    const { bucket } = this.options;
    await this.call('opening', () => this.client.send(new HeadBucketCommand({ Bucket: bucket })));
  }

  async put(key: string, file: string): Promise<void> {
    const Body = await readFile(file);
    const { bucket: Bucket } = this.options;
    await this.call(`writing ${key}`, async () => {
      const put = new PutObjectCommand({ Bucket, Key: this.key(key), Body });
      checkTag((await this.client.send(put)).ETag);
    });
  }

  async get(key: string): Promise<Buffer> {
    const { bucket: Bucket } = this.options;
    return await this.call(`reading ${key}`, async () => {
      const get = new GetObjectCommand({ Bucket, Key: this.key(key) });
      const { Body, ETag } = await this.client.send(get);
      checkTag(ETag);
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    });
  }

  async list(prefix: string): Promise<ObjectInfo[]> {
    const { bucket: Bucket } = this.options;
    const found: ObjectInfo[] = [];
    let token: string | undefined;
    do {
      const ask = new ListObjectsV2Command({
        Bucket,
        Prefix: this.key(prefix),
        ...(token === undefined ? {} : { ContinuationToken: token }),
      });
      const page = await this.call(`listing ${prefix}`, async () => {
        const answer = await this.client.send(ask);
        // An empty list names its bucket, and says that it is whole.
        if ((answer.Name ?? answer.IsTruncated ?? answer.KeyCount) === undefined)
          throw new Error(NO_ANSWER);
        return answer;
      });
      for (const { Key = '', Size = 0, ETag = '' } of page.Contents ?? [])
        found.push({ key: Key.slice(this.options.prefix.length), bytes: Size, version: ETag });
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async remove(key: string): Promise<void> {
    const { bucket: Bucket } = this.options;
    await this.call(`removing ${key}`, async () => {
      const remove = new DeleteObjectCommand({ Bucket, Key: this.key(key) });
      const { httpStatusCode, requestId } = (await this.client.send(remove)).$metadata;
      if (httpStatusCode !== 204 && requestId === undefined) throw new Error(NO_ANSWER);
    });
  }

  path(): undefined {
    return undefined;
  }

  close(): Promise<void> {
    this.client.destroy();
    return Promise.resolve();
  }
}
